"""The gate: agreement with float64, and the laws that need no reference. Everybody's, ours too."""

from __future__ import annotations

from dataclasses import replace

from fwpbench.harness.agreement import Agreement, check
from fwpbench.harness.golden import Run, Truth
from fwpbench.harness.laws import LAWS, Cannot, Laws, applicable, find_broken
from fwpbench.implementations.base import Implementation
from fwpbench.operators.problem import Problem


def runs(implementation: Implementation, problem: Problem, device: str) -> dict[str, Run]:
    """What is to be judged, by the name of its plan: first `run`, by the plan that it takes itself,
    then the plans that it takes at other sizes. One nameless entry where it has no plans."""
    plans = implementation.plans(problem, device)
    return {**plans, next(iter(plans), ""): implementation.run}


def judge(
    run: Run,
    problem: Problem,
    truth: Truth,
    device: str = "cpu",
    cannot: Cannot = lambda problem: None,
) -> tuple[Agreement, Laws | None]:
    """Judge `run` on one case; the laws are None where they are not asked.

    They are asked forward, on `realistic` inputs, with a state in and out, once an operator and
    dtype: a law that breaks there only is a failure like any other. Where agreement has shown the
    form of the results or the inputs to be wrong, no law is asked.
    """
    if problem.inputs == "realistic" and problem.state == "in+out":
        return judge_with_laws(run, problem, truth, device, cannot)
    return check(run, problem, truth, device), None


def judge_with_laws(
    run: Run,
    problem: Problem,
    truth: Truth,
    device: str = "cpu",
    cannot: Cannot = lambda problem: None,
) -> tuple[Agreement, Laws | None]:
    """Agreement, and every law that this very problem allows to ask."""
    agreement = check(run, problem, truth, device)
    if not applicable(problem) or not agreement.comparisons:
        return agreement, None
    laws = find_broken(run, problem, truth, device, cannot, agreed=agreement.status == "ok")
    return _lawful(agreement, laws), laws


def judge_whole(run: Run, problem: Problem, truth: Truth, device: str = "cpu") -> Agreement:
    """Agreement as the problem asks for it, and the laws of the same call without gradients.

    `run` may know this one operator: no other is asked for.
    """

    def cannot(other: Problem) -> str | None:
        return None if other.operator == problem.operator else "one operator was given"

    agreement = check(run, problem, truth, device)
    forward = problem.replace(direction="forward") if problem.backward else problem
    if not applicable(forward) or not agreement.comparisons:
        return agreement
    ok = agreement.status == "ok"
    return _lawful(agreement, find_broken(run, forward, truth, device, cannot, ok))


def _lawful(agreement: Agreement, laws: Laws) -> Agreement:
    if agreement.status != "ok" or not laws.broken:
        return agreement
    sentences = "; ".join(f"{LAWS[name]} ({name})" for name in laws.broken)
    return replace(agreement, status="incorrect", reason=f"does not hold: {sentences}")
