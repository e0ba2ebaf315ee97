"""Bugs written afresh, sharing no line with the mutants, are caught and named."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from fwpbench.cli import main
from fwpbench.commands import check
from fwpbench.harness.mutants import MUTANTS
from tests.installed import ROOT, installed, run

#: Retention, DeltaNet and linear attention in plain torch; the marked words are replaced by bugs.
FRESH = '''
import torch


def heads(*xs):
    return [x.float().transpose(1, 2) for x in xs]


def unit(x):
    return x * (x.square().sum(-1, keepdim=True) + 1e-6).rsqrt()


def retention(q, k, v, alpha, initial_state=None):
    """Chunks of 24, decays as exponentials of sums of logarithms.

    In float32 these sums err more than the gate allows.
    """
    dtype, C, T = v.dtype, 24, v.shape[1]
    q, k, v, a = heads(unit(q.float()), unit(k.float()), v, alpha[..., None])
    S = torch.zeros(*k.shape[:2], k.shape[-1], v.shape[-1])
    S = S if initial_state is None else initial_state
    read = []
    for s in range(0, T, C):
        Q, X, V, g = (x[:, :, s : s + C] for x in (q, k, v, a.clamp(min=1e-30).log()))
        c = g.double().cumsum(2)
        later = torch.ones(X.shape[2], X.shape[2]).triu(1).bool()
        D = (c - c.mT).masked_fill(later, -torch.inf).exp().float()
        read.append(SCALE * (ENTERING * Q @ S + (Q @ X.mT * D) @ V))
        S = CARRIED * S + (X * (c[:, :, -1:] - c).exp().float()).mT @ V
    return torch.cat(read, 2).transpose(1, 2).to(dtype), S


def deltanet(q, k, v, beta, initial_state=None):
    """Chunks of 40, corrected token by token."""
    dtype, C, T = v.dtype, 40, v.shape[1]
    q, k, v, b = heads(unit(q.float()), unit(k.float()), v, beta[..., None])
    S = torch.zeros(*k.shape[:2], k.shape[-1], v.shape[-1])
    S = S if initial_state is None else initial_state
    read = []
    for s in range(0, T, C):
        Q, X, V, w = (x[:, :, s : s + C] for x in (q, k, v, b))
        left, rows = V - ASKING @ S, []
        for i in range(X.shape[2]):
            u = left[:, :, i : i + 1]
            if i:
                u = u - (X @ X.mT)[:, :, i : i + 1, :i] @ torch.cat(rows, 2)
            rows.append(WEIGHT * u)
        U = torch.cat(rows, 2)
        read.append(Q @ S + (Q @ X.mT).tril() @ U)
        S = S + X.mT @ U
    return torch.cat(read, 2).transpose(1, 2).to(dtype), S


def linear(q, k, v, initial_state=None):
    """Chunks of 48; the state is (S, z)."""
    dtype, C, T = v.dtype, 48, v.shape[1]
    q, k, v = heads(q, k, v)
    q, k = (torch.where(x > 0, x + 1, x.clamp(max=0).exp()) for x in (q, k))
    S, z = torch.zeros(*k.shape[:2], k.shape[-1], v.shape[-1]), torch.zeros(*k[:, :, 0].shape)
    S, z = (S, z) if initial_state is None else initial_state
    read = []
    for s in range(0, T, C):
        Q, X, V = (x[:, :, s : s + C] for x in (q, k, v))
        A = (Q @ X.mT).tril()
        seen = COUNTED.sum(-1, keepdim=True) + Q @ z[..., None]
        read.append((Q @ S + A @ V) / (seen + 1e-6))
        S, z = S + X.mT @ V, z + X.sum(2)
    return torch.cat(read, 2).transpose(1, 2).to(dtype), (S, z)
'''
RIGHT = {
    "SCALE": "1", "ENTERING": "c.exp().float()", "CARRIED": "c[:, :, -1:].exp().float()",
    "ASKING": "X", "WEIGHT": "w[:, :, i : i + 1]", "COUNTED": "A",
}  # fmt: skip
OPERATORS = {
    "retention": ["--rule", "decay", "--norm", "l2"],
    "deltanet": ["--rule", "delta", "--norm", "l2"],
    "linear": ["--rule", "sum", "--phi", "elu+1", "--norm", "attention"],
}
BUGS = {
    "decay dropped at a chunk border": ("retention", {"CARRIED": "1"}),
    "entering state not decayed": ("retention", {"ENTERING": "1"}),
    "scale K^(−1/2) applied": ("retention", {"SCALE": "k.shape[-1] ** -0.5"}),
    "dk without its second term": ("deltanet", {"ASKING": "X.detach()"}),
    "β twice": ("deltanet", {"WEIGHT": "w[:, :, i : i + 1] ** 2"}),
    "normaliser before the update": ("linear", {"COUNTED": "A.tril(-1)"}),
    "gradient of z dropped": ("linear", {"COUNTED": "A.detach()"}),
}


def written(**changes: str) -> str:
    text = FRESH
    for word, code in (RIGHT | changes).items():
        text = re.sub(rf"\b{word}\b", code, text)
    return text


def checked(
    function: str, text: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    (folder / "fresh.py").write_text(text, encoding="utf-8")
    words = [*OPERATORS[function], "--dtype", "fp32", "--sizes", "T=65", "--device", "cpu"]
    words += ["--inputs", "normal,realistic"]  # a logarithm has no gradient where α is 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check, "begin", lambda command: None)  # here: torch is imported already
        code = main(["check", f"{folder / 'fresh.py'}:{function}", *words])
    return code, capsys.readouterr().out


@pytest.mark.parametrize("function", OPERATORS)
def test_without_a_bug_they_are_right(function, tmp_path, capsys):
    code, out = checked(function, written(), tmp_path, capsys)
    assert code == 0, out


@pytest.mark.parametrize("bug", BUGS)
def test_check_names_the_bug(bug, tmp_path, capsys):
    function, changes = BUGS[bug]
    assert bug in MUTANTS
    code, out = checked(function, written(**changes), tmp_path, capsys)
    print(out.splitlines()[-1])
    assert code == 1
    assert out.splitlines()[-1].startswith(f"looks like: {bug}"), out


def test_an_installed_package_with_a_bug_is_caught_and_the_bug_is_named(tmp_path):
    """From the template: its own package, its own entry point, chunks of 24."""
    source = tmp_path / "source"
    shutil.copytree(ROOT / "examples/plugin", source)
    (package,) = source.glob("fwpbench_*")
    project = (source / "pyproject.toml").read_text(encoding="utf-8")
    (source / "pyproject.toml").write_text(
        project.replace("quadratic", "retention"), encoding="utf-8"
    )
    fresh = source / "fwpbench_retention"
    package.rename(fresh)
    (fresh / "__init__.py").write_text(
        written(CARRIED="1")
        + """

import fwpbench


def run(problem, inputs):
    S = None if inputs.state is None else inputs.state.S
    o, S = retention(inputs.q, inputs.k, inputs.v, inputs.gates["alpha"], S)
    return fwpbench.Output(o, fwpbench.State(S) if problem.state_out else None)


def cannot(problem):
    mine = (problem.rule, problem.phi, problem.norm) == ("decay", "identity", "l2")
    return None if mine else "Retention alone"


IMPLEMENTATION = fwpbench.Implementation(run, "chunks of 24", cannot=cannot)
""",
        encoding="utf-8",
    )
    path = installed(source, tmp_path)
    words = ["run", "agreement", "--implementations", "retention", "--device", "cpu", "--json"]
    where = ["--where", "rule=decay phi=identity norm=l2", "--output", "made"]
    command = [sys.executable, "-m", "fwpbench", *words, *where]
    run(*command, cwd=tmp_path, code=1, **path)
    lines = (tmp_path / "made/records.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    reasons = [r["reason"] for r in records if r["status"] == "incorrect"]
    assert len(reasons) == len(records) == 6
    # One decoded token says too little.
    reasons = [r["reason"] for r in records if "direction=decode" not in r["problem"]]
    for reason in reasons:
        print(reason)
        assert "wrong from t = 24" in reason
        assert "looks like: decay dropped at a chunk border" in reason
