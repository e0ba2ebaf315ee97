"""Laws of timed cases: what a record tells of its domain, buffers and kernels."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from fwpbench import cli
from fwpbench.harness.device import CpuDevice
from fwpbench.harness.domains import CACHES, DOMAINS, Kernel
from fwpbench.harness.engine import make_record
from fwpbench.harness.mutants import MUTANTS
from fwpbench.harness.plan import Task, task_as_json, task_from_json
from fwpbench.harness.profiles import PROFILES, Profile
from fwpbench.harness.roofline import Peaks, PeaksOfRun
from fwpbench.harness.run_folder import read_run
from fwpbench.harness.signature import parse, signature
from fwpbench.harness.suite import Case, Setting
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations.base import Implementation
from fwpbench.operators.problem import Problem
from fwpbench.suites import speed, timed

PROBLEM = Problem(
    rule="delta", phi="identity", norm="l2", B=1, T=9, H=1, K=4, V=3, dtype="fp32",
    direction="forward+backward",
)  # fmt: skip
#: Of its inputs: q, k, v and β in float32.
INPUT_BYTES = 9 * (4 + 4 + 3 + 1) * 4
BRIEF = Profile("brief", warm_up=0.0, longest=0.0, fewest=8)
CHUNKED = IMPLEMENTATIONS["chunked"]


class Launching(CpuDevice):
    """A CPU that says it has every domain, and which kernels ran."""

    domains = DOMAINS
    rotates = 5 * INPUT_BYTES - 1

    def __init__(self, ran: list[Kernel], capturable: bool = True):
        super().__init__()
        self._ran, self._capturable = ran, capturable

    def flush_cache(self) -> None:
        """What is tested here does not depend on it."""

    def kernels(self, call: Callable[[], Any]) -> tuple[list[Kernel], Any]:
        return self._ran, call()

    def graph(self, call: Callable[[], Any]) -> Any:
        return call if self._capturable else "made up to refuse"


def setting(ran: list[Kernel], capturable: bool = True) -> Setting:
    return Setting(Launching(ran, capturable), BRIEF, 0)


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    """No gate, small batches, no replay, peaks that nobody reaches: other tests are about these."""
    monkeypatch.setattr(timed, "wrong", lambda *_: None)
    monkeypatch.setattr(timed, "BATCH", 5)
    monkeypatch.setattr(timed, "remembered", lambda *_: None)
    monkeypatch.setattr(timed, "peaks_of_run", PeaksOfRun(lambda *_: Peaks(1e18, 1e18, 1e18)))


OURS = [("fwp_forward", 2e-3), ("fwp_forward", 1e-3), ("fill", 1e-4)]


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("domain", DOMAINS)
def test_a_record_names_its_domain_and_cache(domain, cache):
    answer = timed.timed(PROBLEM, CHUNKED, setting(OURS), domain, cache)
    assert answer.status in ("ok", "unstable")
    assert (answer.detail["domain"], answer.detail["cache"]) == (domain, cache)
    assert answer.detail["buffers"] == (5 if cache == "cold" else 1)
    task = Task("speed", Case(PROBLEM), "chunked", 0)
    record = make_record(task, setting(OURS), "in-tree", answer, datetime.now(UTC), 0.0)
    _, said = parse(signature(record, {}))
    assert (said["domain"], said["cache"]) == (domain, cache)
    if domain == "kernels":
        assert answer.metrics["time"].value == pytest.approx(3.1e-3)
        assert answer.detail["kernels"]["fwp_forward"] == [2, pytest.approx(3e-3)]


def test_the_default_is_the_device_with_a_cold_cache_and_on_a_cpu_the_call():
    answer = timed.timed(PROBLEM, CHUNKED, setting(OURS))
    assert (answer.detail["domain"], answer.detail["cache"]) == ("device", "cold")
    answer = timed.timed(PROBLEM, CHUNKED, Setting(CpuDevice(), BRIEF, 0))
    assert (answer.detail["domain"], answer.detail["cache"]) == ("call", "cold")


def test_the_profile_plans_domains_beside_the_default_and_they_survive_the_way_to_a_worker():
    profile = replace(PROFILES["quick"], domains=(("call", "warm"), ("throughput", "cold")))
    plain, more = speed.cases(PROFILES["quick"]), speed.cases(profile)
    assert len(more) == 3 * len(plain)
    assert [case for case in more if not case.parameters] == plain
    assert Profile.from_json(json.loads(json.dumps(asdict(profile)))) == profile
    task = Task("speed", more[1], "chunked", 0)
    assert task_from_json(task_as_json(task)).key == task.key
    command = task.command("cuda", profile)
    assert "domain=call cache=warm" in command
    assert "--domains call" in command


def test_cold_buffers_take_turns_and_together_exceed_twice_the_cache():
    seen = []

    def run(problem, inputs):
        seen.append(inputs.k.data_ptr())
        return CHUNKED.run(problem, inputs)

    device = setting(OURS)
    timed.timed(PROBLEM, Implementation(run, "looks"), device, "call", "cold")
    assert len(set(seen)) * INPUT_BYTES >= device.device.rotates
    assert all(len(set(seen[n : n + 5])) == 5 for n in range(len(seen) - 5))
    seen.clear()
    timed.timed(PROBLEM, Implementation(run, "looks"), device, "call", "warm")
    assert len(set(seen)) == 1


@pytest.mark.parametrize("capturable", [True, False])
def test_throughput_says_whether_it_was_one_graph(capturable):
    answer = timed.timed(PROBLEM, CHUNKED, setting(OURS, capturable), "throughput", "cold")
    said = "one graph of launches" if capturable else "one by one: made up to refuse"
    assert answer.detail["throughput"] == said


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("name", ["memoised by pointer", "right on the first call only"])
def test_what_is_right_only_when_it_is_looked_at_has_no_time_in_any_domain(domain, name):
    forward = PROBLEM.replace(direction="forward")
    for seed in range(2):
        cheat = Implementation(MUTANTS[name].make(64), name)
        here = replace(setting(OURS), seed=seed, profile=BRIEF)
        answer = timed.timed(forward, cheat, here, domain, "cold")
        assert answer.status == "incorrect"
        assert not answer.metrics


@pytest.mark.parametrize("domain", ["device", "kernels"])
def test_another_kernel_than_the_declared_one_has_no_time(domain):
    """The proof can fail, and passes where one of many kernels is the declared one."""
    declares = replace(CHUNKED, kernels="^fwp_")
    foreign = [("ampere_sgemm_128x64", 1e-3), ("not_fwp_", 1e-3)]
    answer = timed.timed(PROBLEM, declares, setting(foreign), domain)
    assert answer.status == "wrong-kernel"
    assert answer.reason == (
        "no kernel matches '^fwp_'; 2 others ran, first of all ampere_sgemm_128x64"
    )
    assert not answer.metrics
    assert not answer.samples
    answer = timed.timed(PROBLEM, declares, setting(OURS), domain)
    assert answer.status in ("ok", "unstable")
    assert set(answer.detail["kernels"]) == {"fwp_forward", "fill"}


def test_a_profiler_that_sees_nothing_is_said():
    declares = replace(CHUNKED, kernels="^fwp_")
    assert "kernels-unseen" in timed.timed(PROBLEM, declares, setting([])).tags
    assert timed.timed(PROBLEM, CHUNKED, setting([]), "kernels").status == "missing"


def test_throttled_samples_stay_in_the_record():
    class Dropping(Launching):
        readings = 0

        def clocks(self):
            self.readings += 1
            return 0.7e9 if self.readings in (6, 7) else 1e9  # the first three are the warm-up's

    here = Setting(Dropping(OURS), replace(BRIEF, longest_settling=0.0), 0)
    answer = timed.timed(PROBLEM, CHUNKED, here, "call", "warm")
    flagged = answer.detail["flagged"]
    assert flagged == [[2, "throttled"], [3, "throttled"], [4, "throttled"]]
    assert len(answer.samples["time, flagged"]) == len(flagged)
    assert answer.detail["clock Hz"] == 1e9
    assert len(answer.samples["time"]) >= BRIEF.fewest


def test_domains_are_asked_for_on_the_command_line(capsys):
    where = "rule=sum phi=elu+1 T=256 direction=forward"
    words = ["run", "speed", "--device", "cpu", "--implementations", "chunked", "--dry-run"]
    assert cli.main([*words, "--where", where, "--json"]) == 0
    default = json.loads(capsys.readouterr().out)
    assert cli.main([*words, "--where", where, "--json", "--domains", "all"]) == 0
    asked = json.loads(capsys.readouterr().out)
    assert len(asked) == 2 * len(default)
    assert [key for key in asked if " with " not in key] == default
    assert all("with cache=warm domain=call" in key for key in set(asked) - set(default))
    assert cli.main([*words, "--profile", "full", "--json"]) == 0
    assert any("domain=call" in key for key in json.loads(capsys.readouterr().out))
    profile = replace(PROFILES["full"], domains=(("call", "warm"),))
    for case in speed.cases(profile)[:2]:  # the default one, and one besides
        task = Task("speed", case, "chunked", 0)
        command = shlex.split(task.command("cpu", profile))
        assert cli.main([*command[1:], "--dry-run", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == [task.key]
    assert cli.main([*words, "--domains", "kernels"]) == 2
    assert "on cpu nothing is timed but call" in capsys.readouterr().err


def test_a_run_of_domains_is_resumed_with_them(tmp_path, capsys):
    where = "rule=sum phi=elu+1 T=256 direction=forward cache=warm"
    path = str(tmp_path / "run")
    words = ["run", "speed", "--device", "cpu", "--implementations", "chunked", "--json"]
    assert cli.main([*words, "--where", where, "--domains", "call", "--output", path]) == 0
    (record,) = read_run(tmp_path / "run").records
    assert (record.detail["domain"], record.detail["cache"]) == ("call", "warm")
    assert "--domains call" in record.command
    (tmp_path / "run/records.jsonl").write_text("")
    assert cli.main(["run", "--resume", path, "--json"]) == 0
    (again,) = read_run(tmp_path / "run").records
    assert again.key == record.key
    capsys.readouterr()


def test_who_is_called_by_a_file_of_ours_is_not_taken_for_somebody_else(monkeypatch):
    problem = PROBLEM.replace(rule="softmax-attention", norm="none", direction="forward")
    torch_own = IMPLEMENTATIONS["torch-sdpa"]
    assert torch_own.origin == "third-party"
    brief = Setting(CpuDevice(), BRIEF, 0)
    assert timed.timed(problem, torch_own, brief).status in ("ok", "unstable")
    borrows = replace(torch_own, run=lambda problem, inputs: torch_own.run(problem, inputs))
    assert timed.timed(problem, borrows, brief).status == "wrong-kernel"
