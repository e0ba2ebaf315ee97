"""What happens between the tokens of a chunk and to the state across it, for each kind of decay.

Chunks are [B H N C X]. Every kind offers
    scores(a, b)   a_i·b_j, decayed from j to i; what stands above the diagonal means nothing
    entering(x)    x_i, decayed since the chunk began
    leaving(x)     x_j, decayed until the chunk ends
    across(S, n)   the state after chunk n has passed, without what the chunk writes
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from fwpbench.operators.running_products import since_start, until_end
from fwpbench.operators.segment_products import segment_products

#: Blocks of this many tokens are scored feature by feature, larger ones by matrix products. 8 took
#: 1.3 times the time and 1.4 times the memory (kda and gla, T 1024, K = V = 64, one core).
SMALLEST_BLOCK = 2


@runtime_checkable  # for the checks of the tests
class Decay(Protocol):
    def scores(self, a: Tensor, b: Tensor) -> Tensor: ...
    def entering(self, x: Tensor) -> Tensor: ...
    def leaving(self, x: Tensor) -> Tensor: ...
    def across(self, S: Tensor, n: int) -> Tensor: ...


class NoDecay:
    def scores(self, a: Tensor, b: Tensor) -> Tensor:
        return a @ b.mT

    def entering(self, x: Tensor) -> Tensor:
        return x

    def leaving(self, x: Tensor) -> Tensor:
        return x

    def across(self, S: Tensor, n: int) -> Tensor:
        return S


class HeadDecay:
    """One gate a token and head."""

    def __init__(self, alpha: Float[Tensor, "B H N C"]):
        self._products = segment_products(alpha)

    def scores(self, a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.mT) * self._products[..., 1:, 1:]

    def entering(self, x: Tensor) -> Tensor:
        return self._products[..., 1:, :1] * x

    def leaving(self, x: Tensor) -> Tensor:
        return self._products[..., -1, 1:, None] * x

    def across(self, S: Tensor, n: int) -> Tensor:
        return self._products[:, :, n, -1:, :1] * S


class FeatureDecay:
    """One gate a token, head and feature."""

    def __init__(self, alpha: Float[Tensor, "B H N C D"]):
        self._blocks = _Blocks(alpha)
        self._since, self._until = since_start(alpha), until_end(alpha)

    def scores(self, a: Tensor, b: Tensor) -> Tensor:
        return self._blocks.scores(a, b)

    def entering(self, x: Tensor) -> Tensor:
        return self._since * x

    def leaving(self, x: Tensor) -> Tensor:
        return self._until * x

    def across(self, S: Tensor, n: int) -> Tensor:
        return self._since[:, :, n, -1, :, None] * S


class _Blocks:
    """Scores under decays per feature, by halving.

    a_i·b_j decayed feature by feature is no product of two matrices; but across a border between
    two halves it is one: a_i decayed since the border, times b_j decayed until it. Halving again
    and again leaves small blocks on the diagonal (Yang et al. 2023 have two such levels). All
    factors are products of gates, so none overflows and gates may be 0.
    """

    def __init__(self, alpha: Float[Tensor, "*b C D"]):
        self._C = C = alpha.shape[-2]
        if C <= SMALLEST_BLOCK:
            self._between = segment_products(alpha.mT)[..., 1:, 1:]  # [… D C C]
            return
        self._half = half = C // 2
        first, second = alpha[..., :half, :], alpha[..., half:, :]
        self._until, self._since = until_end(first), since_start(second)
        # Both halves in one batch where they are alike.
        self._halves = (
            [_Blocks(first), _Blocks(second)]
            if C % 2
            else [_Blocks(alpha.unflatten(-2, (2, half)))]
        )

    def scores(self, a: Tensor, b: Tensor) -> Float[Tensor, "*b C C"]:
        if self._C <= SMALLEST_BLOCK:
            return torch.einsum("...id,...jd,...dij->...ij", a, b, self._between)
        half = self._half
        (a1, a2), (b1, b2) = (x.split([half, self._C - half], dim=-2) for x in (a, b))
        if len(self._halves) == 2:
            upper, lower = self._halves[0].scores(a1, b1), self._halves[1].scores(a2, b2)
        else:
            pairs = (x.unflatten(-2, (2, half)) for x in (a, b))
            upper, lower = self._halves[0].scores(*pairs).unbind(-3)
        across = (self._since * a2) @ (self._until * b1).mT
        nothing = torch.zeros_like(across.mT)
        return torch.cat(
            [torch.cat([upper, nothing], dim=-1), torch.cat([across, lower], dim=-1)], dim=-2
        )
