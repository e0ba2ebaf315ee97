"""Energy on a made-up counter whose truth is known, and a reason where there is no counter."""

from __future__ import annotations

import random
import statistics
from pathlib import Path

import pytest

from fwpbench.harness.device import CpuDevice
from fwpbench.harness.energy import WINDOW, Counter, Energy, _rapl, counter_of, measure
from fwpbench.harness.profiles import PROFILES
from fwpbench.harness.suite import Setting
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.suites import SUITES, timed


class Meter:
    """A device that takes `idle` watts always and `joules` more a call, seen every `step` s."""

    def __init__(self, idle: float, joules: float, seconds: float, step: float, seed: int = 0):
        self.idle, self.joules, self.seconds, self.step = idle, joules, seconds, step
        self.clock, self.taken, self.seen, self.at = 0.0, 1000.0, 1000.0, 0.0
        self.noise = random.Random(seed)

    def spend(self, seconds: float, joules: float) -> None:
        self.clock += seconds
        self.taken += self.idle * seconds + joules
        if self.clock - self.at >= self.step:
            self.at, self.seen = self.clock, self.taken

    def call(self) -> None:
        self.spend(self.seconds, self.joules * self.noise.uniform(0.98, 1.02))

    def rest(self, seconds: float) -> None:
        for _ in range(100):
            self.spend(seconds / 100, 0.0)

    def measured(self, windows: int, wraps: float = float("inf")) -> Energy:
        counter = Counter("made up", lambda: self.seen % wraps, wraps)
        return measure(self.call, counter, windows, lambda: self.clock, self.rest)


@pytest.mark.parametrize("seconds", [1e-3, 0.02, 0.5])
@pytest.mark.parametrize("step", [0.001, 0.02, 0.1])
@pytest.mark.parametrize(("idle", "joules"), [(70.0, 0.5), (5.0, 20.0), (0.0, 1.0)])
def test_the_made_up_joules_are_found(seconds, step, idle, joules):
    meter = Meter(idle, joules, seconds, step)
    found = meter.measured(5)
    # A step of the counter more or less at both ends of a window.
    power = idle + joules / seconds
    slack = 2 * max(step, seconds) * power * seconds / WINDOW + 0.02 * joules
    assert found.idle == pytest.approx(idle, rel=0.12, abs=1e-6)
    assert statistics.fmean(found.raw) == pytest.approx(joules + idle * seconds, abs=slack)
    assert statistics.fmean(found.net) == pytest.approx(joules, abs=slack + 0.12 * idle * seconds)
    assert len(found.raw) == len(found.net) == 5


def test_the_interval_holds_the_truth_as_often_as_it_says():
    held = 0
    for seed in range(200):
        found = Meter(50.0, 1.0, 0.03, 0.001, seed).measured(5)
        assert found.low is not None
        assert found.high is not None
        held += found.low - 0.05 * 0.02 <= 1.0 <= found.high + 0.05 * 0.02
    assert held >= 0.93 * 200


def test_every_window_is_long_enough():
    meter = Meter(10.0, 1.0, 0.3, 0.01)
    before = meter.clock
    meter.measured(3)
    assert meter.clock - before >= 4 * WINDOW


def test_a_counter_that_begins_anew_loses_nothing():
    found = Meter(50.0, 1.0, 0.01, 0.001).measured(6, wraps=400.0)
    assert min(found.raw) == pytest.approx(1.5, rel=0.05)
    assert max(found.raw) == pytest.approx(1.5, rel=0.05)


def test_one_window_has_no_interval():
    assert Meter(50.0, 1.0, 0.01, 0.001).measured(1).low is None


def powercap(folder: Path, values: list[float]) -> Path:
    for number, value in enumerate(values):
        package = folder / f"intel-rapl:{number}"
        package.mkdir()
        (package / "energy_uj").write_text(f"{value:.0f}\n")
        (package / "max_energy_range_uj").write_text("262143328850\n")
    return folder


def test_rapl_is_read_where_it_can_be(tmp_path):
    counter = _rapl(powercap(tmp_path, [3e6, 4e6]))
    assert isinstance(counter, Counter)
    assert counter.read() == 7.0
    assert counter.wraps == pytest.approx(262143.3, rel=1e-5)


def test_where_there_is_no_counter_there_is_a_reason(tmp_path):
    assert "no RAPL counter" in _rapl(tmp_path)
    folder = powercap(tmp_path, [3e6])
    (folder / "intel-rapl:0/energy_uj").unlink()
    (folder / "intel-rapl:0/energy_uj").mkdir()
    said = _rapl(folder)
    assert isinstance(said, str)
    assert "cannot be read" in said
    here = counter_of("cpu")
    assert isinstance(here, Counter | str)


@pytest.mark.parametrize("there", [True, False])
def test_a_record_has_joules_or_the_reason(there, monkeypatch):
    meter = Meter(50.0, 1.0, 0.01, 0.001)
    counter = Counter("made up", lambda: meter.seen)
    monkeypatch.setattr(timed, "counter_of", lambda kind: counter if there else "no counter")
    monkeypatch.setattr(timed, "measure", lambda *_: meter.measured(3))
    profile = PROFILES["standard"].__class__("standard", 0.0, 0.02, energy_windows=3)
    case = next(
        case
        for case in SUITES["speed"].cases(PROFILES["quick"])
        if case.name == "Linear Transformer" and case.problem.T == 256
    )
    setting = Setting(CpuDevice(), profile, 0)
    answer = SUITES["speed"].answer(case, IMPLEMENTATIONS["chunked"], setting)
    if there:
        assert answer.metrics["energy"].unit == "J"
        assert answer.metrics["energy"].value == pytest.approx(1.0, rel=0.05)
        assert answer.metrics["energy raw"].value == pytest.approx(1.5, rel=0.05)
        assert len(answer.samples["energy"]) == 3
        assert answer.detail["energy"]["counter"] == "made up"
    else:
        assert "energy" not in answer.metrics
        assert answer.detail["energy"] == {"missing": "no counter"}


def test_a_quick_run_spends_no_seconds_on_energy():
    assert PROFILES["quick"].energy_windows == 0
    assert PROFILES["full"].energy_windows >= 5
