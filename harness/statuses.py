"""What can come of one case on one implementation: five groups, and the detail beneath each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Group = Literal["ok", "wrong", "cannot", "crashed", "untrusted", "skipped"]


@dataclass(frozen=True)
class Status:
    """`fails_the_run`: a run with such a record exits 1."""

    group: Group
    meaning: str
    fails_the_run: bool = False


#: What the budget of a run left, to be run when it is resumed.
SKIPPED = "skipped"

STATUSES: dict[str, Status] = {
    "ok": Status("ok", "ran, and what it returned is right"),
    "incorrect": Status("wrong", "a returned tensor is further from the golden than allowed", True),
    "not-finite": Status("wrong", "NaN or infinity where the golden is finite", True),
    "input-modified": Status("wrong", "an input was changed by the call", True),
    "process-modified": Status("wrong", "a setting or function of all was changed by it", True),
    "wrong-kernel": Status("wrong", "another kernel ran than the one declared", True),
    "unsupported": Status("cannot", "this implementation does not do this problem, or none can"),
    "missing": Status("cannot", "something this implementation needs is not on this machine"),
    "compile-error": Status("crashed", "a kernel did not compile", True),
    "runtime-error": Status("crashed", "the call raised an exception", True),
    "illegal-access": Status("crashed", "the call read or wrote memory that is not its own", True),
    "out-of-memory": Status("crashed", "the call asked for more memory than there is", True),
    "timeout": Status("crashed", "the call took longer than its limit", True),
    "diverged": Status("crashed", "training left the finite numbers: a finding, not an error"),
    "unstable": Status("untrusted", "the time did not settle within ± 10 %"),
    "impossible": Status("untrusted", "faster than the measured roofline allows"),
    "throttled": Status("untrusted", "the clock dropped while it was timed"),
    "remembered": Status("untrusted", "inputs seen before are answered faster: not computed"),
    SKIPPED: Status("skipped", "not run to its end: the budget of the run was used up"),
}

#: Tags of records that are `ok` and no evidence: shown, never ranked.
UNRANKED = frozenset({"non-discriminating", "compiled-while-timed"})


def group_of(status: str) -> Group:
    return STATUSES[status].group
