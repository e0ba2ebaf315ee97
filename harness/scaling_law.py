"""How a time grows with the tokens: t = a + c·T^p, with an interval for p.

Times at different T are not only noisy: another chunk, tile or cache makes each of them a per cent
or two faster or slower than the law, however often it is measured. So residuals have two parts, the
error of each median and a spread between lengths that is estimated from them (Paule and Mandel
1982), and the interval of p is that of Student for as many degrees of freedom as are left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Fewer lengths leave no residual to judge the three parameters by.
FEWEST = 4
#: Student's t at 97.5 % for 1, 2, … degrees of freedom; beyond, the last, which is a little wide.
T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
#: Fits whose crossovers make an interval.
RESAMPLES = 100
EXPONENTS = np.arange(0.0, 4.0005, 0.005)


@dataclass(frozen=True)
class ScalingLaw:
    """Seconds: `constant` + `factor`·T^`exponent`; `low` and `high` bound the exponent with 95 %.

    `spread` is the standard deviation between lengths, a fraction, that the medians' own errors do
    not explain.
    """

    constant: float
    factor: float
    exponent: float
    low: float
    high: float
    spread: float

    def at(self, tokens: float) -> float:
        return float(self.constant + self.factor * tokens**self.exponent)


def fit(
    tokens: Sequence[float], seconds: Sequence[float], errors: Sequence[float]
) -> ScalingLaw | None:
    """`errors` are standard errors as fractions of the seconds. None for fewer than four lengths.

    Every exponent from 0 to 4 is tried; given it, the rest is weighted least squares with neither
    parameter below 0. An interval that ends at 0 or 4 is open there.
    """
    T, t, own = (np.asarray(each, float) for each in (tokens, seconds, errors))
    if len(set(tokens)) < FEWEST:
        return None
    free = len(t) - 3
    spread = _spread(T, t, own, free)
    misfits, constants, factors = _fits(EXPONENTS, T, t, _weights(own, spread))
    best = int(misfits.argmin())
    # What the two parts do not explain widens the interval; what they over-explain does not.
    scale = max(misfits[best] / free, 1.0 if spread == 0 else 0.0)
    allowed = misfits[best] + T_975[min(free, len(T_975)) - 1] ** 2 * scale
    inside = EXPONENTS[misfits <= allowed]
    found = (constants[best], factors[best], EXPONENTS[best], inside[0], inside[-1], spread)
    return ScalingLaw(*map(float, found))


def _spread(T: np.ndarray, t: np.ndarray, own: np.ndarray, free: int) -> float:
    """The least that brings the weighted residuals down to the degrees of freedom."""

    def excess(spread: float) -> float:
        misfits, _, _ = _fits(EXPONENTS[::10], T, t, _weights(own, spread))
        return float(misfits.min()) - free

    if excess(0.0) <= 0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(16):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return high


def _weights(own: np.ndarray, spread: float) -> np.ndarray:
    weights: np.ndarray = 1 / np.maximum(own**2 + spread**2, 1e-12)
    return weights


def _fits(
    exponents: np.ndarray, T: np.ndarray, t: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By exponent: the weighted sum of squared relative residuals, a and c."""
    x = (T / T.max()) ** exponents[:, None]  # in range, whatever the exponent
    w = weights / t**2
    s, sx, sxx = w.sum(), x @ w, x**2 @ w
    sy, sxy = w @ t, x @ (w * t)
    # Where x hardly varies, a and c cannot be told apart: the border decides.
    determinant = np.maximum(s * sxx - sx**2, 1e-12 * s * sxx)
    inside = ((sxx * sy - sx * sxy) / determinant, (s * sxy - sx * sy) / determinant)
    zero = np.zeros_like(sx)
    fits = [inside, (zero, sxy / sxx), (zero + sy / s, zero)]
    misfits = np.array([((t - a[:, None] - c[:, None] * x) ** 2) @ w for a, c in fits])
    misfits[0][(inside[0] < 0) | (inside[1] < 0)] = np.inf
    best, each = misfits.argmin(0), np.arange(len(exponents))
    a, c = (np.array([fit[n] for fit in fits])[best, each] for n in (0, 1))
    return misfits[best, each], a, c / T.max() ** exponents


def crossover(one: ScalingLaw, other: ScalingLaw, most: float) -> float | None:
    """T*, the number of tokens from which on `one` is faster than `other`, up to `most`; else
    None."""
    lengths = np.geomspace(1, most, 2000)
    faster = _curve(one, lengths) < _curve(other, lengths)
    if not faster[-1]:
        return None
    slower = np.flatnonzero(~faster)
    return float(lengths[slower[-1] + 1]) if len(slower) else 1.0


def _curve(law: ScalingLaw, lengths: np.ndarray) -> np.ndarray:
    curve: np.ndarray = law.constant + law.factor * lengths**law.exponent
    return curve


#: Tokens, seconds, and standard errors as fractions of the seconds.
Points = tuple[Sequence[float], Sequence[float], Sequence[float]]


@dataclass(frozen=True)
class Crossover:
    """T*, and what bounds it with 95 %; None: there is none up to the most that was asked for."""

    tokens: float | None
    low: float | None
    high: float | None


def crossover_interval(one: Points, other: Points, most: float) -> Crossover | None:
    """T* of two fits, and its percentiles among fits to times drawn anew around them.

    Each time is drawn with its own error and the spread between lengths (a parametric bootstrap,
    Efron and Tibshirani 1993, chapter 6). None where a law has too few lengths to be fitted.
    """
    first, second = fit(*one), fit(*other)
    if first is None or second is None:
        return None
    rng = np.random.default_rng(0)
    drawn = zip(_drawn(rng, one, first), _drawn(rng, other, second), strict=True)
    found = [at or math.inf for at in (crossover(*laws, most) for laws in drawn)]
    low, high = np.quantile(found, (0.025, 0.975), method="nearest")
    low, high = (float(x) if x < math.inf else None for x in (low, high))
    return Crossover(crossover(first, second, most), low, high)


def _drawn(rng: np.random.Generator, points: Points, law: ScalingLaw) -> list[ScalingLaw]:
    T, _, own = (np.asarray(each, float) for each in points)
    weights, fitted = _weights(own, law.spread), _curve(law, T)
    laws = []
    for _ in range(RESAMPLES):
        t = fitted * np.exp(rng.normal(0, np.hypot(own, law.spread)))
        misfits, constants, factors = _fits(EXPONENTS, T, t, weights)
        best = int(misfits.argmin())
        found = constants[best], factors[best], EXPONENTS[best], 0.0, 0.0, law.spread
        laws.append(ScalingLaw(*map(float, found)))
    return laws


def error_of(low: float | None, high: float | None, median: float) -> float | None:
    """The standard error of a median, as a fraction, from its 95 % interval."""
    if low is None or high is None or not math.isfinite(median) or median <= 0:
        return None
    return (high - low) / (2 * 1.96 * median)
