"""Logarithmic axes: the range of the numbers, ticks where people expect them, scaled labels."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Unit = Literal["s", "B", "1", "count"]

#: How vega writes a tick; `datum.value` is the number.
LABELS: dict[str, str] = {
    "s": "datum.value >= 0.9995 ? format(datum.value, '~g') + ' s'"
    " : datum.value >= 0.9995e-3 ? format(datum.value * 1e3, '.3~g') + ' ms'"
    " : format(datum.value * 1e6, '.3~g') + ' µs'",
    "J": "datum.value >= 0.9995 ? format(datum.value, '~g') + ' J'"
    " : format(datum.value * 1e3, '.3~g') + ' mJ'",
    "B": "datum.value >= 1073741824 ? format(datum.value / 1073741824, '~g') + ' GiB'"
    " : datum.value >= 1048576 ? format(datum.value / 1048576, '~g') + ' MiB'"
    " : datum.value >= 1024 ? format(datum.value / 1024, '~g') + ' KiB'"
    " : format(datum.value, '~g') + ' B'",
    "count": "datum.value >= 1048576 ? format(datum.value / 1048576, '~g') + 'M'"
    " : datum.value >= 10240 && datum.value % 1024 === 0"
    " ? format(datum.value / 1024, '~g') + 'K' : format(datum.value, ',~g')",
    "1": "datum.value >= 1e-3 && datum.value < 1e5 ? format(datum.value, ',~g')"
    " : format(datum.value, '.0e')",
}
MOST_TICKS = 7
SMALLEST, LARGEST = 1e-307, 1e307


@dataclass(frozen=True)
class Axis:
    title: str
    unit: Unit
    low: float
    high: float
    ticks: list[float]

    @property
    def label(self) -> str:
        return LABELS[self.unit]


def logarithmic(title: str, unit: Unit, values: Iterable[float | None]) -> Axis:
    """An axis over the positive values, with a little room at both ends."""
    positive = [value for value in values if value is not None and 0 < value < math.inf] or [1.0]
    low, high = (min(max(end, 2 * SMALLEST), LARGEST / 2) for end in (min(positive), max(positive)))
    if high < 1.5 * low:
        low, high = low / 1.6, high * 1.6
    room = math.exp(min(0.05 * _span(low, high), 2.0))
    low, high = max(low / room, SMALLEST), min(high * room, LARGEST)
    return Axis(
        title, unit, low, high, (_doubles if unit in ("B", "count") else _decades)(low, high)
    )


def _span(low: float, high: float) -> float:
    """log(high / low), also where the quotient is no float."""
    return math.log(high) - math.log(low)


def _powers(low: float, high: float, base: int) -> list[float]:
    first, last = math.ceil(math.log(low, base)), math.floor(math.log(high, base))
    step = max(1, math.ceil((last - first + 1) / MOST_TICKS))
    return [float(base) ** power for power in range(first, last + 1, step)]


def _doubles(low: float, high: float) -> list[float]:
    """Powers of 2; where these are too few, multiples of one, at most eight."""
    ticks = _powers(low, high, 2)
    if len(ticks) > 1:
        return ticks
    step = 2.0 ** math.ceil(math.log2((high - low) / MOST_TICKS))
    return [place * step for place in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _decades(low: float, high: float) -> list[float]:
    if _span(low, high) >= math.log(100):
        return _powers(low, high, 10)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [float(f"{size}e{power}") for power in exponents for size in (1, 2, 5)]
    within = [tick for tick in ticks if low <= tick <= high]
    return within if len(within) > 2 else _evenly(low, high)


def _evenly(low: float, high: float) -> list[float]:
    """Where a decade's 1, 2 and 5 are too few: multiples of one of them, at most eight."""
    exponent = math.floor(math.log10(high - low)) - 1
    steps = [float(f"{size}e{power}") for power in (exponent, exponent + 1) for size in (1, 2, 5)]
    step = next((one for one in steps if (high - low) / one <= MOST_TICKS), steps[-1])
    multiples = range(math.ceil(low / step), math.floor(high / step) + 1)
    return [float(f"{place * step:.12g}") for place in multiples]
