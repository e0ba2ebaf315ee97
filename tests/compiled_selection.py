"""Of all that compile_all compiles, what CI does: rule × direction × dtype, all else in pairs.

Every cell of those three has a problem. Between them, for kernels of whole chunks and for those of
single tokens, φ, normalisation and width D meet each other in every pair, and chunks have every
layout. Where several problems would do, the one with most to keep in registers is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, product

from fwpbench.implementations._kernel_terms import LAWS, kind
from fwpbench.implementations.triton_kernels.layouts import BLOCKS, LIKE
from fwpbench.implementations.triton_kernels.plan import DOTS, is_wide, power_of_two
from fwpbench.implementations.triton_kernels.recurrent_plan import is_recurrent
from fwpbench.implementations.triton_kernels.refusal import cannot
from fwpbench.implementations.triton_kernels.unordered_plan import is_unordered
from fwpbench.operators.operator import Operator, discouraged, undefined
from fwpbench.operators.problem import Problem

#: Hardest first.
PHIS = ("favor-64", "dpfp-3", "elu+1", "tanh", "favor-published-64", "favor-512", "dpfp-1")
PHIS += ("favor-16", "relu", "identity")
NORMS = ("sum+attention", "attention", "sum", "l2", "none")
SIZES = ((128, 128), (64, 64), (256, 64), (32, 64), (16, 16))
DIRECTIONS = ("forward+backward", "forward", "decode")
Met = frozenset[tuple[object, ...]]


def candidates() -> Iterator[Problem]:
    for rule, phi, norm in product(LAWS, PHIS, NORMS):
        operator = Operator(rule, phi, norm)
        if undefined(operator) is not None or discouraged(operator) is not None:
            continue
        for direction, dtype, (K, V) in product(DIRECTIONS, DOTS, SIZES):
            problem = Problem.of(
                operator, B=2, T=1024, H=16, K=K, V=V, dtype=dtype, direction=direction,
                state="in+out",
            )  # fmt: skip
            if cannot(problem) is None:
                yield problem


def met(problem: Problem) -> Met:
    """Its cell, the pairs that meet in it, and its layout."""
    p = problem
    if is_unordered(p):
        return frozenset()
    D, by_token = power_of_two(p.D), is_recurrent(p)
    found: set[tuple[object, ...]] = {(p.rule, p.direction, p.dtype)}
    pairs = combinations((("φ", kind(p.phi)), ("norm", p.norm), ("D", D)), 2)
    found.update((by_token, *pair) for pair in pairs)
    if not by_token:
        rule = LIKE.get(p.rule, p.rule)
        width: object = "favor in tiles" if p.phi.startswith("favor") else "in tiles"
        if not is_wide(p):
            width = min(width for width in BLOCKS[rule][p.backward][p.dtype] if width >= D)
        found.add((rule, p.direction, p.dtype, width))
    return frozenset(found)


def worth(item: tuple[Problem, Met]) -> float:
    """For each kernel, of which there are about so many."""
    problem, found = item
    return len(found) / (3 if problem.backward else 1)


def selection(given: Sequence[Problem]) -> list[Problem]:
    """What is not met in those given; one after the other the one where most meets that has not."""
    left = {problem: met(problem) for problem in candidates()}
    wanted: Met = frozenset().union(*left.values()).difference(*map(met, given))
    chosen: list[Problem] = []
    while wanted:
        left = {problem: found & wanted for problem, found in left.items() if found & wanted}
        best, found = max(left.items(), key=worth)
        chosen.append(best)
        wanted -= found
    return chosen
