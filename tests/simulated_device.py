"""A device whose calls cost what a script says, on a clock that only those costs move."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import repeat

from fwpbench.harness.domains import DOMAINS, Domain, Kernel


class Moment(float):
    """A time whose differences are exact."""

    def __new__(cls, exact: Fraction) -> Moment:
        moment = super().__new__(cls, exact)
        moment.exact = exact
        return moment

    def __sub__(self, other: float) -> float:
        return float(self.exact - getattr(other, "exact", Fraction(other)))


class SimulatedDevice:
    """`call(buffer)` takes the next of `seconds`, the last one again and again.

    Everything that happens is in `log`, in order: call, flush, synchronize, spin.

    By default the caller waits for a call, as on a CPU. With `host_seconds` it only launches it,
    which takes the host so long, and the device works behind its back, as a GPU does. Beyond its
    seconds a call costs `cold_seconds` where its buffer is not among the last `cached_buffers` that
    were read, and `gap_seconds` between its kernels, whose shares of its seconds are `kernels`.
    `speed(seconds)` is the clock at that time, as a fraction of the full one, which is 1 GHz; all
    costs are at full speed.
    """

    kind = "simulated"
    name = "a made-up device"

    def __init__(
        self,
        seconds: Iterable[float],
        *,
        flush_seconds: float = 0.0,
        host_seconds: float | None = None,
        cold_seconds: float = 0.0,
        gap_seconds: float = 0.0,
        cached_buffers: int = 1,
        kernels: Sequence[tuple[str, float]] = (("made_up", 1.0),),
        speed: Callable[[float], float] | None = None,
        capturable: bool = True,
        rotates: int = 0,
    ):
        self._script: Iterator[float] = _and_the_last_again(seconds)
        self._flush_seconds, self._host = flush_seconds, host_seconds
        self._cold, self._gap = cold_seconds, gap_seconds
        self._kernels, self._speed, self._capturable = kernels, speed, capturable
        self._cached, self._most_cached = list[int](), cached_buffers
        # Exact: equal calls take equal times, however late it is.
        self._now = Fraction(0)  # of the host
        self._free = Fraction(0)  # when the device will have done what it was given
        self._captured: list[int] | None = None
        self._ran: list[Kernel] = []
        self.domains: tuple[Domain, ...] = ("call",) if host_seconds is None else DOMAINS
        self.rotates = rotates
        self.best_clock: float | None = None
        self.log: list[str] = []

    def call(self, buffer: int = 0) -> None:
        if self._captured is not None:
            self._captured.append(buffer)
            return
        self.log.append("call")
        self._now += Fraction(self._host or 0)
        self._work(buffer)
        if self._host is None:
            self.wait()

    def _work(self, buffer: int) -> None:
        start = max(self._now, self._free)
        speed = 1 if self._speed is None else self._speed(float(start))
        seconds = Fraction(next(self._script))
        if self._cold:
            seconds += 0 if buffer in self._cached else Fraction(self._cold)
            self._cached = [each for each in self._cached if each != buffer]
            self._cached = [*self._cached, buffer][-self._most_cached :]
        seconds /= Fraction(speed)
        self._ran = [(name, float(seconds) * share) for name, share in self._kernels]
        self._free = start + seconds + Fraction(self._gap)

    def wait(self) -> None:
        self._now = max(self._now, self._free)

    def now(self) -> float:
        return Moment(self._now)

    def record_event(self) -> Fraction:
        return max(self._now, self._free)

    def elapsed(self, start: Fraction, stop: Fraction) -> float:
        self._now = max(self._now, stop)
        return float(stop - start)

    def passed(self, event: Fraction) -> bool:
        return event <= self._now

    def synchronize(self) -> None:
        self.log.append("synchronize")
        self.wait()

    def spin(self, seconds: float) -> None:
        self.log.append("spin")
        if self._host is not None:
            self._free = max(self._now, self._free) + Fraction(seconds)

    def kernels(self, call: Callable[[], object]) -> tuple[list[Kernel], object]:
        result = call()
        self.wait()
        return self._ran, result

    def graph(self, call: Callable[[], object]) -> Callable[[], object] | str:
        if not self._capturable:
            return "made up to refuse"
        self._captured = []
        result = call()
        buffers, self._captured = self._captured, None

        def replay() -> object:
            self._now += Fraction(self._host or 0)
            for buffer in buffers:
                self._work(buffer)
            return result

        return replay

    def flush_cache(self) -> None:
        self.log.append("flush")
        self._cached = []
        self._free = max(self._now, self._free) + Fraction(self._flush_seconds)
        if self._host is None:
            self.wait()

    def clocks(self) -> float | None:
        return None if self._speed is None else 1e9 * self._speed(float(self._now))

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
