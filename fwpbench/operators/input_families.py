"""Input families: what queries, keys, values and gates look like.

Each draws from standard normal numbers and an explicit generator, and changes only what is new
about it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


@dataclass(frozen=True)
class InputFamily:
    """How inputs are drawn. `needs` names the gate without which the family is only `normal`."""

    meaning: str
    keys: Callable[[Tensor, Generator], Tensor] = lambda x, g: x
    values: Callable[[Tensor, Generator], Tensor] = lambda x, g: x
    alpha: Callable[[Tensor, Generator], Tensor] = lambda x, g: x.sigmoid()
    beta: Callable[[Tensor, Generator], Tensor] = lambda x, g: x.sigmoid()
    needs: str | None = None
    #: q is drawn from the same directions as k (repeated and one-hot keys are asked for).
    queries_like_keys: bool = False

    def applies(self, gates: Mapping[str, str]) -> bool:
        """Whether it differs from `normal` for a rule with these gates."""
        return self.needs is None or self.needs in gates or (self.needs == "any" and bool(gates))


def _realistic_keys(x: Tensor, g: Generator) -> Tensor:
    """A common direction, neighbours alike (ρ = 0.6), and a few loud features."""
    common = torch.randn(1, 1, *x.shape[2:], generator=g)
    loud = torch.randn(1, 1, *x.shape[2:], generator=g).mul(0.5).exp()
    return loud * (0.5 * common + _autocorrelated(x, 0.6))


def _autocorrelated(x: Tensor, rho: float) -> Tensor:
    """y_t = ρ y_{t−1} + √(1−ρ²) x_t over axis 1, cut off where ρ^n is below float32."""
    reach = min(x.shape[1], math.ceil(math.log(2**-24) / math.log(rho)))
    y = torch.zeros_like(x)
    for n in range(reach):
        y[:, n:] += rho**n * x[:, : x.shape[1] - n]
    return math.sqrt(1 - rho**2) * y


def _realistic_alpha(x: Tensor, g: Generator) -> Tensor:
    """exp(−A · softplus(x + bias)), A in [1, 16] a head, time steps from 0.001 to 0.1."""
    A = 1 + 15 * torch.rand(x.shape[2:], generator=g)
    step = torch.empty(x.shape[2:]).uniform_(math.log(1e-3), math.log(0.1), generator=g).exp()
    return (-A * F.softplus(x + step.expm1().log())).exp()


def _repeated(x: Tensor, g: Generator) -> Tensor:
    """Each token takes the key of one of the first max(1, T/4) tokens."""
    T = x.shape[1]
    which = torch.randint(0, max(1, T // 4), (T,), generator=g)
    return x[:, which]


def _one_hot(x: Tensor, g: Generator) -> Tensor:
    K = x.shape[-1]
    return F.one_hot(torch.randint(0, K, x.shape[:-1], generator=g), K).float()


def _some_zero(x: Tensor, g: Generator) -> Tensor:
    keep = torch.rand(x.shape[:-1], generator=g) > 1 / 3
    return x * keep[..., None]


def _saturated(x: Tensor, g: Generator) -> Tensor:
    """0, 1, next to 0 and next to 1, in equal parts."""
    corners = torch.tensor([0.0, 2.0**-14, 1 - 2.0**-14, 1.0])
    return corners[torch.randint(0, 4, x.shape, generator=g)]


def _long(x: Tensor, g: Generator) -> Tensor:
    """1 − 2^−n with n uniform in [5, 14]: half-lives of 22 to 11,000 tokens."""
    return 1 - 2.0 ** -torch.empty_like(x).uniform_(5, 14, generator=g)


def _constant(value: float) -> Callable[[Tensor, Generator], Tensor]:
    return lambda x, g: torch.full_like(x, value)


def _scaled(factor: float) -> Callable[[Tensor, Generator], Tensor]:
    return lambda x, g: factor * x


NORMAL = InputFamily("q, k, v standard normal; gates the sigmoid of it")
REALISTIC = InputFamily(
    "what a trained layer sees: keys alike and in sequence, loud features, Mamba-2's decays",
    keys=_realistic_keys,
    values=lambda x, g: _autocorrelated(x, 0.3),
    alpha=_realistic_alpha,
    beta=lambda x, g: (x + 1).sigmoid(),
)
REPEATED_KEYS = InputFamily(
    "a quarter as many keys as tokens", keys=_repeated, queries_like_keys=True
)
ONE_HOT = InputFamily("keys and queries are unit vectors", keys=_one_hot, queries_like_keys=True)
TINY = InputFamily("q, k, v times 2⁻¹⁰", keys=_scaled(2.0**-10), values=_scaled(2.0**-10))
HUGE = InputFamily("q, k, v times 2⁵", keys=_scaled(2.0**5), values=_scaled(2.0**5))
ZERO_KEYS = InputFamily("a third of the keys and queries are 0", keys=_some_zero)
BETA_0 = InputFamily("β = 0 everywhere", beta=_constant(0.0), needs="beta")
BETA_1 = InputFamily("β = 1 everywhere", beta=_constant(1.0), needs="beta")
SATURATED_GATES = InputFamily(
    "gates are 0, 1 or next to them", alpha=_saturated, beta=_saturated, needs="any"
)
LONG_DECAY = InputFamily("α between 1 − 2⁻⁵ and 1 − 2⁻¹⁴", alpha=_long, needs="alpha")
ALL_NEGATIVE = InputFamily("q and k below 0", keys=lambda x, g: -x.abs())
