"""What the timed suites share: the call, its gate, and the record of its time."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch

from fwpbench.harness.agreement import check
from fwpbench.harness.golden import Truths, make_cotangents
from fwpbench.harness.records import Measurement
from fwpbench.harness.suite import Answer, Setting
from fwpbench.harness.timing import time_call
from fwpbench.implementations.base import Implementation
from fwpbench.operators.inputs import make_inputs
from fwpbench.operators.problem import Problem

#: The gate judges at this length: two chunks of 64 and a bit, whatever length is timed.
GATE_TOKENS = 131

truths = Truths()


def wrong(problem: Problem, implementation: Implementation, setting: Setting) -> Answer | None:
    """Why this must not be timed, or None. Judged once an operator, dtype, size and direction."""
    gate = problem.replace(
        B=1, H=min(problem.H, 2), T=min(problem.T, GATE_TOKENS), inputs="realistic"
    )
    return _gated(gate, implementation, setting.device.kind, setting.seed)


@cache
def _gated(
    problem: Problem, implementation: Implementation, device: str, seed: int
) -> Answer | None:
    agreement = check(implementation.run, problem, truths(problem, seed), device)
    if agreement.status == "ok":
        return None
    detail = {"gate": str(problem), "tensors": agreement.as_json()}
    return Answer(agreement.status, f"not timed: {agreement.reason}", detail=detail)


def make_call(
    problem: Problem, implementation: Implementation, setting: Setting
) -> Callable[[], object]:
    """One call as a user makes it; with gradients where the direction says so."""
    inputs = make_inputs(problem, seed=setting.seed, device=setting.device.kind)
    if not problem.backward:

        def forward() -> object:
            with torch.no_grad():
                return implementation.run(problem, inputs)

        return forward
    assert inputs.q is not None, "gradients are timed of problems that read"
    leaves = [inputs.q, inputs.k, inputs.v, *inputs.gates.values()]
    for leaf in leaves:
        leaf.requires_grad_()
    cotangent = make_cotangents(problem, setting.seed, setting.device.kind)["o"]

    def forward_and_backward() -> object:
        o = implementation.run(problem, inputs).o
        assert o is not None
        return torch.autograd.grad(o, leaves, cotangent)

    return forward_and_backward


def timed(problem: Problem, implementation: Implementation, setting: Setting) -> Answer:
    """The gate, then the time: a wrong result is never timed."""
    if (refusal := wrong(problem, implementation, setting)) is not None:
        return refusal
    timing = time_call(make_call(problem, implementation, setting), setting.device, setting.profile)
    time = Measurement(value=timing.median, unit="s", low=timing.low, high=timing.high)
    status, reason = "ok", ""
    if timing.unstable:
        status, reason = "unstable", "the 95 % interval of the median is wider than ± 10 %"
    return Answer(
        status,
        reason,
        {"time": time},
        {"time": timing.samples},
        timing.tags,
        {"stop_reason": timing.stop_reason, "domain": "device", "cache": "cold"},
    )
