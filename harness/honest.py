"""Honest arithmetic: what the gate must let pass, counted seed by seed.

A gate that fails honest implementations teaches people to ignore it. So each seed draws an
operator's problem, and every honest form below goes through the gate that the mutants go through.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fwpbench.harness.agreement import check, ill_conditioned
from fwpbench.harness.gate import judge
from fwpbench.harness.golden import Run, Truths
from fwpbench.harness.mutants import MUTANTS
from fwpbench.harness.yardstick import chunks_of, rounded_chunks
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.operators.problem import Problem

#: What is claimed: this share of seeds, with this confidence.
CLAIM, CONFIDENCE = 0.999, 0.95


#: Float32 arithmetic, and operands rounded to the dtype in chunks that kernels have: the sizes of
#: the yardstick, and sizes that it knows nothing of.
ROUNDED = {f"C = {C}": rounded_chunks(C) for C in (16, 24, 32, 64, 128)}
HONEST: dict[str, Run] = {
    "chunked": lambda problem, inputs: IMPLEMENTATIONS["chunked"].run(problem, inputs),
    **ROUNDED,
}


def is_honest(form: str, problem: Problem) -> bool:
    return form != "C = 128" or 128 in chunks_of(problem)


#: The operators that mutants are scored on: what is caught there must not cost honest work there.
OPERATORS = list(dict.fromkeys(mutant.operator for mutant in MUTANTS.values()))


def problem_of(seed: int, dtype: str) -> Problem:
    """The operators take turns; T jumps through the odd lengths from 33 to 131."""
    operator = OPERATORS[seed % len(OPERATORS)]
    T = 33 + 2 * (7 * seed % 50)
    return Problem.of(
        operator, B=1, T=T, H=2, K=16, V=12, dtype=dtype,
        direction="forward+backward", state="in+out", inputs="realistic",
    )  # fmt: skip


@dataclass(frozen=True)
class Tally:
    """`failures` are sentences, at most one a seed; `unjudged` seeds are ill-conditioned."""

    dtype: str
    seeds: int
    runs: int
    unjudged: int
    failures: tuple[str, ...]

    @property
    def least(self) -> float:
        """The share of seeds that passes, at least, with 95 % confidence."""
        return least_share(len(self.failures), self.seeds)

    def __str__(self) -> str:
        return (
            f"{self.dtype}: {self.seeds - len(self.failures)} of {self.seeds} seeds passed "
            f"({self.runs} runs, {self.unjudged} seeds ill-conditioned): at least "
            f"{100 * self.least:.2f} % pass, with 95 % confidence"
        )


def tally(
    dtype: str, seeds: Iterable[int], report: Callable[[int, str], None] = lambda seed, said: None
) -> Tally:
    """Every honest form on every seed: outputs, state, gradients; the laws of one form a seed."""
    judged = runs = unjudged = 0
    failures = []
    for seed in seeds:
        problem = problem_of(seed, dtype)
        truth = Truths(1)(problem, seed)
        if ill_conditioned(truth) is not None:
            unjudged += 1
            continue
        judged += 1
        forms = [name for name in HONEST if is_honest(name, problem)]
        asked = {name: check(HONEST[name], problem, truth) for name in forms}
        # Laws cost twenty calls: each form is asked in its turn.
        lawful = forms[seed // len(OPERATORS) % len(forms)]
        forward = problem.replace(direction="forward")
        asked[f"{lawful}, with laws"] = judge(HONEST[lawful], forward, truth)[0]
        runs += len(asked)
        bad = [f"{name}: {found.reason}" for name, found in asked.items() if found.status != "ok"]
        if bad:
            failures.append(f"{problem}, seed {seed}: {'; '.join(bad)}")
            report(seed, failures[-1])
    return Tally(dtype, judged, runs, unjudged, tuple(failures))


def least_share(failures: int, seeds: int, confidence: float = CONFIDENCE) -> float:
    """The exact (Clopper–Pearson) lower bound of a share: (1 − 0.95)^(1/n) without a failure."""
    low, high = 0.0, 1.0
    for _ in range(60):
        share = (low + high) / 2
        # How likely are so few failures, if no larger a share passes?
        likely = math.fsum(
            math.comb(seeds, n) * (1 - share) ** n * share ** (seeds - n)
            for n in range(failures + 1)
        )
        low, high = (share, high) if likely < 1 - confidence else (low, share)
    return low
