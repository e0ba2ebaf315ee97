"""How many pairs can be stored and read back? No training: the memory itself.

Schlag et al. 2021, section 4.1: keys live in D dimensions, so at most D of them are orthogonal, and
a sum of more pairs than that cannot be read without error. n pairs of random keys and values are
written one by one (β = 1, α = 1), then each key is asked for again:
    error = min over c of Σ ‖c · answer − v‖² / Σ ‖v‖²
0 is a perfect memory, 1 no better than answering zero. The one factor c a memory may have for all
its answers is no information: a projection that follows absorbs it, and operators without
normalisation would be judged by their scale.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fwpbench.harness.profiles import Profile
from fwpbench.harness.records import Measurement
from fwpbench.harness.suite import Answer, Case, Metric, Setting, Suite
from fwpbench.implementations.base import Implementation
from fwpbench.operators import law
from fwpbench.operators.features import features
from fwpbench.operators.inputs import make_inputs
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import Problem
from fwpbench.suites.named_operators import named_operators
from fwpbench.suites.timed import wrong

#: Pairs as fractions of D: below, at and above what can be orthogonal.
LOADS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0)
K = 32
#: Independent memories that are averaged over.
MEMORIES = 8


def cases(profile: Profile) -> Sequence[Case]:
    return [
        _case(name, operator, load)
        for name, operator in named_operators(profile).items()
        for load in LOADS
    ]


def _case(name: str, operator: Operator, load: float) -> Case:
    D = operator.feature_map.size(K)
    pairs, gates = max(1, round(load * D)), operator.update_rule.gates
    problem = Problem.of(
        operator,
        B=MEMORIES,
        T=pairs,
        H=1,
        K=K,
        V=K,
        dtype="fp32",
        direction="forward",
        state="out",
        # β = 1 writes a pair whole; under `gated` it would wipe out all the others.
        inputs="beta-1" if "beta" in gates and operator.rule != "gated" else "normal",
        reads=False,
    )
    return Case(problem, {"pairs": pairs, "load": load}, name)


def answer(case: Case, implementation: Implementation, setting: Setting) -> Answer:
    problem, operator = case.problem, case.problem.operator
    if (refusal := wrong(problem, implementation, setting)) is not None:
        return refusal
    inputs = make_inputs(problem, seed=setting.seed, device=setting.device.kind)
    if "alpha" in inputs.gates:  # nothing is to be forgotten
        inputs = inputs._replace(
            gates=inputs.gates | {"alpha": torch.ones_like(inputs.gates["alpha"])}
        )
    with torch.no_grad():
        state = implementation.run(problem, inputs).state
        assert state is not None
        asked = features(operator, inputs.k, inputs.projection, query=True)
        # Every key asks the same final state: one more axis of queries.
        answers = torch.stack([law.read(operator, state, q) for q in asked.unbind(1)], dim=1)
    return Answer(
        metrics={
            "error": Measurement(value=_error(answers, inputs.v), unit="1"),
            "features": Measurement(value=problem.D, unit="1"),
        }
    )


def _error(answers: Tensor, values: Tensor) -> float:
    """The mean over memories, each with its best factor: 1 − ⟨a, v⟩² / (‖a‖² ‖v‖²)."""
    a, v = answers.double().flatten(1), values.double().flatten(1)
    # An answer of nothing but zeros has no best factor and is as good as zero.
    aligned = (a * v).sum(-1).square() / (a.square().sum(-1) * v.square().sum(-1)).clamp(min=1e-300)
    return float((1 - aligned).mean())


SUITE = Suite(
    question="How many pairs can it store and read back?",
    cases=cases,
    answer=answer,
    side_by_side=True,
    metrics={
        "error": Metric(
            "1", "lower", "squared error of what is read, by its best scale, ÷ squared size of v"
        ),
        "features": Metric("1", "higher", "D, the width of φ"),
    },
)
