"""Normalisations: what keeps the numbers read from the fast weights in bounds.

ε = 1e-6 in every one of them (Schlag et al. 2021 use 1e-6 in the retrieval and 1e-5 in the
language modelling code, and none on the keys of sum; one value everywhere makes operators
comparable).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

EPSILON = 1e-6


@dataclass(frozen=True)
class Normalization:
    """`scale` is applied to φ(q) and φ(k); `divides` says that reading divides by z·φ(q)."""

    scale: Callable[[Tensor], Tensor]
    divides: bool
    #: A factor of a whole query changes nothing but ε's weight.
    cancels_query_factor: bool


def unscaled(x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
    """φ(q), φ(k) as they are

    No normalisation.
    """
    return x


def sum_to_one(x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
    """φ / (Σφ + ε) on q and k

    Schlag et al. 2021, eq. 29 (sum normalisation).
    """
    return x / (x.sum(-1, keepdim=True) + EPSILON)


def unit_length(x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
    """φ · rsqrt(Σφ² + ε) on q and k

    Yang et al. 2024, section 3.3 (L2-normalised queries and keys).
    """
    return x * (x.square().sum(-1, keepdim=True) + EPSILON).rsqrt()


def divided(x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
    """o / (z·φ(q) + ε), for delta also the value it retrieves / (z·φ(k) + ε)

    Schlag et al. 2021, eq. 18–19 for sum, eq. 26–28 for delta (attention normalisation).
    """
    return x


def sum_to_one_and_divided(x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
    """sum and attention together

    Schlag et al. 2021, table 3.
    """
    return sum_to_one(x)


NONE = Normalization(unscaled, divides=False, cancels_query_factor=False)
SUM = Normalization(sum_to_one, divides=False, cancels_query_factor=True)
ATTENTION = Normalization(divided, divides=True, cancels_query_factor=True)
SUM_AND_ATTENTION = Normalization(sum_to_one_and_divided, divides=True, cancels_query_factor=True)
L2 = Normalization(unit_length, divides=False, cancels_query_factor=False)
