"""The table of targets: what is compared with what, and that a miss is called one."""

from __future__ import annotations

import pytest

from benchmarks.targets import SUITES, TARGETS, verdict
from fwpbench.harness.profiles import PROFILES
from fwpbench.harness.records import Measurement, Record

TARGET = TARGETS["decode"]


def record(implementation: str, value: float, status: str = "ok", origin: str = "third-party"):
    time = Measurement(value=value, unit="s", low=0.9 * value, high=1.1 * value)
    return Record(
        suite="targets", problem=TARGET.problem, implementation=implementation, origin=origin,
        device="made-up", seed=0, status=status, metrics={"time": time},
    )  # fmt: skip


def test_every_target_is_a_problem_of_its_own():
    cases = SUITES["targets"].cases(PROFILES["quick"])
    assert [case.name for case in cases] == list(TARGETS)
    assert len({str(case.problem) for case in cases}) == len(TARGETS)


@pytest.mark.parametrize(("peer", "judged"), [(2.0, "met"), (0.5, "MISSED")])
def test_the_fastest_right_peer_of_the_run_is_what_counts(peer, judged):
    ours = record("triton", 1.0, origin="in-tree")
    wrong = record("wrong", 0.01, status="incorrect")
    in_tree = record("chunked", 0.01, origin="in-tree")
    said = verdict([ours, record("slow", 9.0), record("fast", peer), wrong, in_tree], TARGET)
    assert said.startswith(f"{peer:.2f} times as fast as fast [")
    assert said.endswith(judged)
    assert f"[{0.9 * peer / 1.1:.2f}, {1.1 * peer / 0.9:.2f}]" in said


def test_nothing_is_judged_without_both():
    assert "no time of ours" in verdict([record("fast", 1.0)], TARGET)
    assert "cannot be judged" in verdict([record("triton", 1.0, origin="in-tree")], TARGET)
