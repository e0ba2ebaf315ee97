"""The gate: agreement with float64, and the laws that need no reference. Everybody's, ours too."""

from __future__ import annotations

from dataclasses import replace

from fwpbench.harness.agreement import Agreement, check
from fwpbench.harness.golden import Run, Truth
from fwpbench.harness.laws import LAWS, Cannot, Laws, applicable, find_broken
from fwpbench.operators.problem import Problem


def judge(
    run: Run,
    problem: Problem,
    truth: Truth,
    device: str = "cpu",
    cannot: Cannot = lambda problem: None,
) -> tuple[Agreement, Laws | None]:
    """Judge `run` on one case; the laws are None where they are not asked.

    They are asked forward, on `realistic` inputs, once an operator and dtype: a law that breaks
    there only is a failure like any other. Where agreement has shown the form of the results or
    the inputs to be wrong, no law is asked.
    """
    agreement = check(run, problem, truth, device)
    asked = problem.inputs == "realistic" and applicable(problem)
    if not asked or not agreement.comparisons:
        return agreement, None
    laws = find_broken(run, problem, truth, device, cannot, agreed=agreement.status == "ok")
    if agreement.status == "ok" and laws.broken:
        sentences = "; ".join(f"{LAWS[name]} ({name})" for name in laws.broken)
        agreement = replace(agreement, status="incorrect", reason=f"does not hold: {sentences}")
    return agreement, laws
