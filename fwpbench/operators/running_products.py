"""Running products of gates along tokens, with a gradient that never divides by a gate."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


class _RunningProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, alpha: Tensor) -> Tensor:
        products = alpha.cumprod(-2)
        ctx.save_for_backward(alpha, products)
        return products

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """dα_t = y_{t−1} R_t with R_t = dy_t + α_{t+1} R_{t+1}: right at α = 0, where the

        gradient of torch.cumprod divides, or takes a far slower path.
        """
        alpha, products = ctx.saved_tensors
        (d_products,) = gradients
        d_alpha = torch.empty_like(alpha)
        rest = torch.zeros_like(alpha[..., 0, :])
        for t in range(alpha.shape[-2] - 1, -1, -1):
            rest = rest + d_products[..., t, :]
            d_alpha[..., t, :] = rest if t == 0 else products[..., t - 1, :] * rest
            rest = alpha[..., t, :] * rest
        return d_alpha


def since_start(alpha: Float[Tensor, "*b C D"]) -> Float[Tensor, "*b C D"]:
    """Π_{l ≤ i} α_l: what the state that entered has decayed by after token i."""
    products: Tensor = _RunningProducts.apply(alpha)  # type: ignore[no-untyped-call]
    return products


def until_end(alpha: Float[Tensor, "*b C D"]) -> Float[Tensor, "*b C D"]:
    """Π_{l > j} α_l: what is left at the end of what token j wrote."""
    after = torch.cat([alpha[..., 1:, :], torch.ones_like(alpha[..., :1, :])], dim=-2)
    return since_start(after.flip(-2)).flip(-2)
