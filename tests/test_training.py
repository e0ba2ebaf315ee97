"""A training goes on where it was killed, bit for bit, and says where it diverged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fwpbench.harness.device import CpuDevice
from fwpbench.harness.profiles import PROFILES
from fwpbench.harness.suite import Setting
from fwpbench.suites import training
from fwpbench.suites.training import Curve, load_program, train

STEPS, EVERY = 20, 6


class Fit:
    """A line fitted to noisy points drawn anew every step; `killed_at` ends it as Ctrl-C would."""

    def __init__(self, killed_at: int = 0, not_finite_at: int = 0):
        self.generator = torch.Generator().manual_seed(0)
        self.weight = torch.zeros(1, requires_grad=True)
        self.optimizer = torch.optim.Adam([self.weight], lr=0.1)
        self.taken, self.killed_at, self.not_finite_at = 0, killed_at, not_finite_at

    def step(self) -> float:
        self.taken += 1
        if self.taken == self.killed_at:
            raise KeyboardInterrupt
        if self.taken == self.not_finite_at:
            return float("nan")
        x, noise = torch.randn(2, 8, generator=self.generator)
        loss = (self.weight * x - 3 * x - noise).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def evaluate(self) -> Mapping[str, float]:
        return {"weight": float(self.weight.detach())}

    def state(self) -> dict[str, Any]:
        return {
            "weight": self.weight.detach(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "taken": self.taken,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.weight.data.copy_(state["weight"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.taken = state["taken"]


def setting(folder: Path | None, task: str = "fit") -> Setting:
    return Setting(CpuDevice(), PROFILES["quick"], 0, checkpoints=folder, task=task)


def fit(program: Fit, here: Setting) -> Curve:
    return train(program, steps=STEPS, every=EVERY, setting=here)


def test_a_curve_has_its_points_at_every_evaluation_and_at_the_end() -> None:
    curve = fit(Fit(), setting(None))
    assert curve.steps == [6, 12, 18, 20]
    assert curve.diverged is None
    assert list(curve.values) == ["training loss", "weight"]
    assert curve.samples()["step"] == [6.0, 12.0, 18.0, 20.0]


@pytest.mark.parametrize("killed_at", range(1, STEPS + 1))
def test_a_training_killed_at_any_step_ends_with_the_same_curve(
    killed_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "EVERY", 0.0)  # after every step
    with pytest.raises(KeyboardInterrupt):
        fit(Fit(killed_at), setting(tmp_path))
    again = Fit()
    assert fit(again, setting(tmp_path)) == fit(Fit(), setting(None))
    assert again.taken == STEPS


def test_a_training_that_ended_is_not_done_again_and_its_model_can_be_had(tmp_path: Path) -> None:
    first, again, scored = Fit(), Fit(killed_at=1), Fit()
    assert fit(first, setting(tmp_path)) == fit(again, setting(tmp_path))
    (kept,) = tmp_path.iterdir()
    load_program(kept, scored)
    assert scored.weight.equal(first.weight)


def test_every_task_has_a_checkpoint_of_its_own(tmp_path: Path) -> None:
    for task in ("one", "two"):
        fit(Fit(), setting(tmp_path, task))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("damage", [b"", b"no checkpoint", "half", "of another task"])
def test_a_checkpoint_of_no_use_is_told_and_the_training_starts_anew(
    damage: bytes | str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    curve = fit(Fit(), setting(tmp_path))
    (kept,) = tmp_path.iterdir()
    if isinstance(damage, bytes):
        kept.write_bytes(damage)
    elif damage == "half":
        kept.write_bytes(kept.read_bytes()[: kept.stat().st_size // 2])
    else:
        torch.save(torch.load(kept, weights_only=True) | {"task": "other"}, kept)
    again = Fit()
    assert fit(again, setting(tmp_path)) == curve
    assert again.taken == STEPS
    assert "training starts anew" in capsys.readouterr().err


def test_a_training_that_leaves_the_finite_numbers_says_at_which_step() -> None:
    curve = fit(Fit(not_finite_at=8), setting(None))
    assert curve.diverged == 8
    assert curve.steps == [6]


def test_it_stops_when_its_rule_says_so_also_after_a_restart(tmp_path: Path) -> None:
    for _ in range(2):
        curve = train(
            Fit(), steps=STEPS, every=EVERY, setting=setting(tmp_path),
            stop=lambda curve: len(curve.steps) == 2,
        )  # fmt: skip
        assert curve.steps == [6, 12]


def test_it_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "TELL_EVERY", 0.0)
    told = list[tuple[int, int]]()
    here = replace(setting(None), tell=lambda done, total, words: told.append((done, total)))
    fit(Fit(), here)
    assert told == [(step, STEPS) for step in range(1, STEPS + 1)]
