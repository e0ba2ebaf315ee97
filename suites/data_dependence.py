"""Does the time depend on what the numbers are? The same shapes on other families of inputs.

Zeros draw less power and may be skipped, denormals are slow, a branch may follow the data. Each
case times `normal` inputs, the family, and `normal` again, so that drift in one direction cancels.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from fwpbench.harness.agreement import ill_conditioned
from fwpbench.harness.comparison import Change, changes
from fwpbench.harness.profiles import Profile
from fwpbench.harness.records import Measurement
from fwpbench.harness.suite import Answer, Case, Setting
from fwpbench.harness.timing import time_call
from fwpbench.implementations.base import Implementation
from fwpbench.operators import INPUT_FAMILIES
from fwpbench.operators.registry import Unloadable
from fwpbench.suites.timed import Rechecked, places_for, timed, truths_of, wrong

#: Of those that people have: zeros, many zeros, gates that forget all or nothing.
FAMILIES = ("zero-keys", "one-hot", "saturated-gates")
NORMAL, TAG = "normal", "data-dependent"
#: A smaller difference is not told: timings of one code differ by some per cent on many machines.
MARGIN = 0.05


def with_families(profile: Profile, cases: Sequence[Case]) -> list[Case]:
    """The shortest forward case of each operator, on each of the families; none in quick."""
    if profile.name == "quick":
        return []
    shortest: dict[str, Case] = {}
    for case in cases:
        best = shortest.get(case.name)
        if not case.problem.backward and (best is None or case.problem.T < best.problem.T):
            shortest[case.name] = case
    found = []
    for case in shortest.values():
        for name in FAMILIES:
            with suppress(Unloadable):
                if INPUT_FAMILIES[name].applies(case.problem.operator.update_rule.gates):
                    found.append(replace(case, problem=case.problem.replace(inputs=name)))
    return found


def timed_beside_normal(case: Case, implementation: Implementation, setting: Setting) -> Answer:
    """The family's time, tagged where that of normal inputs is another."""
    problem = case.problem
    if (refusal := wrong(problem, implementation, setting)) is not None:
        return refusal
    if (reason := ill_conditioned(truths_of(problem, setting.seed)[0])) is not None:
        return Answer("unsupported", reason)
    device, profile, beside = setting.device, setting.profile, problem.replace(inputs=NORMAL)
    places = places_for(beside, device, setting.seed)
    calls = Rechecked(beside, implementation, setting, places)

    def normal() -> list[float]:
        return time_call(calls.call, device, profile, calls.before, calls.after).samples

    before = normal()
    answer = timed(problem, implementation, setting)
    if answer.status not in ("ok", "unstable"):
        return answer
    before += normal()
    if (complaint := calls.complaint()) is not None:
        return Answer(*complaint)
    return compared(answer, before)


def compared(answer: Answer, normal: Sequence[float]) -> Answer:
    """The same answer with its ratio to the times on normal inputs, tagged where that is told."""
    change = dependence(normal, list(answer.samples["time"]))
    ratio = Measurement(value=change.ratio, unit="1", low=change.low, high=change.high)
    return replace(
        answer,
        metrics={**answer.metrics, "ratio to normal": ratio},
        samples={**answer.samples, "normal": list(normal)},
        tags=[*answer.tags, *([TAG] if change.verdict in ("faster", "slower") else [])],
    )


def dependence(normal: Sequence[float], family: Sequence[float]) -> Change:
    return changes({"": (normal, family)}, MARGIN)[""]
