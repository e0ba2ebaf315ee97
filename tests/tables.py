"""What the laws run over: every operator, every implementation, every input family."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.operators import INPUT_FAMILIES
from fwpbench.operators.operator import Operator, enumerate_operators
from fwpbench.operators.problem import Problem

OPERATORS, SENSELESS = enumerate_operators()

#: One operator for every rule × what its normalisation does to the state; every φ at least once.
VARIED = [
    Operator("sum", "elu+1", "attention"),
    Operator("sum", "favor-16", "sum"),
    Operator("sum", "identity", "none"),
    Operator("decay", "dpfp-2", "sum+attention"),
    Operator("decay", "identity", "l2"),
    Operator("gla", "relu", "attention"),
    Operator("gla", "tanh", "none"),
    Operator("gated", "favor-published-16", "attention"),
    Operator("gated", "dpfp-1", "sum"),
    Operator("delta", "dpfp-3", "sum"),
    Operator("delta", "elu+1", "sum+attention"),
    Operator("delta", "identity", "l2"),
    Operator("gated-delta", "identity", "l2"),
    Operator("gated-delta", "elu+1", "sum"),
    Operator("kda", "identity", "l2"),
    Operator("fwm", "tanh", "none"),
    Operator("softmax-attention", "identity", "none"),
]


def problem_of(operator: Operator, **changes: Any) -> Problem:
    """A small problem of odd sizes in float64 with states in and out, changed as asked."""
    sizes: dict[str, Any] = {"B": 2, "T": 37, "H": 3, "K": 4, "V": 5}
    rest = {"dtype": "fp64", "direction": "forward", "state": "in+out"}
    names = {"rule": operator.rule, "phi": operator.phi, "norm": operator.norm}
    return Problem(**(names | sizes | rest | changes))


def families_of(operator: Operator) -> list[str]:
    gates = operator.update_rule.gates
    return [name for name, family in INPUT_FAMILIES.items() if family.applies(gates)]


def able(names: Iterable[str] = IMPLEMENTATIONS, **changes: Any) -> list[tuple[str, Operator]]:
    """Every implementation × varied operator that it does not refuse."""
    return [
        (name, operator)
        for name in names
        for operator in VARIED
        if IMPLEMENTATIONS[name].refuses(problem_of(operator, **changes)) is None
    ]
