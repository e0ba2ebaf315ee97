"""What an operator costs at least: operations and bytes, as formulas of the problem.

A FLOP is half of a multiplication with its addition. The law of one token costs, a head,
    write + read multiplications of a D × V state: sum 1 + 1, decay 2 + 1, gated-delta 3 + 1 …
and softmax attention K + V for each token that is seen. The chunk form costs, a chunk of C tokens,
    C D V (read) + C D V (write) + C² (D + V), and C D V + C² (D + V) more where the rule corrects
A gradient of a product of two costs two products, so forward and backward cost three times as much.
Counted are the terms in D V and, of the chunk form, in C² D and C² V, and the products of random
maps; what is one number a key or a value (φ, gates, normalisation) is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fwpbench.operators.problem import DTYPES, Problem

BITS = {"float64": 64, "float32": 32, "bfloat16": 16, "float16": 16}


class LawCost(NamedTuple):
    """Passes over the D × V state that multiply, a token; with gradients, of both directions."""

    write: int
    read: int
    both: int | None = None


#: By rule. One that is not here, as a plugin's, has no formula, and so no bound by its operations.
LAWS = {
    "sum": LawCost(write=1, read=1),
    "decay": LawCost(write=2, read=1),
    "gla": LawCost(write=2, read=1),
    "gated": LawCost(write=2, read=1),
    "delta": LawCost(write=2, read=1),
    "gated-delta": LawCost(write=3, read=1),
    "kda": LawCost(write=3, read=1),
    # Squares for the norm and the division by it: the gradients are one and two passes.
    "fwm": LawCost(write=4, read=1, both=14),
}
CHUNKED = ("sum", "decay", "gla", "gated", "delta", "gated-delta", "kda")


def algorithmic_flop(problem: Problem) -> int | None:
    """Of the law, one token at a time; None for a rule without a formula."""
    p = problem
    if p.operator.update_rule.keeps_tokens:
        return _flop(p, _pairs_seen(p) * (p.K + p.V) if p.reads else 0)
    if (law := LAWS.get(p.rule)) is None:
        return None
    passes = law.write + law.read * p.reads
    if p.backward and law.both is not None:
        return 2 * p.B * p.H * (law.both * p.tokens * p.D * p.V + 3 * _projected(p))
    return _flop(p, passes * p.tokens * p.D * p.V)


def executed_flop(problem: Problem, chunk: int, *, needed: bool = False) -> int | None:
    """Of the plain chunk form, which computes every pair of a chunk; or only what is `needed`: the
    half that is seen, no read of a state that is 0, no state that nobody gets."""
    p = problem
    if p.rule not in CHUNKED or not p.causal:
        return None
    readers = p.reads + p.operator.update_rule.corrects
    columns = p.V + (p.operator.divides and p.operator.update_rule.normalizer == "same-law")
    multiplications = 0
    for tokens, times in _chunks(p.tokens, chunk):
        pairs = tokens * (tokens + 1) // 2 if needed else tokens**2
        each = (1 + readers) * tokens * p.D * columns + readers * pairs * (p.D + columns)
        multiplications += times * each
    if needed:
        first, last = min(p.tokens, chunk), p.tokens % chunk or chunk
        unneeded = readers * first * (not p.state_in) + last * (not p.state_out)
        multiplications -= unneeded * p.D * columns
    return _flop(p, multiplications)


def least_flop(problem: Problem) -> int | None:
    """Of the cheapest form there is a formula for: what no implementation can do without."""
    known = [algorithmic_flop(problem)]
    chunk = 1
    while chunk < 2 * problem.tokens:
        known.append(executed_flop(problem, chunk, needed=True))
        chunk *= 2
    return min((flop for flop in known if flop is not None), default=None)


def _flop(p: Problem, multiplications_a_head: int) -> int:
    both = 3 if p.backward else 1
    return 2 * both * p.B * p.H * (multiplications_a_head + _projected(p))


def _projected(p: Problem) -> int:
    """Multiplications of random maps, a head: [tokens × K] by [K × M] for keys, and queries."""
    columns = p.operator.feature_map.projection_columns or 0
    return (1 + p.reads) * p.tokens * p.K * columns


def _pairs_seen(p: Problem) -> int:
    before = tokens_before(p)
    within = p.tokens * (p.tokens + 1) // 2 if p.causal else p.tokens**2
    return p.tokens * before + within


def _chunks(tokens: int, size: int) -> Iterator[tuple[int, int]]:
    """Lengths of chunks, and how many there are of each."""
    yield size, tokens // size
    if rest := tokens % size:
        yield rest, 1


def tokens_before(p: Problem) -> int:
    """How many tokens a state that keeps them brings along."""
    from fwpbench.operators.inputs import TOKENS_BEFORE

    if not p.state_in:
        return 0
    return p.T if p.direction == "decode" else TOKENS_BEFORE


class Traffic(NamedTuple):
    """Bytes that must be read, and that must be written, once each."""

    read: int
    written: int


def compulsory_bytes(problem: Problem) -> Traffic:
    """Inputs are read and outputs written; with gradients do is read, and dq, dk, dv and those of
    the gates are written."""
    p = problem
    size = BITS[DTYPES[p.dtype]] // 8
    exact = 8 if p.dtype == "fp64" else 4
    a_token = p.B * p.tokens * p.H
    o = a_token * p.V * size if p.reads else 0
    qkv = a_token * ((1 + p.reads) * p.K + p.V) * size
    gates = sum(
        a_token * (p.D if per == "feature" else 1) * exact
        for per in p.operator.update_rule.gates.values()
    )
    projection = p.K * (p.operator.feature_map.projection_columns or 0) * exact
    mask = p.B * p.tokens if p.masked else 0
    read = qkv + gates + projection + mask
    read += _state_bytes(p, tokens_before(p), size, exact) if p.state_in else 0
    written = o
    written += _state_bytes(p, tokens_before(p) + p.tokens, size, exact) if p.state_out else 0
    if p.backward:
        return Traffic(read + o, written + qkv + gates)
    return Traffic(read, written)


def _state_bytes(p: Problem, tokens: int, size: int, exact: int) -> int:
    if p.operator.update_rule.keeps_tokens:
        return p.B * p.H * tokens * (p.K + p.V) * size
    return p.B * p.H * p.D * (p.V + p.operator.divides) * exact
