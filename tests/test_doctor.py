"""Every check of the doctor fails somewhere: in a made-up machine that has that fault."""

from __future__ import annotations

import json

import pytest

from fwpbench.cli import main
from fwpbench.commands import run
from fwpbench.harness.device import CpuDevice
from fwpbench.harness.doctor import CHECKS, as_facts, examine, grade, noise_of, worst
from fwpbench.harness.engine import InProcess
from fwpbench.harness.probe import MachineProbe
from fwpbench.suites import SUITES


class Healthy:
    """A machine without faults, that tells everything."""

    kind = "made-up"

    def ticks(self):
        return [n * 1e-7 for n in range(100)]

    def empty_calls(self):
        return [4e-6] * 20

    def warm_and_cold(self):
        return [1e-3] * 20, [2e-3] * 20

    def clocks(self):
        return [1.98e9, 1.97e9, 1.98e9]

    def power_limits(self):
        return 700.0, 700.0

    def busy_elsewhere(self):
        return 0.0

    def split(self):
        return False

    def pairs_of_medians(self):
        return [(1.0, 1.0 + 0.001 * (n % 3)) for n in range(12)]


FAULTS = {
    "timer": {"ticks": lambda self: [n * 1e-3 for n in range(10)]},
    "empty call": {"empty_calls": lambda self: [1e-3] * 20},
    "flush": {"warm_and_cold": lambda self: ([1e-3] * 20, [1.01e-3] * 20)},
    "clock": {"clocks": lambda self: [1.98e9, 1.4e9]},
    "power": {"power_limits": lambda self: (450.0, 700.0)},
    "others": {"busy_elsewhere": lambda self: 1.0},
    "whole": {"split": lambda self: True},
    "noise": {"pairs_of_medians": lambda self: [(1.0, 1.1)] * 12},
}
SILENT = {
    "clock": {"clocks": lambda self: None},
    "power": {"power_limits": lambda self: None},
    "others": {"busy_elsewhere": lambda self: None},
    "whole": {"split": lambda self: None},
}


def with_(changes):
    return type("Faulty", (Healthy,), changes)()


def test_a_healthy_machine_has_an_a():
    findings = examine(Healthy())
    assert [finding.check for finding in findings] == list(CHECKS)
    assert {finding.verdict for finding in findings} == {"good"}
    assert grade(findings) == "A"


@pytest.mark.parametrize("check", CHECKS)
def test_every_check_can_fail_and_says_what_to_do(check):
    findings = examine(with_(FAULTS[check]))
    poor = [finding for finding in findings if finding.verdict == "poor"]
    assert [finding.check for finding in poor] == [check]
    assert poor[0].advice
    assert grade(findings) == ("C" if check in ("timer", "flush") else "B")


def test_a_clock_that_stands_still_is_poor():
    assert examine(with_({"ticks": lambda self: [1.0] * 9}))[0].verdict == "poor"


def test_two_faults_are_a_c():
    assert grade(examine(with_(FAULTS["noise"] | FAULTS["others"]))) == "C"


@pytest.mark.parametrize("check", SILENT)
def test_what_is_not_told_is_unknown(check):
    found = {finding.check: finding.verdict for finding in examine(with_(SILENT[check]))}
    assert found.pop(check) == "unknown"
    assert set(found.values()) == {"good"}


def test_a_check_that_raises_is_unknown_and_says_why():
    def broken(self):
        raise OSError("no driver")

    found = {finding.check: finding for finding in examine(with_({"power_limits": broken}))}
    assert found["power"].verdict == "unknown"
    assert "no driver" in found["power"].said


def test_noise_is_nearly_the_largest_difference():
    assert noise_of([(1.0, 1.0)] * 95 + [(1.0, 2.0)] * 5) == pytest.approx(0, abs=1e-9)
    assert noise_of([(1.0, 1.0)] * 90 + [(2.0, 1.0)] * 10) == 0.5


def test_a_real_machine_answers_every_question():
    """Which numbers come is the machine's affair."""
    findings = examine(MachineProbe(CpuDevice(), 0.0))
    assert not [finding for finding in findings if "Error" in finding.said]
    assert {"timer", "empty call", "flush", "noise"} <= {
        finding.check for finding in findings if finding.verdict != "unknown"
    }


def test_the_command_says_all_of_it(monkeypatch, capsys):
    monkeypatch.setattr("fwpbench.commands.doctor.MachineProbe", lambda device: Healthy())
    assert main(["doctor", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "grade A" in out
    assert all(check in out for check in CHECKS)
    faulty = with_(FAULTS["flush"])
    monkeypatch.setattr("fwpbench.commands.doctor.MachineProbe", lambda device: faulty)
    assert main(["doctor", "--device", "cpu", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["grade"] == "C"
    assert [each["check"] for each in said["findings"] if each["advice"]] == ["flush"]


def test_what_was_found_fits_into_an_environment():
    facts = as_facts(examine(with_(FAULTS["noise"])))
    assert (facts["grade"], facts["A/A noise"]) == ("B", pytest.approx(0.1))
    assert facts["doctor: noise"].startswith("poor: the same call, timed twice, differs")
    assert facts["doctor: timer"].startswith("good: ")
    assert json.loads(json.dumps(facts)) == facts


def test_machines_that_make_one_run_are_as_good_as_the_worst():
    machines = [{"grade": "A", "A/A noise": 0.004}, {"grade": "C", "A/A noise": 0.02}]
    assert worst(machines) == {"grade": "C", "A/A noise": 0.02}
    assert worst([*machines, {}]) == {}, "nobody is taken for good who was not examined"


def test_a_run_that_times_keeps_what_the_doctor_says(monkeypatch, tmp_path, capsys):
    """Told beforehand, stored with the records, and used: compare asks for no more."""
    monkeypatch.setattr(run, "executor", lambda here, log, *_: InProcess(SUITES, here, log))
    monkeypatch.setattr(run, "MachineProbe", lambda *_: with_(FAULTS["noise"]))
    where = [
        "--where",
        "rule=sum phi=elu+1 T=256 direction=forward",
        "--implementations",
        "chunked",
    ]
    words = ["run", "speed", *where, "--device", "cpu", "--output"]
    for name in ("a", "b"):
        assert main([*words, str(tmp_path / name)]) == 0
    said = capsys.readouterr().out
    assert "grade B" in said
    assert "noise: the same call, timed twice, differs by up to 10.0 %" in said
    environment = json.loads((tmp_path / "a/environment.json").read_text(encoding="utf-8"))
    assert (environment["grade"], environment["A/A noise"]) == ("B", pytest.approx(0.1))
    page = (tmp_path / "a/report.html").read_text(encoding="utf-8")
    assert '<th scope="row">grade</th><td>B</td>' in page
    assert '<th scope="row">A/A noise</th><td>10 %</td>' in page
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    out = capsys.readouterr().out
    assert "margin 10 %" in out
    assert "not measured" not in out


def test_a_run_that_times_nothing_waits_for_no_doctor(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(run, "executor", lambda here, log, *_: InProcess(SUITES, here, log))
    monkeypatch.setattr(run, "MachineProbe", None)
    where = ["--where", "rule=sum phi=relu norm=none dtype=fp32 direction=decode"]
    words = ["run", "agreement", *where, "--implementations", "chunked", "--device", "cpu"]
    assert main([*words, "--json", "--output", str(tmp_path / "a")]) == 0
    assert "grade" not in json.loads((tmp_path / "a/environment.json").read_text(encoding="utf-8"))
