"""Numbers out of scale: states too large for fp16, keys too long, a tolerance too wide."""

from __future__ import annotations

import torch

from fwpbench.harness.agreement import ill_conditioned
from fwpbench.harness.golden import Truth, truth_of
from fwpbench.harness.mutants.form import Form
from fwpbench.implementations.base import Output
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.problem import Problem
from fwpbench.operators.state import State
from fwpbench.suites.exhibits.exhibit import FLA, Credit, Exhibit, shows


class StateInFp16(Form):
    """The dtype of the keys, which were cast to fp16, whatever was asked for."""

    def carried(self, state: State) -> State:
        return state._replace(S=state.S.half().to(state.S.dtype))


def _unnormalized(problem: Problem, inputs: Inputs) -> Output:
    """The delta rule of the keys as they come."""
    return Form(16)(problem.replace(norm="none"), inputs)


def _refused_by_us(problem: Problem, truth: Truth) -> str | None:
    """The very problem that was timed, which asks for no normalisation: nobody can be judged."""
    reason = ill_conditioned(truth_of(problem.replace(norm="none"), truth.inputs, seed=0))
    return None if reason is None else f"with norm=none nothing is judged or timed: {reason}"


def _zeros(problem: Problem, inputs: Inputs) -> Output:
    return Output(torch.zeros_like(inputs.v), None)


#: Largest error that is only warned of, in the units of the tensor.
WARNED = 0.3


def _accepted(problem: Problem, truth: Truth) -> str | None:
    """The published criterion, asked of zeros."""
    error = float(truth.golden["o"].abs().max())
    return f"max |error| = {error:.2g} ≤ {WARNED}: passes there" if error <= WARNED else None


def _soft(inputs: Inputs) -> Inputs:
    """Values of a hundredth: nothing that is read reaches the tolerance."""
    return inputs._replace(v=inputs.v / 100)


def _loud(inputs: Inputs) -> Inputs:
    """Values are bounded by nothing."""
    return inputs._replace(v=2.0**16 * inputs.v)


EXHIBITS = {
    "state-in-fp16": Exhibit(
        wrong="Keys are cast to fp16 and the state takes their dtype; values are bounded by "
        "nothing, so it overflows.",
        credits=(
            Credit(
                "flash-linear-attention, issue 1187, on MesaNet (August 2026)", f"{FLA}/issues/1187"
            ),
            Credit("mended by pull request 1152", f"{FLA}/pull/1152"),
        ),
        fixed="by pull request 1152",
        problem=Problem.parse(
            "rule=decay phi=identity norm=l2 B=1 T=67 H=2 K=16 V=12 dtype=bf16 direction=forward "
            "state=out inputs=long-decay"
        ),
        given=_loud,
        published=StateInFp16(16),
        must=shows("not-finite", "o S"),
    ),
    "keys-not-normalised": Exhibit(
        wrong="The delta rule is timed on keys as they are drawn: it diverges, and what is timed "
        "is the arithmetic of infinities.",
        credits=(
            Credit(
                "flash-linear-attention 0.5.2, the benchmark of chunk_delta_rule",
                f"{FLA}/blob/v0.5.2/benchmarks/ops/registry.py#L310-L319",
            ),
        ),
        fixed="not in 0.5.2",
        problem=Problem.parse(
            "rule=delta phi=identity norm=l2 B=1 T=257 H=1 K=64 V=64 dtype=bf16 direction=forward"
        ),
        published=_unnormalized,
        beside=_refused_by_us,
        must=shows("not-finite", "o"),
    ),
    "zeros-within-tolerance": Exhibit(
        wrong="In CI an error below 0.3 only warns, whatever the size of the numbers: zeros pass.",
        credits=(
            Credit(
                "flash-linear-attention 0.5.2, assert_close",
                f"{FLA}/blob/v0.5.2/fla/utils/_testing.py#L28-L41",
            ),
            Credit(
                "where CI sets FLA_CI_ENV",
                f"{FLA}/blob/v0.5.2/.github/workflows/reusable-ci-tests.yml#L43-L44",
            ),
        ),
        fixed="not in 0.5.2",
        problem=Problem.parse(
            "rule=sum phi=identity norm=l2 B=1 T=67 H=2 K=16 V=12 dtype=fp32 direction=forward"
        ),
        given=_soft,
        published=_zeros,
        beside=_accepted,
        must=shows("incorrect", "o", "zeros"),
    ),
}
