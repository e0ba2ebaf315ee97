"""What a mutant is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from fwpbench.harness.golden import Run
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import Problem

ALL = ("fp32", "tf32", "bf16", "fp16")


@dataclass(frozen=True)
class Mutant:
    """A wrong implementation. `make(C)` gives a fresh one with chunks of C tokens.

    `name` says what is wrong in a few words, `sentence` what it does. `concerns` says of which
    operators it is a wrong implementation; it is scored on `scored_on`, in the `dtypes` that can
    show it: in others it is as close to the golden as honest arithmetic is.
    """

    name: str
    sentence: str
    make: Callable[[int], Run]
    scored_on: str
    concerns: Callable[[Operator], bool]
    dtypes: tuple[str, ...] = ALL
    #: Whether the bug has a place in the chunk, so that another C shows it at another token.
    chunked: bool = False

    @cached_property
    def operator(self) -> Operator:
        return Operator(*self.scored_on.split())

    def problems(self, dtype: str) -> list[Problem]:
        """The cases of the agreement suite that it must not survive: with gradients and without."""
        return [
            Problem.of(
                self.operator,
                B=1,
                T=67,
                H=2,
                K=16,
                V=12,
                dtype=dtype,
                direction=direction,
                state="in+out",
                inputs="realistic",
            )
            for direction in ("forward+backward", "forward")
        ]


#: Operators a mutant of `Form` can be of, by what they must have.
def linear(operator: Operator) -> bool:
    return operator.rule in ("sum", "decay", "gated", "delta", "gated-delta")


def decaying(operator: Operator) -> bool:
    return linear(operator) and operator.rule in ("decay", "gated", "gated-delta")


def correcting(operator: Operator) -> bool:
    return linear(operator) and operator.update_rule.corrects


def dividing(operator: Operator) -> bool:
    return linear(operator) and operator.divides


def with_beta(operator: Operator) -> bool:
    return linear(operator) and "beta" in operator.update_rule.gates


def mapped_by(*maps: str) -> Callable[[Operator], bool]:
    return lambda operator: linear(operator) and operator.phi.startswith(maps)
