"""A training step of the retrieval task beside the code published with the paper.

git clone https://github.com/ischlag/fast-weight-transformers
FWPBENCH_PUBLISHED_CODE=fast-weight-transformers python -m pytest benchmarks/test_retrieval_step.py

Without that folder its rows are skipped. The same model, task, batches and optimiser (B = 32,
K = 64, Adam) from the same seed, in one process, one step of theirs and three of ours in turn; both
must have the same loss. Nothing is asserted about times: docs/performance.md has those that were
seen, and the aims.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.in_turn import milliseconds_in_turn
from fwpbench.harness.device import CpuDevice
from fwpbench.harness.profiles import PROFILES
from fwpbench.harness.suite import Setting
from fwpbench.implementations._room import with_room
from fwpbench.operators.operator import Operator
from fwpbench.suites import retrieval

VARIABLE = "FWPBENCH_PUBLISHED_CODE"
BATCH = 32
STEPS = 12


@dataclass(frozen=True)
class Row:
    """One task; how the published code names its attention, its parameter and its update rule."""

    setting: int
    S: int
    operator: Operator
    attention: str
    argument: int
    rule: str


ROWS = {
    "delta, dpfp-1, S = 100": Row(2, 100, Operator("delta", "dpfp-1", "sum"), "dpfp", 1, "ours"),
    "delta, dpfp-2, S = 100": Row(2, 100, Operator("delta", "dpfp-2", "sum"), "dpfp", 2, "ours"),
    "delta, elu+1, S = 100": Row(2, 100, Operator("delta", "elu+1", "sum"), "linear", 0, "ours"),
    "sum, dpfp-1, S = 600": Row(1, 600, Operator("sum", "dpfp-1", "attention"), "dpfp", 1, "sum"),
}


@pytest.mark.parametrize("name", ROWS)
def test_chunked(benchmark: Any, name: str) -> None:
    benchmark.group = f"retrieval step, {name}"
    with_room(partial(benchmark.pedantic, chunked(ROWS[name]), rounds=STEPS, warmup_rounds=2))


@pytest.mark.parametrize("name", ROWS)
def test_chunked_and_the_published_code_in_turn(name: str, capsys: Any) -> None:
    ours = chunked(ROWS[name])
    theirs = published(ROWS[name])
    for _ in range(2):
        assert theirs() == pytest.approx(ours(), rel=1e-5)
    times = milliseconds_in_turn((("theirs", theirs), *(("ours", ours),) * 3), STEPS)
    low, middle = (
        {who: of(each) for who, each in times.items()} for of in (min, statistics.median)
    )
    with capsys.disabled():
        print(
            f"\n{name}, {torch.get_num_threads()} threads: published "
            f"{low['theirs']:.0f}, {middle['theirs']:.0f} ms; here {low['ours']:.1f}, "
            f"{middle['ours']:.1f} ms (minimum, median of {STEPS} and {3 * STEPS}): "
            f"{low['theirs'] / low['ours']:.1f}, {middle['theirs'] / middle['ours']:.1f} times"
        )


def chunked(row: Row) -> Callable[[], float]:
    """A step of the retrieval suite's own training; gives its loss."""
    setting = Setting(CpuDevice(), PROFILES["quick"], seed=0)
    task = retrieval.Task(row.setting, row.S)
    case = retrieval._case(PROFILES["full"], task, "published", row.operator, 0)
    return retrieval.training_of(case, "chunked", setting).step


def published(row: Row) -> Callable[[], float]:
    """The step of its main loop, on its own model and batches."""
    with published_modules() as (model_type, loader):
        np.random.seed(1)
        torch.manual_seed(1)
        sizes = int(2.2 * row.S), 64, row.S, row.S
        model = model_type(*sizes, row.attention, row.rule, arg=row.argument)
        written = row.S if row.setting == 1 else 2 * row.S
        batches = loader(written, row.S, row.S, row.setting == 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step() -> float:
        x, query, y = batches.get_batch(BATCH, "cpu")
        wanted = model.embeddingV(y - row.S).squeeze(1)
        loss = (0.5 * (wanted - model(x, query)).pow(2)).sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


@contextlib.contextmanager
def published_modules() -> Iterator[tuple[Any, Any]]:
    """Its model and its loader; it prints as it builds, and imports its own files by bare name."""
    folder = Path(os.environ.get(VARIABLE, "")) / "synthetic"
    if VARIABLE not in os.environ:
        pytest.skip(f"{VARIABLE} names no clone of github.com/ischlag/fast-weight-transformers")
    if not (folder / "linearAttention.py").is_file():
        pytest.fail(f"{VARIABLE}: expected synthetic/linearAttention.py in {folder.parent}")
    sys.path.insert(0, str(folder))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield (
                importlib.import_module("linearAttention").PrefixSumLinearAttentionModel,
                importlib.import_module("associativeRetrievalDataset").DataLoader,
            )
    finally:
        sys.path.remove(str(folder))
