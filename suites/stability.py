"""How do the fast weights and the normaliser grow with the tokens?

Schlag et al. 2021, section 4.2: the accumulator z of attention normalisation grows with every
token, and so does what must be divided by it, whereas sum-normalised keys give what the delta rule
writes and what it removes equal weights (appendix A.2). Reported are ‖S‖ (Frobenius) and the
largest entry of z, over tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from fwpbench.harness.profiles import Profile
from fwpbench.harness.records import Measurement
from fwpbench.harness.suite import Answer, Case, Metric, Setting, Suite
from fwpbench.implementations.base import Implementation
from fwpbench.operators.inputs import Inputs, make_inputs
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import Problem
from fwpbench.operators.state import State

#: With and without normalisation, rule by rule.
OPERATORS: dict[str, Operator] = {
    "sum, none": Operator("sum", "elu+1", "none"),
    "sum, attention": Operator("sum", "elu+1", "attention"),
    "sum, sum": Operator("sum", "elu+1", "sum"),
    "decay, none": Operator("decay", "elu+1", "none"),
    "gated, none": Operator("gated", "elu+1", "none"),
    "delta, none": Operator("delta", "elu+1", "none"),
    "delta, attention": Operator("delta", "elu+1", "attention"),
    "delta, sum": Operator("delta", "elu+1", "sum"),
    "delta, sum+attention": Operator("delta", "elu+1", "sum+attention"),
    "delta, l2": Operator("delta", "elu+1", "l2"),
    "gated-delta, l2": Operator("gated-delta", "elu+1", "l2"),
    "fwm, none": Operator("fwm", "elu+1", "none"),
}
LONGEST = {"quick": 2048, "standard": 16384, "full": 65536}


def cases(profile: Profile) -> Sequence[Case]:
    return [
        Case(
            Problem.of(
                operator,
                B=1,
                T=LONGEST[profile.name],
                H=1,
                K=32,
                V=32,
                dtype="fp32",
                direction="forward",
                state="out",
            ),
            name=name,
        )
        for name, operator in OPERATORS.items()
    ]


def answer(case: Case, implementation: Implementation, setting: Setting) -> Answer:
    """The state at every power of two: each stretch goes on from the state of the last."""
    problem = case.problem
    inputs = make_inputs(problem, seed=setting.seed, device=setting.device.kind)
    tokens, norms, normalizers = [], [], []
    state: State | None = None
    diverged = None
    begin, end = 0, 1
    while begin < problem.T and diverged is None:
        stretch = problem.replace(T=end - begin, state="out" if state is None else "in+out")
        with torch.no_grad():
            state = implementation.run(stretch, _cut(inputs, begin, end, state)).state
        assert state is not None
        norm = float(state.S.double().norm())
        if not math.isfinite(norm):
            diverged = end
        else:
            tokens.append(end)
            norms.append(norm)
            if state.z is not None:
                normalizers.append(float(state.z.abs().max()))
        begin, end = end, min(2 * end, problem.T)
    metrics = {}
    if norms:
        metrics["state norm"] = Measurement(value=norms[-1], unit="1")
    if normalizers:
        metrics["normaliser"] = Measurement(value=normalizers[-1], unit="1")
    if diverged is not None:
        metrics["diverged at"] = Measurement(value=diverged, unit="1")
    detail = {"tokens": tokens, "state norm": norms, "normaliser": normalizers}
    return Answer(metrics=metrics, detail=detail)


def _cut(inputs: Inputs, begin: int, end: int, state: State | None) -> Inputs:
    at = slice(begin, end)
    assert inputs.q is not None
    return inputs._replace(
        q=inputs.q[:, at],
        k=inputs.k[:, at],
        v=inputs.v[:, at],
        gates={name: gate[:, at] for name, gate in inputs.gates.items()},
        state=state,
    )


SUITE = Suite(
    question="Does what it stores stay in bounds as tokens go by?",
    cases=cases,
    answer=answer,
    side_by_side=True,
    metrics={
        "state norm": Metric("1", "lower", "‖S‖ after the last finite stretch of tokens"),
        "normaliser": Metric("1", "lower", "largest entry of z there"),
        "diverged at": Metric("1", "higher", "number of tokens by which ‖S‖ is not finite"),
    },
)
