"""What counting makes of a text: n-grams, the interpolated form of Kneser and Ney 1995.

    p_n(w | h) = (max(c(h w) − d, 0) + d · u(h) · p_{n−1}(w | h′)) / c(h),      p_0 = 1 / vocabulary

c of the longest n-grams counts them in the training text, c of the shorter ones how many different
words stand before them there; c(h) is its sum over w, u(h) how many w it has, and h′ is h without
its oldest word. d = n₁ / (n₁ + 2 n₂) of each length, n_i of its n-grams having c = i (Chen and
Goodman 1999). A history never seen leaves p_{n−1} as it is. The unigrams are n = 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

Whole = NDArray[np.int64]
#: No such n-gram.
NONE = -1


class Counted(NamedTuple):
    """All n-grams of one length, numbered. A pair is (history's number) · vocabulary + word."""

    pairs: Whole
    counts: Whole
    #: Where each was first seen.
    first: Whole
    #: The number of the n-gram that ends at each token of the training text, and of the other.
    seen: Whole
    asked: Whole
    #: The number of the history of each token of the other text.
    before: Whole


def surprisals(
    train: Int[Tensor, " N"], text: Int[Tensor, " M"], vocabulary: int, order: int
) -> NDArray[np.float64]:
    """−log p_order in nats of every token of `text` but the first."""
    lengths = _count(train.numpy(), text.numpy(), vocabulary, order)
    p = np.full(len(text), 1 / vocabulary)
    for shorter, longer in zip(lengths, [*lengths[1:], None], strict=True):
        counts = shorter.counts
        if longer is not None:
            counts = np.bincount(shorter.seen[longer.first], minlength=len(shorter.pairs))
        p = _interpolated(shorter, counts, p, vocabulary)
    surprisals: NDArray[np.float64] = -np.log(p[1:])
    return surprisals


def _count(seen: Whole, asked: Whole, vocabulary: int, order: int) -> list[Counted]:
    lengths = []
    before_seen, before_asked = np.zeros_like(seen), np.zeros_like(asked)
    for _ in range(order):
        pairs = np.where(before_seen == NONE, NONE, before_seen * vocabulary + seen)
        kinds, first, counts = np.unique(pairs, return_index=True, return_counts=True)
        if kinds[0] == NONE:  # at the beginning of the text
            kinds, first, counts = kinds[1:], first[1:], counts[1:]
        wanted = np.where(before_asked == NONE, NONE, before_asked * vocabulary + asked)
        ends = _places(kinds, pairs), _places(kinds, wanted)
        lengths.append(Counted(kinds, counts, first, *ends, before_asked))
        # This n-gram is the history of the next token.
        before_seen, before_asked = (np.concatenate([[NONE], end[:-1]]) for end in ends)
    return lengths


def _places(kinds: Whole, pairs: Whole) -> Whole:
    place = np.searchsorted(kinds, pairs).clip(max=len(kinds) - 1)
    return np.where(kinds[place] == pairs, place, NONE)


def _interpolated(
    grams: Counted, counts: Whole, p: NDArray[np.float64], vocabulary: int
) -> NDArray[np.float64]:
    once, twice = (counts == 1).sum(), (counts == 2).sum()
    d = once / (once + 2 * twice) if once else 0.5  # nothing may have probability 0
    # At the end of the text or the beginning, an n-gram may have no longer one.
    there, histories = counts > 0, grams.pairs // vocabulary
    total = np.bincount(histories, weights=counts)
    kinds = np.bincount(histories, weights=there)
    known = (grams.before != NONE) & (grams.before < len(total))
    known[known] &= total[grams.before[known]] > 0
    before, ends = grams.before[known], grams.asked[known]
    c = np.where(ends == NONE, 0, counts[ends])
    mixed = p.copy()
    mixed[known] = (np.maximum(c - d, 0) + d * kinds[before] * p[known]) / total[before]
    return mixed
