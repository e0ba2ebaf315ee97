"""The largest size that fits: doubled until one does not, then halved in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

#: The answer is exact to this part of itself.
RESOLUTION = 1 / 16


@dataclass(frozen=True)
class Longest:
    """`fits` is the largest that did, 0 where none; `fails` the smallest that did not, or None."""

    fits: int
    fails: int | None


def longest(fits: Callable[[int], bool], first: int, most: int) -> Longest:
    """From `first` on, up to `most`; where `first` does not fit, below it."""
    good, bad = 0, None
    size = first
    while bad is None and size <= most:
        if fits(size):
            good, size = size, 2 * size
        else:
            bad = size
    while bad is not None and bad - good > max(1, RESOLUTION * good):
        middle = (good + bad) // 2
        if fits(middle):
            good = middle
        else:
            bad = middle
    return Longest(good, bad)
