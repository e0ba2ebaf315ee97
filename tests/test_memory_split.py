"""The parts of memory, on implementations whose every allocation is known: exact to the byte."""

from __future__ import annotations

import pytest
import torch

from fwpbench.harness.device import CpuDevice
from fwpbench.harness.profiles import PROFILES
from fwpbench.harness.suite import Case, Setting
from fwpbench.implementations.base import Implementation, Output
from fwpbench.operators.problem import Problem
from fwpbench.operators.state import State
from fwpbench.suites import memory, timed

PROBLEM = Problem(
    rule="sum", phi="identity", norm="none", B=1, T=64, H=1, K=16, V=16,
    dtype="fp32", direction="forward+backward",
)  # fmt: skip
TENSOR = 64 * 16 * 4
HERE = Setting(CpuDevice(), PROFILES["quick"], 0)


class Scripted(torch.autograd.Function):
    """o = 0; forward keeps v, o and two tensors of its own, and borrows three for a while."""

    @staticmethod
    def forward(ctx, q, k, v):
        borrowed = torch.empty(3 * TENSOR, dtype=torch.int8)
        o = v * 0
        own = torch.zeros(5 * TENSOR, dtype=torch.int8)
        half = own[: TENSOR // 2]  # a view: its storage counts once
        other = torch.zeros(TENSOR, dtype=torch.int8)
        ctx.save_for_backward(v, o, own, half, other)
        del borrowed
        return o

    @staticmethod
    def backward(ctx, do):
        v, *_ = ctx.saved_tensors
        return do.clone(), do.clone(), v.clone()


def run(problem: Problem, inputs) -> Output:
    o = Scripted.apply(inputs.q, inputs.k, inputs.v)
    S = torch.zeros(1, 1, 16, 16) if problem.state_out else None
    return Output(o, None if S is None else State(S))


@pytest.fixture
def parts(monkeypatch):
    monkeypatch.setattr(timed.Rechecked, "complaint", lambda self: None)
    monkeypatch.setattr(memory, "wrong", lambda *_: None)
    answer = memory.answer(Case(PROBLEM), Implementation(run, "scripted"), HERE)
    return {name: measured.value for name, measured in answer.metrics.items()}


def test_the_parts_are_exact_to_the_byte(parts):
    assert parts["inputs"] == 3 * TENSOR
    assert parts["outputs"] == TENSOR
    assert parts["state"] == 16 * 16 * 4
    assert parts["saved"] == 6 * TENSOR, "not v and o, and one storage once"
    # Forward: borrowed, o and what it keeps; backward: o, what it keeps and three gradients.
    assert parts["peak"] == 10 * TENSOR
    assert parts["workspace"] == 10 * TENSOR - 4 * TENSOR


def test_a_forward_call_saves_nothing(monkeypatch):
    monkeypatch.setattr(timed.Rechecked, "complaint", lambda self: None)
    monkeypatch.setattr(memory, "wrong", lambda *_: None)
    case = Case(PROBLEM.replace(direction="forward", state="out"))
    answer = memory.answer(case, Implementation(run, "scripted"), HERE)
    assert "saved" not in answer.metrics
