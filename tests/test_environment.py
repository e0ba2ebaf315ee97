"""Laws of the environment: all that may change a number, nothing personal, and typed again."""

from __future__ import annotations

import getpass
import json
import os
import platform
import shlex
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fwpbench.harness import environment
from fwpbench.harness.device import CpuDevice
from fwpbench.harness.environment import VARIABLES, command_line, describe, package_version
from fwpbench.harness.records import PROTOCOL
from tests.simulated_device import SimulatedDevice


@pytest.fixture
def facts() -> dict[str, Any]:
    return dict(describe(CpuDevice(), "fwpbench run", "0.1.0"))


def test_it_tells_what_may_change_a_number(facts: dict[str, Any]) -> None:
    assert facts["fwpbench"] == "0.1.0"
    assert facts["protocol"] == PROTOCOL
    assert facts["torch"] == torch.__version__
    assert facts["python"] == platform.python_version()
    assert facts["threads"] == torch.get_num_threads()
    assert facts["cores"] >= 1
    assert facts["memory bytes"] > 2**28
    assert facts["device"] == facts["cpu"] != ""
    assert {"commit", "dirty", "os", "numpy", "triton", "command", "started"} <= facts.keys()


def test_it_tells_how_tasks_are_executed(facts: dict[str, Any]) -> None:
    assert facts["isolation"] == 0
    told = describe(CpuDevice(), "", "", {"isolation": 1, "threads": 77})
    assert (told["isolation"], told["threads"]) == (1, 77)


def test_it_is_json_as_it_stands(facts: dict[str, Any]) -> None:
    assert json.loads(json.dumps(facts)) == facts


def test_it_names_the_device_that_is_given() -> None:
    facts = describe(SimulatedDevice([1.0]), "", "")
    assert (facts["device"], facts["device kind"]) == ("a made-up device", "simulated")


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_that_changes_numbers_is_told_and_only_where_it_is_set(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "7")
    assert describe(CpuDevice(), "", "")[name] == "7"
    monkeypatch.delenv(name)
    assert name not in describe(CpuDevice(), "", "")


def test_it_tells_neither_user_nor_host_nor_other_variables(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", "/home/ada.lovelace")
    monkeypatch.setenv("SECRET_TOKEN", "token-of-the-test")
    command = command_line(["report", "/home/ada.lovelace/run", "--output", "/home/ada.lovelace/"])
    told = json.dumps(describe(CpuDevice(), command, "0.1.0"))
    for personal in ("ada.lovelace", "token-of-the-test", f'"{socket.gethostname()}"'):
        assert personal not in told
    user = getpass.getuser()
    assert user not in told.replace(command, "").split('"')


def test_no_commit_is_told_of_what_git_does_not_keep(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def repository(*words: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        git = ["git", "-C", str(tmp_path), *identity, *words]
        return subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()

    file = tmp_path / "environment.py"
    file.touch()
    monkeypatch.setattr(environment, "__file__", str(file))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert environment._commit() == {"commit": None, "dirty": None}
    repository("init", "--quiet")
    assert environment._commit() == {"commit": None, "dirty": None}
    repository("add", ".")
    repository("commit", "--quiet", "--message", "first")
    head = repository("rev-parse", "HEAD")
    assert environment._commit() == {"commit": head, "dirty": False}
    file.write_text("changed", encoding="utf-8")
    assert environment._commit() == {"commit": head, "dirty": True}


def test_without_git_no_commit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert environment._commit() == {"commit": None, "dirty": None}


def test_a_package_that_is_not_there_has_no_version() -> None:
    assert package_version("torch") == torch.__version__
    assert package_version("no-such-package-anywhere") is None


# The command


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)))
def test_a_command_can_be_read_back(words: list[str]) -> None:
    line = command_line(words)
    assert [os.path.expanduser(word) for word in shlex.split(line)] == ["fwpbench", *words] or any(
        word.startswith("~") for word in words
    )


AWKWARD = [
    'rule=sum T>=67', "T>=67", "a;b", "$HOME", "`id`", "a'b", 'a"b', "*", "", "~", "a&b", "!x", "#",
    "\\", "a\nb", "{a,b}", "=x", "x=1", "(a)", "phi=elu+1", "α",
]  # fmt: skip


def test_a_shell_reads_the_command_as_it_was_typed(tmp_path: Path) -> None:
    home = os.path.expanduser("~")
    words = [*AWKWARD, f"{home}/runs/a", f"{home}/my runs/a"]
    shell = command_line(words).replace("fwpbench", "printf '%s\\0'", 1)
    said = subprocess.run(["sh", "-c", shell], cwd=tmp_path, capture_output=True, check=True)
    assert said.stdout.decode().split("\0")[:-1] == words


def test_a_command_stays_readable() -> None:
    words = ["run", "speed", "--where", "rule=sum T>=67", "--seed", "3", "--output", "runs/a.b-c"]
    assert command_line(words) == (
        'fwpbench run speed --where "rule=sum T>=67" --seed 3 --output runs/a.b-c'
    )
