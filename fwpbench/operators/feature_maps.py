"""Feature maps φ: what is done to queries and keys before they meet the fast weights.

A feature map is a function from `[..., K]` to `[..., D]`. Its D is never written down: it is asked
of the function, so it cannot be wrong. The first line of each docstring is the formula, the second
the source; `fwpbench list feature-maps` shows both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from fwpbench.operators.registry import Family


@dataclass(frozen=True)
class FeatureMap:
    """`function(x)`, or `function(x, projection)` where `projection_columns` asks for one.

    `queries` is the form for queries where the normalisation divides a factor per query out again
    (sum and attention): equal to `function` up to such a factor, and free of underflow.
    """

    function: Callable[..., Tensor]
    nonnegative: bool = False
    projection_columns: int | None = None
    queries: Callable[..., Tensor] | None = None
    #: Why the map is pointless for keys of this size, or None.
    refuses_size: Callable[[int], str | None] = lambda K: None

    def size(self, K: int) -> int:
        """D, the width of φ for keys of size K."""
        M = self.projection_columns
        # Meta tensors take no memory, but make torch import its compiler: seconds in every process.
        device = "cpu" if K <= 1024 and (M or 0) <= 4096 else "meta"
        projection = None if M is None else torch.zeros(K, M, device=device)
        return self(torch.zeros(1, K, device=device), projection).shape[-1]

    def __call__(
        self,
        x: Float[Tensor, "... K"],
        projection: Float[Tensor, "K M"] | None = None,
        *,
        scaled_query: bool = False,
    ) -> Float[Tensor, "... D"]:
        function = self.queries if scaled_query and self.queries else self.function
        return function(x) if self.projection_columns is None else function(x, projection)


def identity(x: Float[Tensor, "... K"]) -> Float[Tensor, "... K"]:
    """φ(x) = x

    No map at all. (DeltaNet has SiLU here, before the L2 norm: Yang et al. 2024, section 3.3.)
    """
    return x


def elu_plus_one(x: Float[Tensor, "... K"]) -> Float[Tensor, "... K"]:
    """φ(x) = x + 1 if x > 0 else exp(x)

    Katharopoulos et al. 2020, eq. 7; Schlag et al. 2021, eq. 30.
    """
    # Not elu(x) + 1: exp(x) − 1 + 1 cancels to 0 in bf16 for every x below −5.5.
    return torch.where(x > 0, x + 1, x.clamp(max=0).exp())


def relu(x: Float[Tensor, "... K"]) -> Float[Tensor, "... K"]:
    """φ(x) = max(x, 0)

    Kasai et al. 2021, without its learned projection.
    """
    return x.relu()


def tanh(x: Float[Tensor, "... K"]) -> Float[Tensor, "... K"]:
    """φ(x) = tanh(x)

    Schlag et al. 2021, section 6.1.2 (the "Schlag (2021)" curve, with the rule fwm).
    """
    return x.tanh()


def favor(
    x: Float[Tensor, "... K"], projection: Float[Tensor, "K M"]
) -> Float[Tensor, "... {2*projection.shape[-1]}"]:
    """φ(x) = exp(−‖y‖²/2) / √(2M) · [exp(yΩ); exp(−yΩ)] with y = x·K^(−1/4)

    Choromanski et al. 2021, lemma 1 (the hyperbolic form); Schlag et al. 2021, eq. 31–32.
    """
    return (_favor_exponents(x * x.shape[-1] ** -0.25, projection)).exp()


def favor_queries(
    x: Float[Tensor, "... K"], projection: Float[Tensor, "K M"]
) -> Float[Tensor, "... {2*projection.shape[-1]}"]:
    """favor(x) divided by its own largest entry, which is a constant to the gradient."""
    exponents = _favor_exponents(x * x.shape[-1] ** -0.25, projection)
    return (exponents - exponents.amax(-1, keepdim=True).detach()).exp()


def favor_published(
    x: Float[Tensor, "... K"], projection: Float[Tensor, "K M"]
) -> Float[Tensor, "... {2*projection.shape[-1]}"]:
    """φ(x) = exp(−‖x‖²/2) / √(2M) · [exp(xΩ); exp(−xΩ)]

    The code published with Schlag et al. 2021: no temperature, no maximum taken off; it underflows.
    """
    return _favor_exponents(x, projection).exp()


def _favor_exponents(x: Tensor, projection: Tensor) -> Tensor:
    u = x @ projection
    constant = x.square().sum(-1, keepdim=True) / 2 + math.log(2 * u.shape[-1]) / 2
    return torch.cat([u, -u], dim=-1) - constant


def orthogonal_projection(K: int, M: int, generator: torch.Generator) -> Float[Tensor, "{K} {M}"]:
    """Ω: columns orthogonal within blocks of K, as long as those of a Gaussian matrix.

    Column j of a block is column j of Q in QR(G), times ‖row j of G‖, G Gaussian: the
    construction of the code published with Schlag et al. 2021 (`orthogonal_random_matrix_`).
    """
    blocks = []
    for _ in range(math.ceil(M / K)):
        gaussian = torch.randn(K, K, generator=generator, dtype=torch.float64)
        blocks.append(torch.linalg.qr(gaussian).Q * gaussian.norm(dim=-1))
    return torch.cat(blocks, dim=-1)[:, :M]


def dpfp(x: Float[Tensor, "... K"], nu: int) -> Float[Tensor, "... {2*nu*x.shape[-1]}"]:
    """φ(x) = [r ⊙ roll(r, 1); …; r ⊙ roll(r, ν)] with r = [relu(x); relu(−x)]

    Deterministic parameter-free projection. Schlag et al. 2021, eq. 37 and its appendix C.
    """
    r = torch.cat([x.relu(), (-x).relu()], dim=-1)
    return torch.cat([r * r.roll(shift, dims=-1) for shift in range(1, nu + 1)], dim=-1)


def _no_room_for(nu: int, K: int) -> str | None:
    if nu < 2 * K:
        return None
    return f"dpfp-{nu} rolls 2K = {2 * K} numbers by up to {nu}: use a ν below 2K"


IDENTITY = FeatureMap(identity)
ELU_PLUS_ONE = FeatureMap(elu_plus_one, nonnegative=True)
RELU = FeatureMap(relu, nonnegative=True)
TANH = FeatureMap(tanh)
FAVOR = Family(
    lambda M: FeatureMap(favor, nonnegative=True, projection_columns=M, queries=favor_queries),
    shown=(16,),
)
FAVOR_PUBLISHED = Family(
    lambda M: FeatureMap(favor_published, nonnegative=True, projection_columns=M), shown=(16,)
)
DPFP = Family(
    lambda nu: FeatureMap(
        partial(dpfp, nu=nu), nonnegative=True, refuses_size=partial(_no_room_for, nu)
    ),
    shown=(1, 2, 3),
)
