"""A small run of the command line, for tests of what commands do with runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fwpbench.cli import main
from fwpbench.commands import check_listed, run
from fwpbench.harness.engine import InProcess
from fwpbench.harness.run_folder import read_run
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations.base import Output
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.problem import Problem
from fwpbench.suites import SUITES

ROOT = Path(__file__).parent.parent
#: Twelve records, quickly.
SMALL = ["agreement", "--where", "rule=sum phi=elu+1 norm=attention", "--device", "cpu"]
SMALL += ["--implementations", "chunked,reference"]


@pytest.fixture(scope="module")
def in_this_process() -> Iterator[None]:
    """What `main` runs here; test_isolation.py has the laws of what runs elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (run, check_listed):
            patch.setattr(module, "executor", lambda here, log, *_: InProcess(SUITES, here, log))
        yield


@pytest.fixture(scope="module")
def finished(in_this_process: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    path = tmp_path_factory.mktemp("finished") / "run"
    assert main(["run", *SMALL, "--output", str(path), "--json"]) == 0
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def keys(path: Path) -> list[str]:
    run = read_run(path)
    assert run.complaints == []
    return [record.key for record in run.records]


def fails_at(call: int, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference raises `error` when it is called for the call-th time."""
    reference, calls = IMPLEMENTATIONS["reference"], [0]

    def run(problem: Problem, inputs: Inputs) -> Output:
        calls[0] += 1
        if calls[0] == call:
            raise error
        return reference.run(problem, inputs)

    monkeypatch.setitem(IMPLEMENTATIONS._loaded, "reference", replace(reference, run=run))


def printable(text: str) -> bool:
    return all(character.isprintable() or character == "\n" for character in text)


def fwpbench_in_a_process(*words: str, **given: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fwpbench", *words]
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | given
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | given.get("env", {})
    return subprocess.run(command, check=False, **(piped | {"env": environment}))


def exits(words: list[str]) -> int:
    """The exit code, however it is given."""
    try:
        return main(words)
    except SystemExit as end:
        return int(end.code or 0)


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))
