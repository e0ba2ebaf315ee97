"""The one training loop: evaluated, told of, kept, and gone on with bit for bit."""

from __future__ import annotations

import hashlib
import math
import os
import pickle
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from fwpbench.harness.records import PROTOCOL
from fwpbench.harness.suite import Setting

#: Seconds between two checkpoints, at least: what a kill may cost.
EVERY = 5.0
#: Seconds between two words about how far it is.
TELL_EVERY = 0.5


class Program(Protocol):
    """Something that is trained."""

    def step(self) -> float:
        """One step of the optimiser; returns its loss."""

    def evaluate(self) -> Mapping[str, float]:
        """What the curve shows; the same names every time."""

    def state(self) -> dict[str, Any]:
        """Everything that what comes next depends on, generators too: tensors, numbers, strings,
        and lists and dicts of these."""

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""


@dataclass
class Curve:
    """`values[name][i]` is what was seen after `steps[i]` steps.

    `training loss` is the mean since the point before. `diverged` is the step whose loss was no
    finite number.
    """

    steps: list[int] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)
    diverged: int | None = None

    def add(self, step: int, seen: Mapping[str, float]) -> None:
        self.steps.append(step)
        for name, value in seen.items():
            self.values.setdefault(name, []).append(value)

    def samples(self) -> dict[str, list[float]]:
        """As a record keeps it."""
        return {"step": [float(step) for step in self.steps], **self.values}


def never(curve: Curve) -> bool:
    return False


def train(
    program: Program,
    *,
    steps: int,
    every: int,
    setting: Setting,
    stop: Callable[[Curve], bool] = never,
) -> Curve:
    """Train for `steps` steps, evaluating every `every` and at the end, until `stop(curve)`.

    Where the setting has a folder for checkpoints, a training that was killed goes on from the last
    one, with the numbers it would have had; the last one stays, for whoever wants the model.
    """
    step, losses, curve = 0, list[float](), Curve()
    kept = _Checkpoint(setting)
    if (found := kept.load()) is not None:
        step, losses, curve = found["step"], found["losses"], Curve(**found["curve"])
        program.load(found["program"])
    told = saved = time.monotonic()

    def save() -> None:
        kept.save(
            {"step": step, "losses": losses, "curve": asdict(curve), "program": program.state()}
        )

    while step < steps and curve.diverged is None and not (curve.steps and stop(curve)):
        step += 1
        losses.append(loss := program.step())
        if not math.isfinite(loss):
            curve.diverged = step
            break
        if step % every == 0 or step == steps:
            mean = math.fsum(losses) / len(losses)
            curve.add(step, {"training loss": mean, **program.evaluate()})
            losses.clear()
        now = time.monotonic()
        if now - saved >= EVERY:
            save()
            saved = time.monotonic()
        if now - told >= TELL_EVERY or step == steps:
            # Where it may stop any time, nobody knows how much is left.
            setting.tell(step, steps if stop is never else 0, f"loss {loss:.4g}")
            told = now
    save()
    return curve


class _Checkpoint:
    """One file, replaced when the next is whole."""

    def __init__(self, setting: Setting):
        self._task, self._path = setting.task, None
        if setting.checkpoints is not None:
            name = hashlib.sha256(setting.task.encode()).hexdigest()[:32]
            self._path = setting.checkpoints / f"{name}.pt"

    def save(self, content: dict[str, Any]) -> None:
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_suffix(".part")
        torch.save(content | {"task": self._task, "protocol": PROTOCOL}, part)
        os.replace(part, self._path)

    def load(self) -> dict[str, Any] | None:
        """What was saved for this task; None where there is nothing, or nothing of use."""
        if self._path is None or not self._path.exists():
            return None
        try:
            # weights_only: whatever lies there, nothing of it is executed.
            content: dict[str, Any] = torch.load(self._path, weights_only=True)
            if (content["task"], content["protocol"]) == (self._task, PROTOCOL):
                return content
            print(f"{self._path} is of another task: training starts anew", file=sys.stderr)
        except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as e:
            print(f"{self._path} cannot be read ({e}): training starts anew", file=sys.stderr)
        return None


def load_program(path: Path, program: Program) -> None:
    """Fill a program with what a checkpoint holds, to score it again."""
    program.load(torch.load(path, weights_only=True)["program"])
