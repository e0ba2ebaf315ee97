"""What differs from process to process is found, recorded, and in the interval: made-up times."""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import replace
from itertools import count

import pytest

from fwpbench.harness.comparison import between_processes, changes, samples_of
from fwpbench.harness.processes import Repeated, spread_of, together
from fwpbench.harness.profiles import PROFILES, Profile
from fwpbench.harness.records import from_line, to_line
from fwpbench.harness.timing import time_call
from tests.simulated_device import SimulatedDevice
from tests.test_compare import record
from tests.test_timing import noisy

#: Some thirty samples: of the made-up time, a second each.
BRIEF = Profile("brief", warm_up=0.0, longest=30.0)


def process(seed: int, between: float, within: float) -> list[float]:
    """The samples of a process on a device that draws a factor for each, of median 1."""
    factor = math.exp(random.Random(seed).gauss(0, between))
    device = SimulatedDevice(factor * x for x in noisy(seed + 10**6, within))
    return time_call(device.call, device, BRIEF).samples


def processes(run: int, n: int, between: float, within: float) -> list[list[float]]:
    return [process(1000 * run + each, between, within) for each in range(n)]


@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize(("between", "within"), [(0.03, 0.01), (0.03, 0.05), (0.0, 0.02)])
def test_the_interval_holds_the_truth_as_often_as_it_says(n, between, within, record_property):
    runs = 400
    held = alone = 0
    for run in range(runs):
        samples = processes(run, n, between, within)
        found = spread_of(samples)
        held += found.low <= 1 <= found.high
        pooled = changes({"x": ([1.0] * 40, [x for each in samples for x in each])})["x"]
        alone += pooled.low is not None and pooled.low <= 1 <= pooled.high
    said = f"n = {n}, between {between}, within {within}: {100 * held / runs:.1f} % hold the truth"
    record_property("coverage", said)
    print(f"{said}; of all samples taken together {100 * alone / runs:.1f} %")
    assert 0.92 <= held / runs <= 0.98


@pytest.mark.parametrize(("between", "within"), [(0.03, 0.01), (0.05, 0.05), (0.10, 0.02)])
def test_the_part_between_processes_is_found(between, within):
    """Within 10 %, on the average of many: one run of few processes cannot know it so well."""
    found = [spread_of(processes(run, 5, between, within)).between for run in range(400)]
    size = math.sqrt(statistics.fmean(each**2 for each in found))
    assert size == pytest.approx(between, rel=0.10)


def test_where_processes_do_not_differ_little_is_found():
    found = [spread_of(processes(run, 5, 0.0, 0.02)) for run in range(200)]
    assert statistics.median(each.between for each in found) < 0.004


def of_processes(run: int, n: int, between: float, factor: float = 1.0):
    made = [
        record(0, [factor * x for x in samples]) for samples in processes(run, n, between, 0.01)
    ]
    return together(made)


def test_the_record_has_all_samples_and_the_wider_interval():
    one = of_processes(1, 3, 0.05)
    read = from_line(to_line(one))
    assert read.key == record(0, [1.0]).key
    assert len(read.samples["time"]) == sum(read.detail["processes"]["samples"])
    time, said = read.metrics["time"], read.detail["processes"]
    assert time.low < min(said["medians"])
    assert max(said["medians"]) < time.high
    assert said["between"] > 0


def test_processes_that_differ_much_are_unstable():
    made = [record(0, [1.0] * 20), record(0, [2.0] * 20), record(0, [1.5] * 20)]
    one = together(made)
    assert one.status == "unstable"
    assert "3 processes" in one.reason


def test_the_worst_process_speaks_for_all():
    bad = replace(record(0, [1.0] * 20), status="throttled", reason="it was hot")
    one = together([record(0, [1.0] * 20), bad, record(0, [1.0] * 20)])
    assert (one.status, one.reason) == ("throttled", "it was hot")


@pytest.mark.parametrize(("factor", "most", "least"), [(1.0, 0.01, 0.0), (1.3, 1.0, 0.95)])
def test_compare_takes_the_interval_of_the_processes(factor, most, least):
    """Two runs of the same code whose processes differ by 3 % are not told to differ."""
    runs = 200
    pairs = {
        str(run): (of_processes(2 * run, 5, 0.03), of_processes(2 * run + 1, 5, 0.03, factor))
        for run in range(runs)
    }
    samples = {n: (samples_of(a, "time"), samples_of(b, "time")) for n, (a, b) in pairs.items()}
    between = {
        n: (between_processes(a, "time"), between_processes(b, "time"))
        for n, (a, b) in pairs.items()
    }
    told = [
        each.verdict in ("faster", "slower") for each in changes(samples, 0.01, between).values()
    ]
    assert least <= sum(told) / runs <= most
    if factor == 1.0:
        naive = [each.verdict in ("faster", "slower") for each in changes(samples).values()]
        assert sum(naive) > most * runs, "samples taken together would say it too often"


class Processes:
    """Stands for a worker: each fresh one is slower than the last."""

    def __init__(self, statuses: dict[int, str] | None = None):
        self.number, self.statuses, self.tasks = 0, statuses or {}, count()

    def facts(self):
        return {"isolation": 1}

    def close(self):
        self.number += 1

    def __call__(self, task, seconds=None):
        status = self.statuses.get(self.number, "ok")
        samples = [1.0 + 0.01 * self.number] * 20
        one = replace(record(0, samples, status), seconds=1.0)
        return one if status == "ok" else replace(one, samples={}, metrics={})


class Timed:
    suite = "speed"


class Untimed:
    suite = "agreement"


def test_each_timed_case_has_its_fresh_processes_and_others_have_none():
    worker = Processes()
    repeated = Repeated(worker, frozenset({"speed"}), 3)
    one = repeated(Timed())
    assert worker.number == 3
    assert one.detail["processes"]["medians"] == pytest.approx([1.01, 1.02, 1.03])
    assert one.seconds == 3.0
    assert "processes" not in repeated(Untimed()).detail
    assert worker.number == 3
    assert repeated.facts()["processes a case"] == 3


def test_what_fails_in_one_process_is_the_record():
    one = Repeated(Processes({2: "timeout"}), frozenset({"speed"}), 3)(Timed())
    assert one.status == "timeout"
    assert not one.metrics


def test_the_full_profile_times_in_three_processes():
    assert [profile.processes for profile in PROFILES.values()] == [1, 1, 3]
