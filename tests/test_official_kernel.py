"""The adapter of the published CUDA kernel, around a module with its functions in plain PyTorch."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from benchmarks import official_kernel
from fwpbench.harness.agreement import check
from fwpbench.harness.golden import Truths
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import Problem
from tests.tables import problem_of

PEER = official_kernel.IMPLEMENTATIONS["official-cuda"]
truths = Truths()


def law(q, k, v, beta, S):
    """[B, H, T, ·]: o, what was found under each key, what was written, and the last state."""
    o, found, written = [], [], []
    for t in range(q.shape[2]):
        found.append(torch.einsum("bhd,bhdv->bhv", k[:, :, t], S))
        written.append(beta[:, :, t] * (v[:, :, t] - found[-1]))
        S = S + k[:, :, t, :, None] * written[-1][:, :, None]
        o.append(torch.einsum("bhd,bhdv->bhv", q[:, :, t], S))
    return *(torch.stack(x, 2) for x in (o, found, written)), S


def fast_weight_forward(queries, keys, values, betas, v_old, v_insert, kv, product):
    """Adds to what is zero, as the kernel does."""
    o, found, written, S = law(queries, keys, values, betas, kv)
    for room, x in ((product, o), (v_old, found), (v_insert, written)):
        room += x
    kv.copy_(S)


def fast_weight_backward(
    queries, keys, values, betas, v_old, v_insert, grad_out, fw_mem,
    grad_q, grad_k, grad_v, grad_betas,
):  # fmt: skip
    fw_mem -= torch.einsum("bhtd,bhtv->bhdv", keys, v_insert)
    leaves = [x.detach().requires_grad_() for x in (queries, keys, values, betas)]
    with torch.enable_grad():
        o, found, written, _ = law(*leaves, fw_mem)
    torch.testing.assert_close(v_old, found)
    torch.testing.assert_close(v_insert, written)
    gradients = torch.autograd.grad(o, leaves, grad_out)
    for room, x in zip((grad_q, grad_k, grad_v, grad_betas), gradients, strict=True):
        room += x


@pytest.fixture
def in_plain_pytorch(monkeypatch):
    fake = SimpleNamespace(
        fast_weight_forward=fast_weight_forward, fast_weight_backward=fast_weight_backward
    )
    monkeypatch.setattr(official_kernel, "kernel", lambda: fake)


def small(operator=("delta", "elu+1", "sum"), **changes) -> Problem:
    sizes = {"B": 2, "T": 19, "H": 3, "K": 6, "V": 5, "dtype": "fp32"}
    return problem_of(Operator(*operator), **(sizes | {"direction": "forward"} | changes))


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "changes",
    [
        {"direction": "forward+backward", "state": "none"},
        {"state": "in+out"},
        {"state": "out"},
        {"direction": "decode"},
    ],
    ids=str,
)
def test_every_argument_arrives_as_meant(in_plain_pytorch, dtype, changes):
    for operator in (("delta", "elu+1", "sum"), ("delta", "identity", "l2")):
        problem = small(operator, dtype=dtype, **changes)
        assert PEER.cannot(problem) is None
        agreement = check(PEER.run, problem, truths(problem, 0))
        assert agreement.status == "ok", agreement.reason


@pytest.mark.parametrize(
    ("operator", "changes", "words"),
    [
        (("sum", "elu+1", "sum"), {}, "the rule sum"),
        (("delta", "elu+1", "attention"), {}, "norm=attention"),
        (("delta", "elu+1", "sum"), {"dtype": "fp64"}, "fp64"),
        (("delta", "elu+1", "sum"), {"direction": "forward+backward", "state": "in"}, "gradients"),
        (("delta", "elu+1", "sum"), {"K": 128, "V": 128}, "48 KiB"),
        (("delta", "identity", "l2"), {"K": 2000, "V": 1}, "48 KiB"),
    ],
    ids=str,
)
def test_what_it_does_not_do_has_a_sentence(operator, changes, words):
    assert words in PEER.cannot(small(operator, **({"state": "none"} | changes)))


def test_tokens_at_a_time_are_those_of_its_launches():
    """At 64 × 64, where 1024 threads hold 16 rows: by hand from its sums of shared memory."""
    problem = small(K=64, V=64, direction="forward+backward", state="none")
    forward = (12288 - 67 * 64) // (64 + 128 + 1)
    values = (12288 - 65 * 64 - 1) // (3 * 64 + 128 + 1)
    keys = (12288 - 2 * 64 * 17) // (128 + 80 + 1)
    assert official_kernel.tokens_at_a_time(problem) == [forward, values, keys]


def test_what_is_missing_is_said(monkeypatch, tmp_path):
    monkeypatch.delenv(official_kernel.VARIABLE, raising=False)
    assert "IDSIA/lmtool-fwp" in PEER.missing()
    monkeypatch.setenv(official_kernel.VARIABLE, str(tmp_path))
    assert "is not there" in PEER.missing()
    place = tmp_path / official_kernel.SOURCE
    place.parent.mkdir(parents=True)
    place.touch()
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "CUDA device" in PEER.missing()
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.utils.cpp_extension.CUDA_HOME", None)
    assert "nvcc" in PEER.missing()
