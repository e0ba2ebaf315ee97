"""Is every implementation right, for every operator, in every direction, on every kind of input?"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from fwpbench.harness.gate import judge, runs
from fwpbench.harness.golden import Truths
from fwpbench.harness.profiles import Profile
from fwpbench.harness.records import Measurement
from fwpbench.harness.suite import Answer, Case, Metric, Setting, Suite
from fwpbench.harness.suspects import explained, located
from fwpbench.implementations.base import Implementation
from fwpbench.operators import INPUT_FAMILIES
from fwpbench.operators.input_families import InputFamily
from fwpbench.operators.operator import enumerate_operators
from fwpbench.operators.problem import Problem
from fwpbench.operators.registry import Unloadable
from fwpbench.suites.named_operators import NAMED_OPERATORS

#: Odd, and past the border of a chunk of 64; `full` goes around that border.
LENGTHS = {"quick": (67,), "standard": (131,), "full": (1, 63, 64, 65, 131, 509)}
DTYPES = {"quick": ("fp32",), "standard": ("fp32", "tf32", "bf16", "fp16")}
FAMILIES_OF = {"quick": ("normal", "realistic")}

truths = Truths()


def cases(profile: Profile) -> Sequence[Case]:
    """Gradients first: what was found for them serves the forward case that follows."""
    names = {operator: name for name, operator in NAMED_OPERATORS.items()}
    families = _families(profile)
    return [
        Case(
            Problem.of(
                operator,
                B=1,
                T=T,
                H=2,
                K=16,
                V=12,
                dtype=dtype,
                direction=direction,
                state="in+out",
                inputs=inputs,
            ),
            name=names.get(operator, ""),
        )
        for operator in enumerate_operators()[0]
        for dtype in DTYPES.get(profile.name, DTYPES["standard"])
        for inputs, family in families.items()
        if family.applies(operator.update_rule.gates)
        for T in LENGTHS[profile.name]
        for direction in ("forward+backward", "forward", "decode")
    ]


def _families(profile: Profile) -> dict[str, InputFamily]:
    """Those of the profile, by default all; one that cannot be loaded has no problems to ask."""
    families = {}
    for name in FAMILIES_OF.get(profile.name, tuple(INPUT_FAMILIES)):
        with suppress(Unloadable):
            families[name] = INPUT_FAMILIES[name]
    return families


def answer(case: Case, implementation: Implementation, setting: Setting) -> Answer:
    return _answered(case, implementation, setting, named=True)


def answer_with_place(case: Case, implementation: Implementation, setting: Setting) -> Answer:
    """Without the name of the bug: for who asks many problems and names it from all of them."""
    return _answered(case, implementation, setting, named=False)


def _answered(
    case: Case, implementation: Implementation, setting: Setting, *, named: bool
) -> Answer:
    truth = truths(case.problem, setting.seed)
    kind = setting.device.kind

    def cannot(problem: Problem) -> str | None:
        return implementation.refuses(problem, kind)

    judged = {
        plan: judge(run, case.problem, truth, kind, cannot)
        for plan, run in runs(implementation, case.problem, kind).items()
    }
    # One plan that is wrong is the case's result: at some size it is what a user gets.
    plan = next((name for name, (found, _) in judged.items() if found.status != "ok"), "")
    agreement, laws = judged[plan] if plan else next(iter(judged.values()))
    if named:
        agreement = explained(agreement, laws, case.problem, truth)
    else:
        agreement = located(agreement, laws, case.problem)
    metrics = {}
    ratios = {name: found.worst_ratio for name, (found, _) in judged.items()}
    if (worst := max((r for r in ratios.values() if r is not None), default=None)) is not None:
        metrics["error ratio"] = Measurement(value=worst, unit="1")
    discriminates = agreement.evidence or agreement.status != "ok"
    return Answer(
        agreement.status,
        f"by the plan {plan}: {agreement.reason}" if plan else agreement.reason,
        metrics,
        tags=() if discriminates else ("non-discriminating",),
        detail={"tensors": agreement.as_json()}
        | ({} if laws is None else {"laws": laws.as_json()})
        | ({"plans": ratios} if len(ratios) > 1 else {}),
    )


SUITE = Suite(
    question="Is it right: outputs, final state and every gradient, against float64?",
    cases=cases,
    answer=answer,
    side_by_side=True,
    metrics={"error ratio": Metric("1", "lower", "worst error over all tensors ÷ what is allowed")},
)
