"""How does the time grow with the number of tokens?"""

from __future__ import annotations

from collections.abc import Sequence

from fwpbench.harness.profiles import Profile
from fwpbench.harness.suite import Answer, Case, Setting, Suite
from fwpbench.implementations.base import Implementation
from fwpbench.suites.named_operators import named_cases
from fwpbench.suites.timed import METRICS, timed

LENGTHS = {
    "quick": (64, 256, 1024, 4096),
    "standard": (64, 128, 256, 512, 1024, 2048, 4096, 8192),
    "full": tuple(2**n for n in range(6, 17)),
}


def cases(profile: Profile) -> Sequence[Case]:
    form = {"B": 1, "H": 2, "K": 64, "V": 64, "direction": "forward"}
    return named_cases(profile, LENGTHS[profile.name], form)


def answer(case: Case, implementation: Implementation, setting: Setting) -> Answer:
    return timed(case.problem, implementation, setting)


SUITE = Suite(
    question="How does its time grow with the sequence?",
    cases=cases,
    answer=answer,
    metrics=METRICS,
)
