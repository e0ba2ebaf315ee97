"""A time that depends on what the numbers are is tagged; noise and drift are not."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from fwpbench.harness.device import CpuDevice
from fwpbench.harness.profiles import PROFILES, Profile
from fwpbench.harness.records import Measurement
from fwpbench.harness.suite import Answer, Setting
from fwpbench.harness.timing import time_call
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations.base import Implementation
from fwpbench.suites import SUITES, data_dependence
from fwpbench.suites.data_dependence import FAMILIES, TAG, compared
from tests.simulated_device import SimulatedDevice

BRIEF = Profile("brief", warm_up=0.0, longest=40.0)


def compared_on_a_device(factor: float, noise: float, drift: float, seed: int) -> Answer:
    """Normal, the family at `factor` of its cost, and normal again, on a device that slows down."""
    chance = random.Random(seed)
    cost = [1.0]

    def seconds() -> Iterator[float]:
        slowing = 1.0
        while True:
            slowing += drift / 130
            yield cost[0] * slowing * chance.lognormvariate(0, noise)

    device = SimulatedDevice(seconds())

    def timed(much: float) -> list[float]:
        cost[0] = much
        return time_call(device.call, device, BRIEF).samples

    first, family, again = timed(1.0), timed(factor), timed(1.0)
    time = Measurement(value=sorted(family)[len(family) // 2], unit="s")
    answer = Answer(metrics={"time": time}, samples={"time": family})
    return compared(answer, first + again)


@pytest.mark.parametrize(("noise", "drift"), [(0.0, 0.0), (0.02, 0.0), (0.02, 0.03), (0.05, 0.0)])
def test_a_time_that_does_not_depend_is_not_tagged(noise, drift):
    tagged = sum(TAG in compared_on_a_device(1.0, noise, drift, n).tags for n in range(200))
    assert tagged <= 0.01 * 200


@pytest.mark.parametrize("factor", [0.8, 1.25])
@pytest.mark.parametrize(("noise", "drift"), [(0.0, 0.0), (0.02, 0.0), (0.02, 0.03), (0.05, 0.0)])
def test_a_time_that_depends_is_tagged(factor, noise, drift):
    found = [compared_on_a_device(factor, noise, drift, n) for n in range(100)]
    assert sum(TAG in answer.tags for answer in found) >= 95
    ratios = [answer.metrics["ratio to normal"] for answer in found]
    assert sum(each.low <= factor <= each.high for each in ratios) >= (0 if drift else 90)
    assert all(len(answer.samples["normal"]) > 20 for answer in found)


def test_speed_asks_families_in_the_longer_profiles_only():
    for name in PROFILES:
        problems = [case.problem for case in SUITES["speed"].cases(PROFILES[name])]
        asked = {problem.inputs for problem in problems} - {"normal"}
        assert asked == (set() if name == "quick" else set(FAMILIES))
        gated = [problem for problem in problems if problem.inputs == "saturated-gates"]
        assert all(problem.operator.update_rule.gates for problem in gated)


@pytest.mark.parametrize("depends", [False, True])
def test_a_record_of_a_family_is_timed_beside_normal(depends, monkeypatch):
    """The sum of zero keys is skipped, or it is not; whichever, the result is right."""
    import time as clock

    chunked = IMPLEMENTATIONS["chunked"]

    def run(problem, inputs):
        if depends and problem.T == 256 and problem.inputs == "normal":
            clock.sleep(0.02)
        return chunked.run(problem, inputs)

    profile = replace(PROFILES["quick"], name="standard", warm_up=0.0, longest=0.6)
    case = next(
        case
        for case in SUITES["speed"].cases(profile)
        if case.name == "Linear Transformer" and case.problem.inputs == "zero-keys"
    )
    setting = Setting(CpuDevice(), profile, 0)
    answer = SUITES["speed"].answer(case, Implementation(run, "made for a test"), setting)
    assert answer.status in ("ok", "unstable"), answer.reason
    assert set(answer.metrics) <= set(SUITES["speed"].metrics)
    assert answer.samples["normal"]
    if depends:
        assert TAG in answer.tags
        assert answer.metrics["ratio to normal"].value < 0.9


def test_what_no_reference_can_tell_is_unsupported(monkeypatch):
    monkeypatch.setattr(data_dependence, "ill_conditioned", lambda truth: "ill-conditioned (so)")
    case = SUITES["speed"].cases(PROFILES["standard"])[-1]
    short = replace(case, problem=case.problem.replace(T=8, H=1, K=8, V=8))
    setting = Setting(CpuDevice(), PROFILES["standard"], 0)
    answer = SUITES["speed"].answer(short, IMPLEMENTATIONS["chunked"], setting)
    assert (answer.status, answer.reason) == ("unsupported", "ill-conditioned (so)")
