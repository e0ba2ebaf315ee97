"""Products of gates over every segment of a chunk: what a state or token has decayed by."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


class _SegmentProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, alpha: Tensor) -> Tensor:
        C = alpha.shape[-1]
        gates = torch.nn.functional.pad(alpha, (1, 0), value=1.0)
        below = torch.ones(C + 1, C + 1, dtype=torch.bool, device=alpha.device).tril(-1)
        # A running product, not the exponential of a difference of logarithms: gates of exactly 0
        # need no special case, and nothing is lost to cancellation between large cumulative logs.
        P = torch.where(below, gates[..., :, None], 1.0).cumprod(-2).tril()
        ctx.save_for_backward(P)
        return P

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """dα_t = Σ_{i≥t>j} P[i,t] P[t−1,j] dP[i,j]: products again, never a division by α."""
        (P,) = ctx.saved_tensors
        before = P[..., :-1, :]  # row t−1 for token t = 1 … C
        through = gradients[0] @ before.mT  # [i, t] = Σ_j dP[i,j] P[t−1,j]
        d_alpha: Tensor = (P[..., :, 1:] * through).sum(-2)
        return d_alpha


def segment_products(alpha: Float[Tensor, "*b C"]) -> Float[Tensor, "*b C+1 C+1"]:
    """P[i, j] = Π_{l=j+1..i} α_l for 0 ≤ j ≤ i ≤ C, 0 above the diagonal.

    Tokens count from 1 and border 0 is where the chunk begins, so column 0 is what the state that
    enters has decayed by, row C what is left at the end, and P[1:, 1:] lies between tokens.
    """
    products: Tensor = _SegmentProducts.apply(alpha)  # type: ignore[no-untyped-call]
    return products
