"""How long does a call take, forward and with gradients?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fwpbench.harness.profiles import Profile
from fwpbench.harness.suite import Answer, Case, Metric, Setting, Suite
from fwpbench.implementations.base import Implementation
from fwpbench.suites.data_dependence import NORMAL, timed_beside_normal, with_families
from fwpbench.suites.named_operators import named_cases
from fwpbench.suites.timed import METRICS, timed

LENGTHS = {"quick": (256, 1024), "standard": (256, 2048), "full": (256, 2048, 16384)}
#: Those that store float32: fp32 and tf32 differ in nothing but their products.
DTYPES = {"quick": ("fp32",), "standard": ("fp32", "tf32"), "full": ("fp32", "tf32")}
ENERGY = {
    "energy": Metric("J", "lower", "of one warm call, what an idle device takes subtracted"),
    "energy raw": Metric("J", "lower", "of one warm call, as the counter of the device has it"),
}
BESIDE = Metric("1", "lower", "time on this family of inputs ÷ that on normal ones")
SIZES = {"B": 1, "H": 4, "K": 64, "V": 64}


def cases(profile: Profile) -> Sequence[Case]:
    """Each in the default domain and in those asked for besides (`--domains`); other families of
    inputs in the default one."""
    forms = [
        {**SIZES, "dtype": dtype, "direction": direction}
        for dtype in DTYPES[profile.name]
        for direction in ("forward", "forward+backward")
    ]
    named = named_cases(profile, LENGTHS[profile.name], *forms)
    besides = [{"domain": domain, "cache": cache} for domain, cache in profile.domains]
    return [
        *(replace(case, parameters=each) for case in named for each in [{}, *besides]),
        *with_families(profile, named),
    ]


def answer(case: Case, implementation: Implementation, setting: Setting) -> Answer:
    problem, asked = case.problem, dict[str, Any](case.parameters)
    if problem.inputs != NORMAL:
        return timed_beside_normal(case, implementation, setting)
    return timed(problem, implementation, setting, **asked, energy=not asked)


SUITE = Suite(
    question="How fast is it?",
    cases=cases,
    answer=answer,
    metrics={**METRICS, **ENERGY, "ratio to normal": BESIDE},
)
