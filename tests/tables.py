"""What the laws run over: every operator, every implementation, every input family."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fwpbench import testing
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.operators import INPUT_FAMILIES
from fwpbench.operators.operator import Operator, enumerate_operators
from fwpbench.operators.problem import Problem

OPERATORS, SENSELESS = enumerate_operators()

VARIED = testing.OPERATORS


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
