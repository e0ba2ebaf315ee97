"""How long does a call take, forward and with gradients?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fwpbench.harness.profiles import Profile
from fwpbench.harness.suite import Answer, Case, Setting, Suite
from fwpbench.implementations.base import Implementation
from fwpbench.suites.named_operators import named_cases
from fwpbench.suites.timed import METRICS, timed

LENGTHS = {"quick": (256, 1024), "standard": (256, 2048), "full": (256, 2048, 16384)}
SIZES = {"B": 1, "H": 4, "K": 64, "V": 64}


def cases(profile: Profile) -> Sequence[Case]:
    """Each in the default domain, and then in those asked for besides (`--domains`)."""
    default = named_cases(
        profile,
        LENGTHS[profile.name],
        {**SIZES, "direction": "forward"},
        {**SIZES, "direction": "forward+backward"},
    )
    besides = [{"domain": domain, "cache": cache} for domain, cache in profile.domains]
    return [
        replace(case, parameters=parameters) for case in default for parameters in [{}, *besides]
    ]


def answer(case: Case, implementation: Implementation, setting: Setting) -> Answer:
    return timed(case.problem, implementation, setting, **case.parameters)  # type: ignore[arg-type]


SUITE = Suite(question="How fast is it?", cases=cases, answer=answer, metrics=METRICS)
