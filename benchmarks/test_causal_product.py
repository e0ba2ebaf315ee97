"""`chunked` beside a causal product in C++: the sum rule without map and normalisation.

python -m pip install --no-build-isolation pytorch-fast-transformers==0.4.0    # needs g++
python -m pytest benchmarks/test_causal_product.py --benchmark-columns=min,median,rounds

Without that package its rows are skipped. Float32, forward and backward; both calls in turn, so
that what else the machine does hits both. Nothing is asserted about times: docs/performance.md has
those that were seen, and the aims.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from benchmarks.in_turn import milliseconds_in_turn
from benchmarks.test_chunked import make_training_call
from fwpbench.implementations._room import with_room
from fwpbench.operators.inputs import make_inputs
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import Problem

OPERATOR = Operator("sum", "identity", "none")
SHAPES = {
    "B1 H8 T1024 K64": {"B": 1, "T": 1024, "H": 8, "K": 64, "V": 64},
    "B8 H8 T256 K16": {"B": 8, "T": 256, "H": 8, "K": 16, "V": 16},
}
ROUNDS = 50


@pytest.mark.parametrize("shape", SHAPES)
def test_chunked(benchmark: Any, shape: str) -> None:
    benchmark.group = f"causal product, {shape}"
    with_room(partial(benchmark.pedantic, chunked(shape), rounds=ROUNDS, warmup_rounds=3))


@pytest.mark.parametrize("shape", SHAPES)
def test_chunked_and_the_peer_in_turn(shape: str, capsys: Any) -> None:
    """Both compute the same; then the ratio of their medians."""
    peer, ours = fast_transformers(shape), chunked(shape)
    for theirs, own in zip(peer(), ours(), strict=True):
        torch.testing.assert_close(theirs.transpose(1, 2), own, rtol=1e-3, atol=1e-3)
    times = milliseconds_in_turn((("peer", peer), ("ours", ours)), ROUNDS)
    medians = {name: statistics.median(each) for name, each in times.items()}
    with capsys.disabled():
        print(
            f"\n{shape}, {torch.get_num_threads()} threads: fast-transformers "
            f"{medians['peer']:.2f} ms, chunked {medians['ours']:.2f} ms (medians of {ROUNDS}): "
            f"{medians['peer'] / medians['ours']:.2f} times as fast"
        )


def problem(shape: str) -> Problem:
    return Problem.of(OPERATOR, dtype="fp32", direction="forward+backward", **SHAPES[shape])


def chunked(shape: str) -> Callable[[], Any]:
    return make_training_call(OPERATOR, SHAPES[shape], "chunked")


def fast_transformers(shape: str) -> Callable[[], Any]:
    """Its CPU kernel as its own layers call it: contiguous, heads before tokens."""
    module = pytest.importorskip(
        "fast_transformers.causal_product",
        reason="pip install --no-build-isolation pytorch-fast-transformers==0.4.0 (needs g++)",
    )
    inputs = make_inputs(problem(shape), seed=0)
    leaves = [
        x.transpose(1, 2).contiguous().requires_grad_() for x in (inputs.q, inputs.k, inputs.v)
    ]
    ones = torch.ones_like(leaves[2])

    def call() -> Any:
        return torch.autograd.grad(module.causal_dot_product(*leaves), leaves, ones)

    return call
