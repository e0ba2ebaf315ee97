"""What happens between the tokens of a chunk and to the state across it, for each kind of decay.

Chunks are [G N C X]: G is batch and head as one, N counts the chunks of C tokens. Readers are the
tensors that read what keys wrote: φ(q), and φ(k) where a rule corrects what it finds.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from fwpbench.operators.segment_products import segment_products

Chunks = Float[Tensor, "G N C D"]


class Decayed(NamedTuple):
    """The first two go by reader; scores are lower triangular, with the diagonal."""

    scores: list[Float[Tensor, "G N C C"]]  # a_i·k_j, decayed from j to i
    entering: list[Chunks]  # a_i, decayed since the chunk began
    leaving: Chunks  # k_j, decayed until the chunk ends
    factors: tuple[Float[Tensor, "G X 1"], ...] | None  # what a state is multiplied by, by chunk

    def across(self, S: Float[Tensor, "G D V"], n: int) -> Float[Tensor, "G D V"]:
        """The state after chunk n has passed, without what the chunk writes."""
        return S if self.factors is None else self.factors[n] * S


def without_decay(readers: list[Tensor], k: Chunks) -> Decayed:
    # Not tril, whose gradient takes up to six times as long as this product (C = 16, one core).
    lower = torch.ones(k.shape[-2], k.shape[-2], dtype=k.dtype, device=k.device).tril()
    return Decayed([(a @ k.mT) * lower for a in readers], readers, k, None)


def decayed_by_head(alpha: Float[Tensor, "G N C"], readers: list[Tensor], k: Chunks) -> Decayed:
    products = segment_products(alpha)
    since, between, left = products[..., 1:, :1], products[..., 1:, 1:], products[..., -1, 1:, None]
    return Decayed(
        scores=[(a @ k.mT) * between for a in readers],
        entering=[since * a for a in readers],
        leaving=left * k,
        factors=products[..., -1:, :1].unbind(1),
    )


def decayed_by_feature(alpha: Chunks, readers: list[Tensor], k: Chunks) -> Decayed:
    """By doubling; C is a power of two.

    a_i·k_j decayed feature by feature is no product of two matrices; but across the border between
    two blocks it is one: a_i decayed since the border, times k_j decayed until it. So blocks of 1,
    2, 4 … tokens are joined in pairs (Yang et al. 2023 have two such levels), and each time the
    readers of one and the keys of the other are decayed further. All factors are products of
    gates: none overflows, gates may be 0, and no gradient divides by one.
    """
    # Blocks are [G N M R c X]: M blocks of c tokens in a chunk, R readers (1 for keys and gates).
    a = torch.stack(readers, dim=-2) if readers else k.new_zeros(*k.shape[:-1], 0, k.shape[-1])
    scores = (a * k[..., None, :]).sum(-1)[..., None, None]
    entering, leaving = (alpha[..., None, :] * a)[..., None, :], k[..., None, None, :]
    factors = alpha[..., None, None, :]
    while (c := leaving.shape[-2]) < k.shape[-2]:
        (upper, lower), (e1, e2) = _pairs(scores), _pairs(entering)
        (l1, l2), (f1, f2) = _pairs(leaving), _pairs(factors)
        if c == 1:  # D numbers by D numbers, too little for a matrix product
            across = (e2 * l1).sum(-1, keepdim=True)
        else:  # one product for all readers
            across = (e2.flatten(-3, -2) @ l1.squeeze(-3).mT).unflatten(-2, (-1, c))
        scores = torch.cat([F.pad(upper, (0, c)), torch.cat([across, lower], dim=-1)], dim=-2)
        entering = torch.cat([e1, f1 * e2], dim=-2)
        leaving = torch.cat([l1 * f2, l2], dim=-2)
        factors = f1 * f2
    return Decayed(
        scores=list(scores.squeeze(2).unbind(2)),
        entering=list(entering.squeeze(2).unbind(2)),
        leaving=leaving.flatten(2, 4),
        factors=factors.flatten(2, 4).mT.unbind(1),
    )


def _pairs(blocks: Float[Tensor, "G N M R c X"]) -> tuple[Tensor, Tensor]:
    first, second = blocks.unflatten(2, (-1, 2)).unbind(3)
    return first, second
