"""A device whose calls cost what a script says, on a clock that only those costs move."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import repeat


class SimulatedDevice:
    """`call()` takes the next of `seconds`, the last one again and again.

    Everything that happens is in `log`, in order: call, flush, synchronize.
    """

    kind = "simulated"
    name = "a made-up device"

    def __init__(self, seconds: Iterable[float], *, flush_seconds: float = 0.0):
        self._script: Iterator[float] = _and_the_last_again(seconds)
        self._flush_seconds = flush_seconds
        self._clock = Fraction(0)  # exact: equal calls take equal times, however late it is
        self.log: list[str] = []

    def call(self) -> None:
        self.log.append("call")
        self._clock += Fraction(next(self._script))

    def now(self) -> float:
        return float(self._clock)

    def record_event(self) -> Fraction:
        return self._clock

    def elapsed(self, start: Fraction, stop: Fraction) -> float:
        return float(stop - start)

    def synchronize(self) -> None:
        self.log.append("synchronize")

    def flush_cache(self) -> None:
        self.log.append("flush")
        self._clock += Fraction(self._flush_seconds)

    def clocks(self) -> float | None:
        return None

    def memory(self, call: Callable[[], object]) -> int:
        call()
        return 0

    def energy(self) -> float | None:
        return None


def _and_the_last_again(seconds: Iterable[float]) -> Iterator[float]:
    last = 0.0
    for last in seconds:
        yield last
    yield from repeat(last)
