"""How much the gate catches: every mutant goes through the gate that implementations go through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fwpbench.harness.gate import judge
from fwpbench.harness.golden import Truths
from fwpbench.harness.mutants import MUTANTS
from fwpbench.harness.mutants.mutant import Mutant
from fwpbench.harness.statuses import group_of


@dataclass(frozen=True)
class MutationScore:
    """`slipped` are the names of those the gate did not catch, in the dtype that was asked."""

    dtype: str
    seed: int
    device: str
    caught: int
    total: int
    slipped: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def mutation_score(
    dtype: str,
    seed: int,
    device: str = "cpu",
    mutants: Mapping[str, Mutant] = MUTANTS,
) -> MutationScore:
    """Judge every mutant that shows in `dtype`: caught is who fails one of its cases."""
    # The same operator comes again and again, each with two problems.
    truths = Truths(64)
    shown = {name: mutant for name, mutant in mutants.items() if dtype in mutant.dtypes}
    slipped = tuple(
        name for name, mutant in shown.items() if not _caught(mutant, dtype, seed, device, truths)
    )
    return MutationScore(dtype, seed, device, len(shown) - len(slipped), len(shown), slipped)


def _caught(mutant: Mutant, dtype: str, seed: int, device: str, truths: Truths) -> bool:
    for problem in mutant.problems(dtype):
        try:
            agreement, _ = judge(mutant.make(16), problem, truths(problem, seed), device)
        except RuntimeError:  # an implementation that raises is no record of ok either
            return True
        if group_of(agreement.status) == "wrong":
            return True
    return False
