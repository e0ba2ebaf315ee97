"""How long does a call take, forward and with gradients?"""

from __future__ import annotations

from collections.abc import Sequence

from fwpbench.harness.profiles import Profile
from fwpbench.harness.suite import Answer, Case, Metric, Setting, Suite
from fwpbench.implementations.base import Implementation
from fwpbench.suites.named_operators import named_cases
from fwpbench.suites.timed import timed

LENGTHS = {"quick": (256, 1024), "standard": (256, 2048), "full": (256, 2048, 16384)}
TIME = Metric("s", "lower", "median time of one call with a cold cache")
JOULES = Metric("J", "lower", "of one warm call, what an idle device takes subtracted")
RAW = Metric("J", "lower", "of one warm call, as the counter of the device has it")
SIZES = {"B": 1, "H": 4, "K": 64, "V": 64}


def cases(profile: Profile) -> Sequence[Case]:
    return named_cases(
        profile,
        LENGTHS[profile.name],
        {**SIZES, "direction": "forward"},
        {**SIZES, "direction": "forward+backward"},
    )


def answer(case: Case, implementation: Implementation, setting: Setting) -> Answer:
    return timed(case.problem, implementation, setting, energy=True)


SUITE = Suite(
    question="How fast is it?",
    cases=cases,
    answer=answer,
    metrics={"time": TIME, "energy": JOULES, "energy raw": RAW},
)
