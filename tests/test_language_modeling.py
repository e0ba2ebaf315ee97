"""The suite: what it plans, that what it learns lies where it can, and that nothing is lost."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fwpbench import cli
from fwpbench.commands import run as run_command
from fwpbench.harness.device import CpuDevice
from fwpbench.harness.profiles import PROFILES
from fwpbench.harness.records import Record, to_line
from fwpbench.harness.run_folder import read_run
from fwpbench.harness.suite import Answer, Setting
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.suites import grammar, training
from fwpbench.suites.language_data import load
from fwpbench.suites.language_modeling import (
    OPERATORS,
    PLANS,
    QUICK,
    SOFTMAX,
    SUITE,
    Plan,
    Training,
    perplexity,
    state_bytes,
)

ROOT = Path(__file__).parent.parent
QUICKLY = Setting(CpuDevice(), PROFILES["quick"], seed=0)
CHUNKED = IMPLEMENTATIONS["chunked"]
#: Steps enough to know which words are frequent and what follows them.
SHORT = replace(PLANS["grammar"]["quick"], steps=60, evaluations=2)


def trained(name: str, trial: int = 0, plan: Plan = SHORT, seed: int = 0) -> Training:
    implementation = IMPLEMENTATIONS["torch-sdpa" if name == SOFTMAX else "chunked"]
    text = load("grammar", None)
    program = Training(plan, OPERATORS[name], implementation, text, seed=seed, trial=trial)
    for _ in range(plan.steps):
        program.step()
    return program


def test_quick_asks_softmax_attention_and_sum_and_delta_of_two_maps_twice_each() -> None:
    cases = SUITE.cases(PROFILES["quick"])
    assert [(case.name, case.parameters["trial"]) for case in cases] == [
        (name, trial) for name in QUICK for trial in (0, 1)
    ]
    assert {(case.problem.rule, case.problem.phi) for case in cases} == {
        ("softmax-attention", "identity"),
        *((rule, phi) for rule in ("sum", "delta") for phi in ("elu+1", "dpfp-1")),
    }
    assert {case.parameters["data"] for case in cases} == {"grammar"}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("data", SUITE.data)
def test_every_data_set_has_a_plan_in_every_profile_and_cases_differ_in_the_mixer_alone(
    data: str, profile: str
) -> None:
    cases = SUITE.cases(replace(PROFILES[profile], data=(data,)))
    assert {case.parameters["data"] for case in cases} == {data}
    sizes = {tuple(getattr(case.problem, axis) for axis in "BTHKV") for case in cases}
    assert len(sizes) == 1
    assert all("reference" in case.excluded for case in cases)


def test_states_are_as_large_as_is_told() -> None:
    plan, text = PLANS["grammar"]["standard"], load("grammar", None)
    for case in SUITE.cases(PROFILES["standard"])[:: plan.trials]:
        program = Training(plan, case.problem.operator, CHUNKED, text, seed=0, trial=0)
        with torch.no_grad():
            states = program.model(torch.zeros(1, plan.T, dtype=torch.long), return_states=True)[1]
        parts = [part for state in states for part in state if part is not None]
        told = plan.layers * state_bytes(case.problem)
        assert sum(part.numel() * part.element_size() for part in parts) == told


@pytest.fixture(scope="module")
def delta() -> list[Training]:
    """Two trials."""
    return [trained("Delta Network", trial) for trial in (0, 1)]


@pytest.fixture(scope="module")
def softmax() -> Training:
    return trained(SOFTMAX)


def test_a_short_training_lies_between_the_floor_and_the_unigrams(
    delta: list[Training], softmax: Training
) -> None:
    text = load("grammar", None)
    unigrams = 38.9
    for program in [*delta, softmax]:
        reached = perplexity(program.score(text.test))
        assert text.floor is not None
        assert math.exp(text.floor) < reached < unigrams / 2


def test_swapping_the_implementation_changes_less_than_another_seed_does(
    delta: list[Training], softmax: Training
) -> None:
    """The same weights scored by others, against the same steps from other weights."""
    some = load("grammar", None).test[: 24 * 128 + 1]
    one, other = (perplexity(program.score(some)) for program in delta)
    spread = abs(one - other)
    delta[0].model.use(IMPLEMENTATIONS["reference"])
    swapped = perplexity(delta[0].score(some))
    delta[0].model.use(CHUNKED)
    assert abs(swapped - one) < spread
    assert abs(swapped - one) < 1e-4 * one

    one = perplexity(softmax.score(some))
    for name in ("chunked", "reference"):
        softmax.model.use(IMPLEMENTATIONS[name])
        assert abs(perplexity(softmax.score(some)) - one) < 1e-4 * one


def test_a_training_is_that_of_its_seed_and_trial() -> None:
    few = replace(SHORT, steps=3)
    losses = {
        (seed, trial): trained("Linear Transformer", trial, few, seed).evaluate()
        for seed in (0, 1)
        for trial in (0, 1)
    }
    assert len({tuple(each.values()) for each in losses.values()}) == 4
    assert trained("Linear Transformer", 1, few, 1).evaluate() == losses[1, 1]


def test_every_segment_is_read_once_before_any_is_read_again() -> None:
    program = trained(SOFTMAX, plan=replace(SHORT, B=60, steps=0))
    whole = len(program.segments.inputs)
    steps = whole // 60
    first, second = (
        torch.cat([program._rows(epoch * steps + step) for step in range(steps)])
        for epoch in (0, 1)
    )
    for epoch in (first, second):
        assert len(set(epoch.tolist())) == len(epoch) == steps * 60
    assert not first.equal(second)


def test_the_learning_rate_rises_and_falls_to_nothing() -> None:
    program = trained(SOFTMAX, plan=replace(SHORT, steps=0))
    program.plan = replace(SHORT, steps=50, warm_up=0.1)
    shares = [program._share(step) for step in range(1, 51)]
    assert max(shares) == shares[4] == 1.0
    assert shares[:5] == sorted(shares[:5])
    assert shares[4:] == sorted(shares[4:], reverse=True)
    assert 0 < shares[-1] < 0.01


def ask(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Answer:
    monkeypatch.setitem(PLANS["grammar"], "quick", replace(SHORT, **changes))
    case = next(c for c in SUITE.cases(PROFILES["quick"]) if c.name == "Delta Network")
    return SUITE.answer(case, CHUNKED, QUICKLY)


def test_an_answer_has_its_curve_its_baselines_and_what_pairs_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = ask(monkeypatch, steps=4)
    assert answer.status == "ok"
    assert set(answer.metrics) == set(SUITE.metrics)
    assert answer.samples["step"] == [2.0, 4.0]
    assert len(answer.samples["validation perplexity"]) == 2
    log_likelihood, tokens = answer.samples["test log-likelihood"], answer.samples["test tokens"]
    assert len(log_likelihood) == len(tokens) == 160
    assert sum(tokens) == 160 * 128 - 1
    value = {name: measured.value for name, measured in answer.metrics.items()}
    assert value["perplexity"] == pytest.approx(math.exp(-sum(log_likelihood) / sum(tokens)))
    assert value["bits per token"] == pytest.approx(math.log2(value["perplexity"]))
    assert value["floor perplexity"] < value["5-gram perplexity"] < value["unigram perplexity"]
    assert value["trained tokens"] == 4 * SHORT.B * SHORT.T
    json.dumps(answer.detail)


def test_a_training_that_diverges_says_at_which_step(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = ask(monkeypatch, steps=6, evaluations=6, rate=1e30, clip=math.inf, warm_up=0.0)
    assert answer.status == "diverged"
    assert 1 < answer.detail["step"] <= 6
    assert f"step {answer.detail['step']} of 6" in answer.reason
    assert answer.samples["step"] == [float(step) for step in range(1, answer.detail["step"])]
    assert not answer.metrics


#: The suite at a size that is trained in seconds, and keeps a checkpoint after every step.
SMALL = """
from dataclasses import replace
from fwpbench.suites import grammar, language_modeling, training

grammar.DOCUMENTS = {"train": 40, "validation": 4, "test": 4}
training.EVERY = 0.0
quick = language_modeling.PLANS["grammar"]["quick"]
language_modeling.PLANS["grammar"]["quick"] = replace(
    quick, width=16, B=2, steps=150, evaluations=4, trials=1, operators=("Delta Network",)
)
SUITES = {"small-language-modeling": language_modeling.SUITE}
"""


def test_a_run_killed_in_the_middle_of_a_training_ends_with_the_record_of_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run_command, "_report", lambda run, path: (None, ""))
    # The plugin changes these; they are put back.
    monkeypatch.setitem(PLANS["grammar"], "quick", PLANS["grammar"]["quick"])
    monkeypatch.setattr(training, "EVERY", training.EVERY)
    monkeypatch.setattr(grammar, "DOCUMENTS", grammar.DOCUMENTS)
    (plugin := tmp_path / "small.py").write_text(SMALL)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    words = ["run", "small-language-modeling", "--plugin", str(plugin), "--device", "cpu"]
    words += ["--implementations", "chunked", "--json", "--output"]
    assert cli.main([*words, str(whole)]) == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "fwpbench", *words, str(killed)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    wait_until(lambda: steps_kept(killed) >= 20 or process.poll() is not None)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    wait_until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    assert 20 <= steps_kept(killed) < 150
    assert read_run(killed).records == []
    assert cli.main(["run", "--resume", str(killed), "--json"]) == 0
    (wanted,), (found,) = read_run(whole).records, read_run(killed).records
    assert wanted.status == "ok"
    assert comparable(found) == comparable(wanted)


def wait_until(there: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.05)


def steps_kept(run: Path) -> int:
    for path in (run / "checkpoints").glob("*.pt"):
        return int(torch.load(path, weights_only=True)["program"]["taken"])
    return 0


def comparable(record: Record) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(to_line(record))
    return {name: value for name, value in fields.items() if name not in ("seconds", "started")}
