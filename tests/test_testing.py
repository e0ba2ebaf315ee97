"""The laws for plugin authors catch what breaks them, and the template package keeps them."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import SkipTest

import pytest
import torch

from fwpbench import testing
from fwpbench.cli import main
from fwpbench.harness.golden import Truths
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations.base import Implementation, Output
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.problem import Problem
from fwpbench.operators.state import State
from tests.installed import ROOT, installed, run

PROBLEM = testing.PROBLEMS[2]  # the sum rule as it is
CHUNKED = IMPLEMENTATIONS["chunked"]


def test_the_template_package_builds_installs_and_passes_its_tests(tmp_path: Path) -> None:
    copy = shutil.copytree(ROOT / "examples/plugin", tmp_path / "plugin")
    path = installed(copy, tmp_path)
    shutil.rmtree(copy / "fwpbench_quadratic")  # what is tested is what is installed
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", copy / "tests"]
    assert " passed" in run(*tests, cwd=tmp_path, **path)
    fwpbench = [sys.executable, "-m", "fwpbench"]
    rows = json.loads(run(*fwpbench, "list", "implementations", "--json", cwd=tmp_path, **path))
    (row,) = (row for row in rows if row["name"] == "quadratic")
    assert (row["origin"], row["here"]) == ("third-party", "yes")
    words = ["check", "--implementations", "quadratic", "--device", "cpu", "--json"]
    lines = run(*fwpbench, *words, "--where", "phi=square norm=none", cwd=tmp_path, **path)
    statuses = [json.loads(line)["status"] for line in lines.splitlines()]
    assert statuses.count("ok") == 6
    assert {*statuses} == {"ok", "unsupported"}


# Wrong implementations

BETA_TWICE = '''
"""The delta rule in chunks of 16, with one mistake: β is applied to the keys and to the values."""
import torch
import fwpbench


def run(problem, inputs):
    dtype = problem.arithmetic_dtype
    q, k, v = (x.to(dtype).transpose(1, 2) for x in (inputs.q, inputs.k, inputs.v))
    q, k = (x * (x.square().sum(-1, keepdim=True) + 1e-6).rsqrt() for x in (q, k))
    beta = inputs.gates["beta"].transpose(1, 2)[..., None]
    S = k.new_zeros(*k.shape[:2], problem.K, problem.V)
    S = S if inputs.state is None else inputs.state.S
    read = []
    for start in range(0, k.shape[2], 16):
        Q, K, V, b = (x[:, :, start : start + 16] for x in (q, k, v, beta))
        one = torch.eye(K.shape[2], dtype=dtype)
        A = torch.linalg.inv(one + (b * K @ K.mT).tril(-1))
        U = A @ (b * (b * V - K @ S))
        read.append(Q @ S + (Q @ K.mT).tril() @ U)
        S = S + K.mT @ U
    o = torch.cat(read, 2).transpose(1, 2).to(problem.torch_dtype)
    return fwpbench.Output(o, fwpbench.State(S) if problem.state_out else None)


def cannot(problem):
    mine = (problem.rule, problem.phi, problem.norm) == ("delta", "identity", "l2")
    return None if mine and problem.reads and not problem.masked else "only DeltaNet"


IMPLEMENTATIONS = {"my-delta": fwpbench.Implementation(run, "chunks of 16", cannot=cannot)}
'''


@pytest.mark.parametrize(("mistake", "code", "status"), [
    ("b * V", 1, "incorrect"), ("V", 0, "ok"),
])  # fmt: skip
def test_a_plugin_with_beta_applied_twice_is_incorrect(
    mistake: str,
    code: int,
    status: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(BETA_TWICE.replace("b * V", mistake), encoding="utf-8")
    words = ["--plugin", "mine.py", "--implementations", "my-delta", "--device", "cpu", "--json"]
    assert main(["check", *words, "--where", "rule=delta phi=identity norm=l2"]) == code
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["status"] for line in lines] == [status] * 6


def edited(edit: Callable[[Problem, Inputs, Output], Output]) -> Implementation:
    """What chunked computes, edited."""
    return replace(CHUNKED, run=lambda p, x: edit(p, x, CHUNKED.run(p, x)))


def writes_into_k(problem: Problem, inputs: Inputs, output: Output) -> Output:
    inputs.k.add_(1)
    return output


def state_times(factor: float) -> Implementation:
    def edit(problem: Problem, inputs: Inputs, output: Output) -> Output:
        state = output.state and State(factor * output.state.S)
        return output._replace(state=state)

    return edited(edit)


def at_short_lengths(problem: Problem, inputs: Inputs, output: Output) -> Output:
    return output._replace(o=output.o * (1.01 if problem.T < 3 else 1.0))


def where_nothing_is_read(problem: Problem, inputs: Inputs, output: Output) -> Output:
    return output if problem.reads else output._replace(state=State(2 * output.state.S))


#: What breaks each law, and the tensor that the law names.
BREAKS = {
    "agrees_with_float64": (edited(lambda p, x, y: y._replace(o=1.01 * y.o)), "o, dq, dk"),
    "any_length_agrees": (edited(at_short_lengths), "o differs by"),
    "two_halves_make_a_whole": (state_times(1.01), "S differs by|o differs by"),
    "no_token_sees_a_later_one": (
        edited(lambda p, x, y: y._replace(o=y.o + y.o.mean(1, keepdim=True))), "o differs by"
    ),
    "rows_and_heads_do_not_meet": (
        edited(lambda p, x, y: y._replace(o=y.o + torch.arange(p.H)[:, None])), "o differs by"
    ),
    "inputs_are_left_alone": (edited(writes_into_k), "k was changed by the call"),
    "only_writing_gives_the_same_state": (edited(where_nothing_is_read), "S differs by"),
    "a_masked_token_is_as_if_it_were_not_there": (
        replace(CHUNKED, run=lambda p, x: CHUNKED.run(p, x._replace(mask=None))), "o differs by"
    ),
    "without_causality_the_order_does_not_matter": (
        edited(lambda p, x, y: y._replace(o=y.o + x.v[:, :1])), "o differs by"
    ),
}  # fmt: skip


@pytest.mark.parametrize("law", testing.LAWS, ids=testing.name)
def test_each_law_catches_what_breaks_it_and_names_the_tensor(
    law: testing.Law, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testing, "truths", Truths())
    wrong, sentence = BREAKS[testing.name(law)]
    law(CHUNKED, PROBLEM)
    with pytest.raises(AssertionError, match=sentence):
        law(wrong, PROBLEM)


def test_what_is_refused_is_skipped_with_its_reason() -> None:
    refusing = replace(CHUNKED, missing=lambda: "no driver here")
    for law, problem in testing.CHECKS:
        with pytest.raises(SkipTest, match=r"no driver here|depends on the order"):
            law(refusing, problem)
