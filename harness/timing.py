"""How long a call takes: raw samples, the interval of their median, and why sampling stopped."""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from fwpbench.harness.device import Device
from fwpbench.harness.profiles import Profile

#: Looking at an interval whenever it might be narrow makes it lie; it is looked at only here.
LOOKS = (20, 40, 80, 160, 320)
#: Half of the interval, as a fraction of the median: settled below, unstable above.
SETTLED, UNSTABLE = 0.01, 0.10
WARM_UP_CALLS = 3
LONGEST_WARM_UP = 3.0

T = TypeVar("T")
StopReason = Literal["settled", "most samples", "time limit"]


@dataclass(frozen=True)
class Timing:
    """Seconds. `low` and `high` bound the median with 95 % or more; None below 6 samples that count
    as independent."""

    samples: list[float]
    median: float
    low: float | None
    high: float | None
    stop_reason: StopReason

    @property
    def tags(self) -> list[str]:
        few = len(self.samples) < LOOKS[0] or self.low is None
        return ["few-samples"] if few else []

    @property
    def unstable(self) -> bool:
        """Whether the interval reaches beyond ± 10 %; unknown with few samples, so not then."""
        if self.low is None or self.high is None or self.tags:
            return False
        return (self.high - self.low) / 2 > UNSTABLE * self.median


def interval_of_median(
    samples: Sequence[float], confidence: float = 0.95
) -> tuple[float, float] | None:
    """The order statistics that hold the median with at least `confidence`, or None below 6.

    Exact for independent samples of any distribution: between the r-th smallest and r-th largest
    lies the median with probability 1 − 2 P(Binomial(n, ½) < r). With autocorrelated samples the
    ranks are those of the effective number of samples.
    """
    n = len(samples)
    effective = max(1, math.floor(n / _autocorrelation_time(samples)))
    rank = _rank(effective, confidence)
    if rank is None:
        return None
    # The same quantiles, in the longer list.
    outer = max(1, math.floor(rank * n / effective))
    ordered = sorted(samples)
    return ordered[outer - 1], ordered[n - outer]


def _rank(n: int, confidence: float) -> int | None:
    tail, rank = 0.0, 0
    for k in range(n // 2):
        tail += math.comb(n, k) / 2**n
        if 1 - 2 * tail < confidence:
            break
        rank = k + 1
    return rank or None


def _autocorrelation_time(samples: Sequence[float]) -> float:
    """(1 + ρ) / (1 − ρ) of the ranks at lag 1; 1 where they are not correlated.

    ρ of few samples comes out too small, by (1 + 3 ρ) / n (Kendall 1954): that is put back, where
    it is more than half of what chance shows. Without it intervals after 20 samples of an AR(1)
    noise with ρ = 0.7 held the median in 82 % of the runs.
    """
    n = len(samples)
    if n < LOOKS[0] or min(samples) == max(samples):
        return 1.0
    # Equal samples, as a coarse clock gives them, share a rank: in the order taken they would rise.
    ordered = sorted(samples)
    series = [bisect_left(ordered, x) + bisect_right(ordered, x) for x in samples]
    if min(series[1:]) == max(series[1:]) or min(series[:-1]) == max(series[:-1]):
        return 1.0
    rho = statistics.correlation(series[:-1], series[1:])
    if rho < 0.5 / math.sqrt(n):
        return 1.0
    rho = min((n * rho + 1) / (n - 3), 0.97)
    return (1 + rho) / (1 - rho)


def time_call(
    call: Callable[[], T],
    device: Device,
    profile: Profile,
    before: Callable[[], object] = lambda: None,
    after: Callable[[T], object] = lambda result: None,
) -> Timing:
    """Time `call` again and again, each time with a cold cache, until `_stop` gives a reason.

    `before` comes before every call, those of the warm-up too, and `after` is given what each timed
    call returned; neither is timed.
    """
    started = device.now()
    calls = 0
    while calls < WARM_UP_CALLS or device.now() - started < profile.warm_up:
        before()
        call()
        device.synchronize()
        calls += 1
        if device.now() - started > LONGEST_WARM_UP:
            break
    device.synchronize()
    samples: list[float] = []
    started = device.now()
    while True:
        before()
        samples.append(_sample(call, device, after))
        if reason := _stop(samples, device.now() - started, profile):
            break
    interval = interval_of_median(samples)
    low, high = interval if interval is not None else (None, None)
    return Timing(samples, statistics.median(samples), low, high, reason)


def _sample(call: Callable[[], T], device: Device, after: Callable[[T], object]) -> float:
    device.flush_cache()
    device.synchronize()
    start = device.record_event()
    result = call()
    stop = device.record_event()
    seconds = device.elapsed(start, stop)
    after(result)  # freed after the clock stopped
    return seconds


def _stop(samples: list[float], spent: float, profile: Profile) -> StopReason | None:
    # Twenty samples that follow each other do not yet tell how much they do.
    early = len(samples) == LOOKS[0] and _autocorrelation_time(samples) > 1
    if len(samples) in LOOKS and not early and (interval := interval_of_median(samples)):
        low, high = interval
        if (high - low) / 2 <= SETTLED * statistics.median(samples):
            return "settled"
    if len(samples) >= LOOKS[-1]:
        return "most samples"
    if spent >= profile.longest and len(samples) >= profile.fewest:
        return "time limit"
    return None
