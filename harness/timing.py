"""How long a call takes: raw samples, the interval of their median, and why sampling stopped."""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from fwpbench.harness.device import Device
from fwpbench.harness.domains import Cache, Domain, Sampler, default_domain
from fwpbench.harness.profiles import Profile

#: Looking at an interval whenever it might be narrow makes it lie; it is looked at only here.
LOOKS = (20, 40, 80, 160, 320)
#: Half of the interval, as a fraction of the median: settled below, unstable above.
SETTLED, UNSTABLE = 0.01, 0.10
WARM_UP_CALLS = 3
LONGEST_WARM_UP = 3.0

#: A clock is stable when its readings of the last so many seconds, and the last five, lie so close.
STABLE, WINDOW, READINGS = 0.02, 0.1, 5
#: A sample is throttled where its clock is lower, by this fraction, than when warming up had ended,
#: or than this part of the highest clock at which any case of the run had warmed up.
DROP, LOWEST = 0.10, 0.75
#: Samples that are flagged are taken again, up to so many of them.
QUOTA = 60

T = TypeVar("T")
StopReason = Literal["settled", "most samples", "time limit", "quota of repeats"]
#: Why a sample does not count: the clock had dropped, or the host was too late to launch it.
Flag = Literal["throttled", "late"]


@dataclass(frozen=True)
class Timing:
    """Seconds. `low` and `high` bound the median with 95 % or more; None below 6 samples that count
    as independent.

    `flagged` are samples that do not count: their place among all that were taken, why, and their
    seconds. Where too few are left without them, all count, and `throttled` says so if that is why.
    """

    samples: list[float]
    median: float
    low: float | None
    high: float | None
    stop_reason: StopReason
    flagged: list[tuple[int, Flag, float]] = field(default_factory=list)
    throttled: bool = False
    #: In hertz, when warming up had ended.
    clock: float | None = None
    launch_bound: bool = False

    @property
    def tags(self) -> list[str]:
        few = len(self.samples) < LOOKS[0] or self.low is None
        tags = {"few-samples": few, "launch-bound": self.launch_bound}
        return [tag for tag, true in tags.items() if true]

    @property
    def unstable(self) -> bool:
        """Whether the interval reaches beyond ± 10 %; unknown with few samples, so not then."""
        if self.low is None or self.high is None or "few-samples" in self.tags:
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
    *,
    domain: Domain | None = None,
    cache: Cache = "cold",
    calls: int = 1,
    hide_launches: bool | None = None,
) -> Timing:
    """Time `call` in one domain (domains.py) again and again, until `_stop` gives a reason.

    `before` comes before every call, those of the warm-up too, and `after` is given what each timed
    call returned; neither is timed. `call` stands for so many `calls`. Launches are queued ahead in
    the domain `device`, and where `hide_launches` says so.
    """
    sampler = Sampler(device, domain or default_domain(device), calls)
    launching, clock = _warm_up(call, device, profile, before)
    if sampler.domain == "device" if hide_launches is None else hide_launches:
        before()
        sampler.hide_launches(call, launching)
    taken: list[float] = []
    flags: dict[int, Flag] = {}
    kept: list[float] = []
    slowest = max((1 - DROP) * (clock or 0.0), LOWEST * (device.best_clock or 0.0))
    rate = clock
    started = device.now()
    while True:
        before()
        if cache == "cold":
            device.flush_cache()
        device.synchronize()
        seconds, result, late = sampler.sample(call)
        after(result)  # freed after the clock stopped
        rate_before, rate = rate, device.clocks()
        if flag := _flag(late, (rate_before, rate), slowest):
            flags[len(taken)] = flag
        else:
            kept.append(seconds)
        taken.append(seconds)
        if reason := _stop(kept, len(flags), device.now() - started, profile):
            break
    if scarce := len(kept) < profile.fewest:
        kept = taken
    interval = interval_of_median(kept)
    low, high = interval if interval is not None else (None, None)
    return Timing(
        kept,
        statistics.median(kept),
        low,
        high,
        reason,
        [(place, flag, taken[place]) for place, flag in flags.items()],
        scarce and "throttled" in flags.values(),
        clock,
        sampler.launch_bound or (scarce and "late" in flags.values()),
    )


def _warm_up(
    call: Callable[[], object], device: Device, profile: Profile, before: Callable[[], object]
) -> tuple[float, float | None]:
    """How long launching the last call took, and the clock once it is stable."""
    started = device.now()
    calls, launching, readings = 0, 0.0, list[tuple[float, float]]()
    while True:
        before()
        launched = device.now()
        call()
        launching = device.now() - launched
        device.synchronize()
        calls += 1
        if (clock := device.clocks()) is not None:
            readings.append((device.now(), clock))
        spent = device.now() - started
        if spent > LONGEST_WARM_UP:
            break
        settled = clock is None or _stable(readings) or spent >= profile.longest_settling
        if calls >= WARM_UP_CALLS and spent >= profile.warm_up and settled:
            break
    if not readings:
        return launching, None
    clock = statistics.median(rate for _, rate in readings[-READINGS:])
    device.best_clock = max(device.best_clock or 0.0, clock)
    return launching, clock


def _stable(readings: Sequence[tuple[float, float]]) -> bool:
    last = readings[-1][0]
    if len(readings) < READINGS or last - readings[0][0] < WINDOW:
        return False
    recent = [rate for when, rate in readings if when >= last - WINDOW]
    recent += [rate for _, rate in readings[-READINGS:]]
    return max(recent) - min(recent) <= STABLE * max(recent)


def _flag(late: bool, rates: Sequence[float | None], slowest: float) -> Flag | None:
    """`rates` are the clock's before and after the call: it may have dropped in between."""
    if any(rate is not None and rate < slowest for rate in rates):
        return "throttled"
    return "late" if late else None


def _stop(samples: list[float], flagged: int, spent: float, profile: Profile) -> StopReason | None:
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
    if flagged >= QUOTA or (flagged >= profile.fewest and spent >= 2 * profile.longest):
        return "quota of repeats"
    return None
