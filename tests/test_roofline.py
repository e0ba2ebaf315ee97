"""Laws of the roofline, on made-up peaks."""

from __future__ import annotations

import pytest

from fwpbench.harness.device import CpuDevice
from fwpbench.harness.profiles import Profile
from fwpbench.harness.roofline import (
    IMPOSSIBLE,
    Peaks,
    PeaksOfRun,
    against_roofline,
    measure_peaks,
    roof,
)
from fwpbench.harness.statuses import group_of
from fwpbench.harness.suite import Setting
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.operators.cost import compulsory_bytes, least_flop
from fwpbench.operators.problem import Problem
from fwpbench.suites import timed

PROBLEM = Problem(
    rule="delta", phi="identity", norm="l2", B=1, T=9, H=1, K=4, V=3, dtype="fp32",
    direction="forward",
)  # fmt: skip
TRAFFIC, FLOP = compulsory_bytes(PROBLEM), least_flop(PROBLEM)


def test_the_roof_is_the_slower_of_moving_and_computing():
    slow_memory = roof(PROBLEM, Peaks(copy=1.0, read=0.5, flop=1e12), "cold")
    assert (slow_memory.seconds, slow_memory.limit) == (sum(TRAFFIC), "bytes")
    slow_products = roof(PROBLEM, Peaks(copy=1e12, read=1e12, flop=1.0), "cold")
    assert (slow_products.seconds, slow_products.limit) == (FLOP, "operations")


def test_what_is_cached_need_not_move():
    peaks = Peaks(copy=1.0, read=1.0, flop=1e12)
    assert roof(PROBLEM, peaks, "cold", cached_bytes=10**9).seconds == TRAFFIC.read
    assert roof(PROBLEM, peaks, "cold", cached_bytes=TRAFFIC.written - 8).seconds == (
        TRAFFIC.read + 8
    )
    assert roof(PROBLEM, peaks, "warm").limit == "operations"


def test_peaks_are_measured_once_and_again_only_where_a_time_seems_impossible():
    asked = []

    def measure(device, dtype):
        asked.append(dtype)
        return Peaks(copy=1e9 * len(asked), read=1e9, flop=1e12)

    peaks, device = PeaksOfRun(measure), CpuDevice()
    honest = 2 * sum(TRAFFIC) / 1e9
    for _ in range(3):
        fraction, detail = against_roofline(PROBLEM, honest, device, "cold", peaks)
        assert fraction == pytest.approx(0.5)
        assert detail["limit"] == "bytes"
    assert asked == ["fp32"]
    # The neighbour is gone: what seemed impossible is not.
    fraction, detail = against_roofline(PROBLEM, 0.6 * honest / 2, device, "cold", peaks)
    assert fraction == pytest.approx(1 / 1.2)
    assert detail["peak copy B/s"] == 2e9
    assert asked == ["fp32"] * 2


def test_faster_than_the_roofline_is_impossible_and_not_ranked(monkeypatch):
    """The time is kept and shown; the status is of a group that is not ranked."""
    monkeypatch.setattr(timed, "wrong", lambda *_: None)
    here = Setting(CpuDevice(), Profile("brief", warm_up=0.0, longest=0.0), 0)
    for flop, statuses in ((1.0, ["impossible"]), (1e18, ["ok", "unstable"])):
        made_up = PeaksOfRun(lambda device, dtype, flop=flop: Peaks(1e18, 1e18, flop))
        monkeypatch.setattr(timed, "peaks_of_run", made_up)
        answer = timed.timed(PROBLEM, IMPLEMENTATIONS["chunked"], here)
        assert answer.status in statuses
        fraction = answer.metrics["roofline"].value
        assert (fraction > IMPOSSIBLE) == (answer.status == "impossible")
        assert answer.metrics["time"].value
    assert group_of("impossible") == "untrusted"


def test_a_cpu_has_peaks():
    peaks = measure_peaks(CpuDevice(), "bf16")
    assert peaks.read > 1e8
    assert peaks.copy > 1e8
    assert peaks.flop > 1e8
