"""Laws of timing, on made-up numbers whose truth is known: no clock is read here."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import pytest

from fwpbench.harness.domains import (
    CACHES,
    DOMAINS,
    Cache,
    Domain,
    Sampler,
    asked_domains,
    default_domain,
)
from fwpbench.harness.profiles import PROFILES, Profile
from fwpbench.harness.timing import (
    LONGEST_WARM_UP,
    LOOKS,
    QUOTA,
    WARM_UP_CALLS,
    Timing,
    interval_of_median,
    time_call,
)
from fwpbench.operators.errors import UserError
from tests.simulated_device import SimulatedDevice

#: Long enough for every look, and a warm-up that the three calls are enough for.
PATIENT = Profile("patient", warm_up=0.0, longest=math.inf)


def times(device: SimulatedDevice, profile: Profile) -> Timing:
    return time_call(device.call, device, profile)


def steady(seconds: float) -> list[float]:
    return [seconds]


def noisy(seed: int, sigma: float, rho: float = 0.0) -> Iterator[float]:
    """exp of normal numbers, each like the last one by `rho`; the median is 1."""
    chance, x = random.Random(seed), 0.0
    x = chance.gauss(0, sigma)
    while True:
        yield math.exp(x)
        x = rho * x + (1 - rho**2) ** 0.5 * chance.gauss(0, sigma)


def first(n: int, numbers: Iterator[float]) -> list[float]:
    return [next(numbers) for _ in range(n)]


# The interval of the median


def confidence(n: int, rank: int) -> float:
    """That the median lies between the rank-th smallest and the rank-th largest, exactly."""
    return 1 - 2 * sum(math.comb(n, k) for k in range(rank)) / math.pow(2, n)


def swinging(n: int) -> list[int]:
    """1 to n, small and large in turn: none is like the one before it."""
    return [x for pair in zip(range(1, n + 1), range(n, 0, -1), strict=True) for x in pair][:n]


@pytest.mark.parametrize("n", [*range(6, 60), 79, 80, 160, 320])
def test_the_interval_is_the_narrowest_that_holds_with_95_percent(n: int) -> None:
    interval = interval_of_median(swinging(n))
    assert interval is not None
    low, high = map(int, interval)
    assert low + high == n + 1, "as many below as above"
    assert confidence(n, low) >= 0.95
    assert low + 1 > n - low or confidence(n, low + 1) < 0.95


@pytest.mark.parametrize(("n", "low", "high"), [(6, 1, 6), (9, 2, 8), (20, 6, 15), (40, 14, 27)])
def test_the_ranks_are_those_of_the_tables(n: int, low: int, high: int) -> None:
    assert interval_of_median(swinging(n)) == (low, high)


@pytest.mark.parametrize("n", range(1, 6))
def test_below_six_samples_there_is_no_interval(n: int) -> None:
    assert interval_of_median([1.0] * n) is None


@pytest.mark.parametrize("n", LOOKS)
def test_equal_samples_have_an_interval_of_no_width(n: int) -> None:
    assert interval_of_median([2.0] * n) == (2.0, 2.0)


def test_a_coarse_clock_makes_no_trend() -> None:
    """Samples that are equal say nothing about each other: the ranks stay those of all samples."""
    chance = random.Random(0)
    for n in LOOKS:
        samples = [chance.choice([1.0, 1.0, 1.0, 1.001]) for _ in range(n)]
        assert interval_of_median(samples) is not None
        assert interval_of_median([1.0] * (n - 1) + [2.0]) == (1.0, 1.0)
        assert interval_of_median([2.0] + [1.0] * (n - 1)) == (1.0, 1.0)


def coverage(n: int, rho: float, runs: int) -> float:
    held = 0
    for seed in range(runs):
        interval = interval_of_median(first(n, noisy(seed, 0.3, rho)))
        held += interval is not None and interval[0] <= 1 <= interval[1]
    return held / runs


@pytest.mark.parametrize("n", [20, 40, 80])
def test_the_interval_holds_the_median_of_independent_samples(n: int) -> None:
    assert coverage(n, 0.0, 2000) >= 0.93


def test_the_interval_widens_for_samples_that_follow_each_other() -> None:
    """Unaware of ρ = 0.7 it would hold in some 60 % of the runs."""
    assert coverage(80, 0.7, 1000) >= 0.92


@pytest.mark.parametrize("rho", [0.0, 0.7])
@pytest.mark.parametrize("sigma", [0.01, 0.02, 0.03])
def test_looking_only_now_and_then_keeps_the_promise(rho, sigma, record_property) -> None:
    """The whole procedure: whenever it stopped, the interval holds as often as it says."""
    runs, held, lengths = 1000, 0, set()
    for seed in range(runs):
        timing = times(SimulatedDevice(noisy(seed, sigma, rho)), PATIENT)
        assert timing.low is not None
        assert timing.high is not None
        held += timing.low <= 1 <= timing.high
        lengths.add(len(timing.samples))
    share = held / runs
    said = f"ρ = {rho}, noise {sigma}: {100 * share:.1f} % of {runs} intervals hold the median"
    record_property("coverage", said)
    print(said)
    assert len(lengths) >= 3, "the noise is such that runs stop at several looks"
    assert 0.93 <= share <= 0.97 if rho == 0 else share >= 0.90


def test_a_drift_is_never_settled() -> None:
    """Each sample a thousandth slower than the last: no two of them tell two things."""
    device = SimulatedDevice([1 + n / 1000 for n in range(2 * LOOKS[-1])])
    timing = times(device, PATIENT)
    assert timing.stop_reason == "most samples"
    assert timing.tags == ["few-samples"]


# When sampling stops


def test_steady_calls_settle_at_the_first_look() -> None:
    timing = times(SimulatedDevice(steady(0.01)), PATIENT)
    assert (timing.stop_reason, len(timing.samples)) == ("settled", LOOKS[0])
    assert (timing.median, timing.low, timing.high) == (0.01, 0.01, 0.01)
    assert timing.tags == []


def test_it_settles_at_looks_only() -> None:
    for seed in range(30):
        timing = times(SimulatedDevice(noisy(seed, 0.03)), PATIENT)
        assert len(timing.samples) in LOOKS


def test_noise_that_does_not_settle_ends_with_the_most_samples() -> None:
    timing = times(SimulatedDevice(noisy(0, 1.0)), PATIENT)
    assert (timing.stop_reason, len(timing.samples)) == ("most samples", LOOKS[-1])
    assert timing.unstable


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_the_time_limit_ends_slow_calls(profile: Profile) -> None:
    device = SimulatedDevice(steady(profile.longest / 10))
    timing = times(device, profile)
    assert timing.stop_reason == "time limit"
    assert len(timing.samples) in (10, 11)  # in between lies rounding
    assert timing.tags == ["few-samples"]


@pytest.mark.parametrize("fewest", [1, 3, 7])
@pytest.mark.parametrize("seconds", [0.5, 5.0, 5000.0])
def test_a_call_longer_than_the_limit_ends_and_has_the_fewest_samples(
    fewest: int, seconds: float
) -> None:
    profile = Profile("hasty", warm_up=0.05, longest=0.35, fewest=fewest)
    timing = times(SimulatedDevice(steady(seconds)), profile)
    assert (timing.stop_reason, len(timing.samples)) == ("time limit", fewest)
    assert (timing.low is None) == (fewest < 6)
    assert not timing.unstable


def test_what_is_flushed_counts_towards_the_limit_and_not_towards_the_samples() -> None:
    profile = Profile("hasty", warm_up=0.0, longest=1.0)
    timing = times(SimulatedDevice(steady(0.001), flush_seconds=0.25), profile)
    assert timing.samples == [0.001] * 4


def test_samples_are_kept_raw_and_in_order() -> None:
    seconds = [0.5, 0.5, 0.5, *(1.0 + (n * 7 % 20) / 1000 for n in range(LOOKS[-1]))]
    timing = times(SimulatedDevice(seconds), PATIENT)
    kept = seconds[WARM_UP_CALLS:][: len(timing.samples)]
    assert timing.samples == kept
    assert timing.median == median(kept)


# A cold cache, and warming up


def test_the_cache_is_flushed_and_work_awaited_before_every_sample() -> None:
    device = SimulatedDevice(steady(0.01))
    timing = times(device, PATIENT)
    warm_up = device.log.index("flush")
    sample = ["flush", "synchronize", "call", "synchronize"]
    assert device.log[warm_up:] == sample * len(timing.samples)
    assert device.log[warm_up - 1] == "synchronize"


@pytest.mark.parametrize(
    ("seconds", "calls"),
    [
        (1e-3, 200),  # 0.2 s of short calls
        (0.15, WARM_UP_CALLS),  # never fewer than three
        (LONGEST_WARM_UP / 2, WARM_UP_CALLS),
        (LONGEST_WARM_UP * 2, 1),  # unless they are very long
    ],
)
def test_it_warms_up_for_three_calls_and_the_profiles_seconds(seconds: float, calls: int) -> None:
    device = SimulatedDevice(steady(seconds))
    times(device, Profile("p", warm_up=0.2, longest=0.0))
    assert device.log[: device.log.index("flush")].count("call") in (calls, calls + 1)


def test_what_warms_up_is_no_sample() -> None:
    timing = times(SimulatedDevice([100.0, 0.01, 0.01, 0.01]), Profile("p", 0.0, 0.1))
    assert max(timing.samples) < 1


# Unstable


def made(samples: list[float]) -> Timing:
    low, high = interval_of_median(samples) or (None, None)
    return Timing(samples, median(samples), low, high, "time limit")


@pytest.mark.parametrize("n", [3, 6, 19, 20, 80])
def test_unstable_is_said_only_of_enough_samples(n: int) -> None:
    wild = [1.0 if k % 2 else 2.0 for k in range(n)]
    assert made(wild).unstable == (n >= LOOKS[0])
    assert made(wild).tags == ([] if n >= LOOKS[0] else ["few-samples"])


def test_unstable_is_beyond_ten_percent() -> None:
    """Twenty samples in equal steps: the interval is the 6th to the 15th, nine steps."""
    for half_width, unstable in ((0.09, False), (0.11, True)):
        step = 2 * half_width / 9
        samples = [1 + step * (k - 9.5) for k in range(20)]
        random.Random(1).shuffle(samples)
        assert made(samples).unstable == unstable


def test_what_comes_before_and_after_a_call_is_not_timed() -> None:
    """Before every call, those of the warm-up too; after every timed one, with what it returned."""
    device, told = SimulatedDevice(steady(1.0)), []
    results = iter(range(1000))

    def call() -> int:
        device.call()
        told.append("call")
        return next(results)

    profile = Profile("short", warm_up=0.0, longest=0.0)
    timing = time_call(call, device, profile, lambda: told.append("before"), told.append)
    assert told[: 2 * WARM_UP_CALLS] == ["before", "call"] * WARM_UP_CALLS
    timed = told[2 * WARM_UP_CALLS :]
    assert timed == [x for n in range(len(timing.samples)) for x in ("before", "call", 3 + n)]


# Domains

#: Of one call: what launching takes, the device's work, gaps between kernels, and what a cold cache
#: adds, all in seconds. Launching long after and long before the device is done.
COSTS = [
    (100e-6, 400e-6, 50e-6, 120e-6),
    (5e-3, 200e-6, 10e-6, 60e-6),
    (5e-6, 3e-3, 0.0, 500e-6),
]
#: So many buffers take turns, and one fewer stays in the cache.
BUFFERS = 4


def launching(host: float, work: float, gap: float, cold: float, **more: Any) -> SimulatedDevice:
    return SimulatedDevice(
        [work],
        host_seconds=host,
        gap_seconds=gap,
        cold_seconds=cold,
        cached_buffers=BUFFERS - 1,
        kernels=[("fwp_a", 0.75), ("copy", 0.25)],
        **more,
    )


def in_domain(
    device: SimulatedDevice, domain: Domain, cache: Cache, profile: Profile = PATIENT
) -> Timing:
    """Four buffers that take turns where the cache shall be cold, else one."""
    turns = BUFFERS if cache == "cold" else 1
    places = itertools.cycle(range(turns))
    if domain != "throughput":
        return time_call(
            lambda: device.call(next(places)), device, profile, domain=domain, cache=cache
        )
    many = 8

    def batch() -> None:
        for n in range(many):
            device.call(n % turns)

    captured = device.graph(batch)
    return time_call(
        batch if isinstance(captured, str) else captured,
        device, profile, domain=domain, cache=cache, calls=many,
        hide_launches=not isinstance(captured, str),
    )  # fmt: skip


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("costs", COSTS, ids=str)
def test_each_domain_is_recovered_from_scripted_costs(
    costs: tuple[float, ...], cache: Cache
) -> None:
    """Within 2 %, whatever takes longer, the host or the device; and none is another."""
    host, work, gap, cold = costs
    on_device = work + (cold if cache == "cold" else 0.0)
    truth = {
        "call": host + on_device + gap,
        "device": on_device + gap,
        "kernels": on_device,
        "throughput": on_device + gap,
    }
    for domain in DOMAINS:
        timing = in_domain(launching(*costs), domain, cache)
        assert timing.median == pytest.approx(truth[domain], rel=0.02), domain
        assert not timing.flagged
        assert "launch-bound" not in timing.tags


@pytest.mark.parametrize("costs", COSTS, ids=str)
def test_what_cannot_be_captured_is_as_fast_as_the_slower_of_host_and_device(
    costs: tuple[float, ...],
) -> None:
    host, work, gap, _ = costs
    timing = in_domain(launching(*costs, capturable=False), "throughput", "warm")
    # Of eight calls, either the first launch or the last work is not hidden by the others.
    slower, other = max(host, work + gap), min(host, work + gap)
    assert slower <= timing.median <= slower + other / 8 + 1e-9


def test_without_a_spin_the_device_would_be_charged_for_launching() -> None:
    """The law above can fail: events around an unhidden launch tell the host's time."""
    host, work, gap, _ = COSTS[1]
    device = launching(*COSTS[1])
    sampler = Sampler(device, "device")
    assert sampler.launch_bound
    assert sampler.sample(device.call)[0] > host > 10 * (work + gap)


def test_a_call_that_waits_for_its_results_is_launch_bound() -> None:
    """No spin hides what the host does after it waited: the time is kept, with a tag."""
    device = launching(*COSTS[0])

    def call() -> None:
        device.call()
        device.synchronize()
        device.call()

    timing = time_call(call, device, PATIENT, domain="device", cache="warm")
    assert timing.tags == ["launch-bound"]
    assert timing.median > sum(COSTS[0][:3])


def test_a_cpu_is_timed_by_calls_alone() -> None:
    device = SimulatedDevice(steady(0.01))
    assert default_domain(device) == "call"
    assert default_domain(launching(*COSTS[0])) == "device"
    assert asked_domains(device, ["all"]) == (("call", "warm"),)
    assert asked_domains(launching(*COSTS[0]), ["device"]) == (("device", "warm"),)
    assert len(asked_domains(launching(*COSTS[0]), ["all"])) == 7
    with pytest.raises(UserError, match="nothing is timed but call"):
        asked_domains(device, ["kernels"])
    with pytest.raises(UserError, match="Did you mean 'device'"):
        asked_domains(device, ["devise"])


# Clocks


def waking(seconds: float) -> float:
    """A clock that needs a second and a half to be at full speed."""
    return min(1.0, 0.4 + 0.4 * seconds)


def test_it_warms_up_until_the_clock_is_stable() -> None:
    device = SimulatedDevice(steady(0.01), speed=waking)
    timing = times(device, PATIENT)
    assert timing.clock == pytest.approx(1e9, rel=0.02)
    assert timing.median == pytest.approx(0.01, rel=0.02)


def test_it_does_not_wait_for_ever_for_a_stable_clock() -> None:
    chance = random.Random(0)
    device = SimulatedDevice(steady(0.01), speed=lambda _: chance.uniform(0.5, 1.0))
    times(device, Profile("p", warm_up=0.0, longest=0.1, longest_settling=0.3))
    spent = device.log.index("flush") // 2  # a call and a wait each
    assert spent <= 0.3 / 0.01 + 1


def dropping(low: float, since: float, lasting: float, every: float) -> Callable[[float], float]:
    """A clock that falls to `low` for so long, again and again."""
    return lambda t: low if t >= since and (t - since) % every < lasting else 1.0


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.0])
def test_a_drop_of_the_clock_neither_empties_nor_biases_a_result(share: float) -> None:
    """30 % slower, for a part of the time or, from some sample on, for ever."""
    speed = dropping(0.7, since=0.15, lasting=share, every=1.0)
    device = SimulatedDevice(noisy(0, 0.01), speed=lambda t: speed(t / 100))
    timing = times(device, Profile("p", warm_up=0.0, longest=100.0, fewest=2))
    assert timing.samples
    assert timing.median == pytest.approx(1, rel=0.01)
    assert timing.flagged
    assert {flag for _, flag, _ in timing.flagged} == {"throttled"}
    assert len(timing.flagged) <= QUOTA
    assert not timing.throttled
    # Nothing is dropped: what was taken is either a sample or flagged, and each place is told.
    places = [place for place, _, _ in timing.flagged]
    assert len(set(places)) == len(places)
    assert max(places) < len(places) + len(timing.samples)
    assert max(timing.samples) < 1.1


def test_unflagged_such_a_drop_would_bias_the_result() -> None:
    """The law above can fail: the same device, whose clock nobody can read."""
    speed = dropping(0.7, since=0.15, lasting=0.9, every=1.0)
    device = SimulatedDevice(noisy(0, 0.01), speed=lambda t: speed(t / 100))
    device.clocks = lambda: None  # type: ignore[method-assign]
    timing = times(device, Profile("p", warm_up=0.0, longest=100.0, fewest=2))
    assert timing.median > 1.3


def test_a_case_that_is_slow_from_its_first_call_is_held_against_the_runs_clock() -> None:
    """All of its samples count, because there are no others, and it is untrusted."""
    device = SimulatedDevice(steady(0.01), speed=lambda t: 1.0 if t < 1 else 0.7)
    profile = Profile("p", warm_up=0.0, longest=0.5)
    assert not times(device, profile).throttled
    device.call()
    while device.now() < 1:
        device.call()
    timing = times(device, profile)
    assert timing.throttled
    assert timing.samples == [seconds for _, _, seconds in timing.flagged]
    assert timing.stop_reason == "quota of repeats"
