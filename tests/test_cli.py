"""Laws of the command line: what it exits with, what it prints, and that nothing is lost."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import fwpbench
from fwpbench import cli, progress
from fwpbench.cli import KINDS, main, make_parser
from fwpbench.commands import check_listed, run
from fwpbench.commands.run import score_the_gate
from fwpbench.commands.selection import make_setting
from fwpbench.harness.budget import Budget
from fwpbench.harness.engine import InProcess
from fwpbench.harness.plan import Task, make_tasks
from fwpbench.harness.profiles import PROFILES
from fwpbench.harness.records import SCHEMA, Record, to_line
from fwpbench.harness.run_folder import Run, RunWriter, read_run
from fwpbench.harness.suite import Setting
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations.base import Output
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.problem import Problem
from fwpbench.progress import Live, Plain, Remaining, duration, groups
from fwpbench.suites import SUITES
from tests.simulated_device import SimulatedDevice

ROOT = Path(__file__).parent.parent
#: Twelve records, quickly.
SMALL = ["agreement", "--where", "rule=sum phi=elu+1 norm=attention", "--device", "cpu"]
SMALL += ["--implementations", "chunked,reference"]


@pytest.fixture(scope="module", autouse=True)
def in_this_process() -> Iterator[None]:
    """What `main` runs here; test_isolation.py has the laws of what runs elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (run, check_listed):
            patch.setattr(module, "executor", lambda here, log, *_: InProcess(SUITES, here, log))
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
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


# Wrong usage

WRONG: dict[str, tuple[list[str], str]] = {
    "no command": ([], "required: COMMAND"),
    "a command": (["rum"], "no command named 'rum'. Did you mean 'run'?"),
    "a suite": (["run", "sped"], "no suite named 'sped'. Did you mean 'speed'?"),
    "an implementation": (["run", "--implementations", "chunkd"], "Did you mean 'chunked'?"),
    "no implementation": (["run", "--implementations", ","], "--implementations needs a name"),
    "a kind": (["list", "feature-map"], "named 'feature-map'. Did you mean 'feature-maps'?"),
    "a profile": (["run", "--profile", "quik"], "no profile named 'quik'. Did you mean 'quick'?"),
    "a device": (["check", "--device", "cdua"], "no device named 'cdua'. Did you mean 'cuda'?"),
    "an option": (["run", "--outptu=x"], "no option named '--outptu'. Did you mean '--output'?"),
    "an option before the command": (["--verson", "run"], "Did you mean '--version'?"),
    "an option cut short": (["run", "--prof", "full"], "Did you mean '--profile'?"),
    "a word too many": (["list", "suites", "now"], "cannot use now"),
    "a field": (["run", "--where", "rle=sum"], "named 'rle'. Did you mean 'rule'?"),
    "a rule": (["check", "--where", "rule=dleta"], "named 'dleta'. Did you mean 'delta'?"),
    "a feature map": (["run", "--where", "phi=dpfq-*,relo"], "named 'relo'. Did you mean 'relu'?"),
    "a condition": (["run", "--where", "fast"], "'fast' is not a condition"),
    "nothing passes": (["run", "--where", "T>=999999999"], "no case of agreement, speed"),
    "a seed": (["run", "--seed", "x"], "argument --seed: invalid int value: 'x'"),
    "a negative seed": (["run", "--seed", "-1"], "--seed must be at least 0"),
    "a giant seed": (["run", "--seed", str(2**63)], "below 2**63"),
    "a timeout": (["run", "--timeout", "soon"], "10m or 1h30m, not 'soon'"),
    "a timeout of nothing": (["check", "--timeout", "0s"], "90s, 10m or 1h30m, not '0s'"),
    "a budget": (["run", "--budget", "10min"], "expected a time such as 90 (seconds), 90s, 10m or"),
    "a part": (["run", "--shard", "3/2"], "expected a part such as 1/8, 2/8 … 8/8, not '3/2'"),
    "a part of few": (
        ["run", "stability", "--where", "rule=sum", "--shard", "9/9"],
        "--shard 9/9: there are only 3 cases to share out",
    ),
    "merge what": (["merge", "--output", "x"], "required: RUN"),
    "merge nothing": (["merge", "nowhere", "--output", "x"], "nowhere is not a run"),
    "list what": (["list"], "list what? feature-maps"),
    "names of problems": (["list", "problems", "--names"], "problems have no names"),
    "report of what": (["report"], "required: RUN"),
    "report of nothing": (["report", "nowhere"], "nowhere is not a run"),
    "resume nothing": (["run", "--resume", "nowhere"], "nowhere is not a run"),
}  # fmt: skip


def exits(words: list[str]) -> int:
    """The exit code, however it is given."""
    try:
        return main(words)
    except SystemExit as end:
        return int(end.code or 0)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_usage_exits_2_with_a_sentence_and_the_nearest_word(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, sentence = WRONG[name]
    assert exits(words) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert printed.err.startswith("fwpbench")
    assert printed.out == ""
    assert list(folder.iterdir()) == [], "nothing is left behind"


# Help

PARSERS: dict[str, ArgumentParser] = {
    "": make_parser(),
    **make_parser()._subparsers._group_actions[0].choices,  # type: ignore[union-attr, dict-item]
}


def examples(help_text: str) -> Iterator[list[str]]:
    _, _, listed = help_text.partition("examples:\n")
    for line in re.findall(r"^  (fwpbench\b.*)$", listed, re.MULTILINE):
        yield shlex.split(re.split(r" {2,}", line)[0])[1:]


EXAMPLES = [words for parser in PARSERS.values() for words in examples(parser.format_help())]


@pytest.mark.parametrize("name", PARSERS)
def test_every_help_has_examples_and_every_option_is_explained(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exits([*name.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert list(examples(text))
    assert all(action.help or action.dest == "command" for action in PARSERS[name]._actions)
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("words", EXAMPLES, ids=" ".join)
def test_every_example_of_the_help_is_a_command(
    words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that measure plan only; those that need a run are read and no more."""
    parsed = make_parser().parse_args(words)
    plans = parsed.command == "run" and not parsed.resume and not parsed.profile
    # Files that are not here.
    elsewhere = getattr(parsed, "plugin", None) or getattr(parsed, "data_dir", None)
    if not elsewhere and (parsed.command == "list" or plans):
        assert main([*words, *(["--dry-run"] if parsed.command == "run" else [])]) == 0
        assert capsys.readouterr().out
    assert list(folder.iterdir()) == []


def test_the_description_mentions_every_command() -> None:
    for name in PARSERS:
        assert f"fwpbench {name}" in cli.EXAMPLES


def test_help_and_names_do_not_import_torch() -> None:
    script = (
        "import sys; from fwpbench.cli import main\n"
        "for words in sys.argv[1:]:\n"
        "    try: main(words.split())\n"
        "    except SystemExit as end: assert not end.code\n"
        "    assert not {'torch', 'pandas', 'msgspec'} & {*sys.modules}, words\n"
    )
    words = ["--help", "--version", *(f"{name} --help" for name in PARSERS if name)]
    words += ["list --names", "list --names --json", "list suites --names"]
    done = subprocess.run(
        [sys.executable, "-c", script, *words], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert fwpbench.__version__ in done.stdout


# list


@pytest.mark.parametrize("kind", KINDS)
def test_list_tells_every_row_in_text_and_as_json(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", kind, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert main(["list", kind]) == 0
    text = capsys.readouterr().out
    assert rows
    assert printable(text)
    for row in rows:
        for value in row.values():
            for word in value.values() if isinstance(value, dict) else str(value).split("\n"):
                assert word == "yes" or word in text, "nothing is cut off or taken for markup"


def test_list_problems_says_yes_or_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "problems", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len({(row["rule"], row["phi"], row["norm"]) for row in rows}) == len(rows)
    for row in rows:
        assert list(row["implementations"]) == list(IMPLEMENTATIONS)
        for answer in row["implementations"].values():
            assert answer == "yes" or len(answer.split()) >= 3
    assert any(row["implementations"]["reference"] == "yes" for row in rows)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "problems"])
def test_list_names_are_those_of_the_rows(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", kind, "--names"]) == 0
    names = capsys.readouterr().out.split()
    assert main(["list", kind, "--names", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == names
    assert main(["list", "--names", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[kind] == names


@pytest.mark.parametrize("words", [["implementations"], ["problems"]], ids=" ".join)
def test_an_implementation_that_cannot_be_imported_is_listed_with_its_reason(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(IMPLEMENTATIONS._targets, "absent", "no_such_module:IT")
    assert main(["list", *words]) == 0
    assert "cannot be imported: No module named 'no_such_module'" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["statuses", "--names"])  # printed by rich, and by print
def test_a_reader_that_leaves_is_no_error(kind: str) -> None:
    """`fwpbench list statuses | head -0`"""
    reader, pipe = os.pipe()
    os.close(reader)
    done = fwpbench_in_a_process("list", kind, stdout=pipe)
    os.close(pipe)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_terminal_without_greek_ends_nothing() -> None:
    done = fwpbench_in_a_process("list", "statuses", env={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "? 10 %" in done.stdout


# run


def test_a_run_makes_one_record_a_case_and_a_report(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *SMALL, "--output", "my run"]) == 0
    printed = capsys.readouterr()
    run = read_run(folder / "my run")
    assert [record.key for record in run.records] == run.plan["cases"]
    assert len(run.records) == 12
    assert {record.implementation for record in run.records} == {"chunked", "reference"}
    assert (folder / "my run/report.html").is_file()
    assert "12 records to make" in printed.out
    assert printed.out.endswith("nothing wrong, nothing crashed\nreport: my run/report.html\n")
    assert printable(printed.out)
    assert printed.err == ""
    assert run.environment["fwpbench"] == fwpbench.__version__
    words = shlex.split(run.environment["command"])
    assert words == ["fwpbench", "run", *SMALL, "--output", "my run"]


def test_by_default_a_run_is_named_after_the_time(folder: Path) -> None:
    assert main(["run", *SMALL, "--where", "rule=sum phi=relu norm=l2", "--json"]) == 0
    (run,) = (folder / "runs").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-\d{6}", run.name)
    assert len(keys(run)) == 12


def test_json_is_one_object_and_nothing_else(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *SMALL, "--output", "run", "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.count("\n") == 1
    assert printable(printed.out)
    summary = json.loads(printed.out)
    assert summary == {
        "run": "run",
        "report": "run/report.html",
        "records": 12,
        "groups": {"ok": 12},
        "failed": [],
    }


def test_a_dry_run_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *SMALL, "--dry-run"]) == 0
    printed = capsys.readouterr()
    assert main(["run", *SMALL, "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert printed.out.splitlines() == planned
    assert len(planned) == 12
    assert printed.err == "12 records; nothing was run\n"
    assert list(folder.iterdir()) == []


def test_an_existing_run_is_not_written_into(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = keys(finished)
    assert main(["run", *SMALL, "--output", str(finished)]) == 2
    assert f"--resume {finished}" in capsys.readouterr().err
    assert keys(finished) == before


@pytest.mark.parametrize("json_asked", [False, True])
def test_what_crashed_exits_1_and_says_how_to_see_it_again(
    json_asked: bool,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fails_at(3, ValueError("\x1b[31mred\x1b[0m [s]struck[/s]"), monkeypatch)
    assert main(["run", *SMALL, "--output", "run", *(["--json"] if json_asked else [])]) == 1
    printed = capsys.readouterr().out
    (failed,) = (one for one in read_run(Path("run")).records if one.status != "ok")
    assert failed.reason == "ValueError: red [s]struck[/s]"
    assert printable(printed)
    if json_asked:
        assert json.loads(printed)["failed"] == [
            {"key": failed.key, "status": "runtime-error", "reason": failed.reason}
        ]
    else:
        assert f"runtime-error: {failed.key}: {failed.reason}\n" in printed
        assert f"  {failed.command}\n1 failed\n" in printed
    assert "\x1b[31mred" in (folder / "run/logs/agreement.log").read_text(encoding="utf-8")


# Interrupted and resumed


@pytest.mark.parametrize("call", [1, 4])
def test_an_interrupted_run_keeps_its_records_and_is_completed(
    call: int,
    finished: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        fails_at(call, KeyboardInterrupt(), patch)
        assert main(["run", *SMALL, "--output", "run"]) == 130
    printed = capsys.readouterr()
    kept = keys(Path("run"))
    assert kept == keys(finished)[: len(kept)]
    assert len(kept) == 2 * call - 1
    assert f"interrupted: {len(kept)} of 12 records are kept" in printed.err
    resume = re.findall(r"^  fwpbench (.*)$", printed.err, re.MULTILINE)
    assert resume == ["run --resume run"]
    assert main([*resume[0].split(), "--dry-run"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 12 - len(kept)
    assert main(resume[0].split()) == 0
    assert keys(Path("run")) == keys(finished)
    assert main([*resume[0].split(), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["records"] == 12


def test_a_reader_that_leaves_interrupts_a_run(folder: Path) -> None:
    """`fwpbench run | head -0` has not said that all is well, and can be gone on with."""
    reader, pipe = os.pipe()
    os.close(reader)
    done = fwpbench_in_a_process("run", *SMALL, "--output", "run", stdout=pipe)
    os.close(pipe)
    assert done.returncode == 130
    assert done.stderr.splitlines()[-1] == "  fwpbench run --resume run"


@pytest.mark.parametrize("command", [["check", *SMALL[1:]], ["list", "suites"]], ids=" ".join)
def test_control_c_exits_130_in_every_command(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if command[0] == "check":
        fails_at(2, KeyboardInterrupt(), monkeypatch)
    else:
        monkeypatch.setattr(type(SUITES), "__getitem__", interrupted)
    assert main(command) == 130
    printed = capsys.readouterr()
    assert "interrupted" in printed.err
    assert "interrupted" not in printed.out


def interrupted(*_: object) -> Any:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "given",
    [
        ["speed"], ["--where", "rule=sum"], ["--output", "other"], ["--implementations", "chunked"],
        ["--profile", "quick"], ["--shard", "1/2"], ["--device", "cpu"], ["--seed", "0"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_resumed_run_takes_no_other_plan(
    given: list[str], finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--resume", str(finished), *given]) == 2
    option = given[0] if given[0].startswith("-") else "SUITE"
    assert f"leave {option} out" in capsys.readouterr().err


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def change_plan(run: Path, **changes: Any) -> None:
    plan = json.loads((run / "plan.json").read_text(encoding="utf-8"))
    (run / "plan.json").write_text(json.dumps(plan | changes), encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"protocol": 0}, "resumed by the version that began it"),
        ({"schema": SCHEMA + 1}, "newer FWPBench"),
        ({"cases": []}, "whose cases differ"),
        ({"suites": ["agreemnt"]}, "no suite named 'agreemnt'. Did you mean 'agreement'?"),
        ({"implementations": ["theirs"]}, "no implementation named 'theirs'"),
        ({"profile": "slow"}, "no profile named 'slow'"),
        ({"device": "abacus"}, "no device named 'abacus'"),
        ({"seed": -1}, "--seed must be at least 0"),
        ({"where": "x"}, "'x' is not a condition"),
        ({"where": 3}, "plan.json is damaged"),
    ],
    ids=str,
)
def test_a_run_that_cannot_be_gone_on_with_says_why(
    copy: Path, changes: dict[str, Any], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change_plan(copy, **changes)
    before = (copy / "records.jsonl").read_bytes()
    assert main(["run", "--resume", str(copy)]) == 2
    assert sentence in capsys.readouterr().err
    assert (copy / "records.jsonl").read_bytes() == before


def test_a_full_disk_exits_2_and_says_how_to_go_on(
    folder: Path,
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", full_after(5))
        assert main(["run", *SMALL, "--output", "run"]) == 2
    assert "fwpbench run --resume run" in capsys.readouterr().err
    assert (folder / "run/records.jsonl").read_bytes().endswith(b"\n")
    assert keys(folder / "run") == keys(finished)[:5]
    assert main(["run", "--resume", "run", "--json"]) == 0
    assert keys(folder / "run") == keys(finished)


def full_after(writes: int) -> Callable[[int], None]:
    left = [writes]

    def fsync(_: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")

    return fsync


# Budgets


def test_what_a_budget_left_is_said_and_run_by_the_command_it_names(
    finished: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *SMALL, "--output", "my run", "--budget", "0.001"]) == 0
    said = capsys.readouterr().out
    reason = 'the budget of 0.001 s was used up; go on with: fwpbench run --resume "my run"'
    assert f"12 skipped: {reason}\n" in said
    assert (
        "12 of 12 cases were skipped: the budget of" in (folder / "my run/report.html").read_text()
    )
    assert keys(Path("my run")) == keys(finished)
    resume = shlex.split(said.partition("go on with: fwpbench ")[2].splitlines()[0])
    assert main([*resume, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == keys(finished)
    assert main([*resume, "--budget", "0.001", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["groups"], summary["skipped"]) == ({"skipped": 12}, reason)
    assert main([*resume, "--budget", "10m", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["groups"] == {"ok": 12}
    assert keys(Path("my run")) == keys(finished)


def test_a_machine_that_only_measures_has_budgets_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load() -> None:
        raise ModuleNotFoundError("No module named 'altair'", name="altair")

    monkeypatch.setattr(run, "load", load)
    assert main(["run", *SMALL, "--output", "run", "--budget", "10m", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["groups"] == {"ok": 12}


# The command that makes a record again


@pytest.mark.parametrize("name", SUITES)
def test_the_command_of_a_record_selects_that_record_alone(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = make_tasks({name: SUITES[name]}, list(IMPLEMENTATIONS), PROFILES["quick"], seed=3)
    for task in tasks[:: max(1, len(tasks) // 4)]:
        words = shlex.split(task.command("cpu", PROFILES["quick"]))
        assert words[0] == "fwpbench"
        assert main([*words[1:], "--dry-run", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == [task.key]


def test_the_command_of_a_record_makes_it_again(finished: Path, folder: Path) -> None:
    for wanted in read_run(finished).records[::5]:
        words = shlex.split(wanted.command)[1:]
        assert main([*words, "--output", wanted.started, "--json"]) == 0
        (again,) = read_run(folder / wanted.started).records
        assert (again.key, again.command) == (wanted.key, wanted.command)
        assert again.metrics == wanted.metrics


# check


def test_check_prints_a_row_an_operator_and_writes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", *SMALL[1:]]) == 0
    printed = capsys.readouterr()
    assert "rule=sum phi=elu+1 norm=attention" in printed.out
    assert "12 ok; a number is the worst error" in printed.out
    assert printable(printed.out)
    assert printed.err == ""
    assert main(["check", *SMALL[1:], "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["ok"] * 12
    assert list(folder.iterdir()) == []


def test_check_exits_1_where_something_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fails_at(1, ValueError("[b]no[/b]"), monkeypatch)
    assert main(["check", *SMALL[1:]]) == 1
    printed = capsys.readouterr().out
    assert "ValueError: [b]no[/b]\n  fwpbench run agreement --where" in printed


# report and load


@pytest.mark.parametrize(
    "damage",
    [
        lambda run: (run / "records.jsonl").unlink(),
        lambda run: (run / "environment.json").unlink(),
        lambda run: (run / "records.jsonl").write_bytes(b""),
        lambda run: (run / "records.jsonl").write_bytes((run / "records.jsonl").read_bytes()[:-99]),
        lambda run: (run / "records.jsonl").write_bytes((run / "records.jsonl").read_bytes()[99:]),
    ],
    ids=["no records", "no environment", "empty", "torn end", "torn start"],
)
def test_a_half_written_run_is_reported(
    copy: Path, damage: Callable[[Path], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    damage(copy)
    (copy / "report.html").unlink()
    assert main(["report", str(copy)]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"report: {copy / 'report.html'}\n"
    assert printed.err.count("not read: ") == len(read_run(copy).complaints)
    assert "</html>" in (copy / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("output", ["no folder/page.html", "."])
def test_a_report_that_cannot_be_written_is_said_so(
    output: str, finished: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(finished), "--output", output]) == 2
    assert capsys.readouterr().err.startswith("fwpbench: ")


def test_a_report_of_several_runs_goes_where_it_is_sent(
    finished: Path, copy: Path, folder: Path
) -> None:
    assert main(["report", str(finished), str(copy), "--output", "both.html"]) == 0
    assert (folder / "both.html").is_file()


def test_load_gives_a_row_a_record(finished: Path, copy: Path) -> None:
    frame = fwpbench.load(str(finished))
    assert len(frame) == len(keys(finished)) == 12
    assert set(frame["status"]) == {"ok"}
    assert frame["error ratio"].between(0, 1).all()
    with open(copy / "records.jsonl", "ab") as file:
        file.write(b"{}\n")
    with pytest.warns(UserWarning, match=r"records.jsonl, line 13: "):
        assert len(fwpbench.load(copy)) == 12
    with pytest.raises(fwpbench.UserError, match="is not a run"):
        fwpbench.load(copy / "logs")


# Progress


@pytest.fixture
def records(finished: Path) -> list[Record]:
    return read_run(finished).records


def tasks_like(records: list[Record]) -> list[Task]:
    cases = {str(case.problem): case for case in SUITES["agreement"].cases(PROFILES["quick"])}
    return [Task(r.suite, cases[r.problem], r.implementation, r.seed) for r in records]


def test_plain_progress_counts_up_and_down(
    records: list[Record], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    timed = [replace(record, seconds=7.0) for record in records]
    with Plain(tasks_like(timed)) as report:
        for number, record in enumerate(timed, start=1):
            report(number, len(timed), record)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(timed)
    assert lines[0] == "1 of 12 · agreement · about 1 min 17 s left"
    assert lines[-1] == "12 of 12 · agreement · about 0 s left"


def test_progress_shows_what_is_left_of_a_budget(records: list[Record]) -> None:
    here = Setting(SimulatedDevice([]), PROFILES["quick"], 0)
    budget = Budget(90.4, here, "fwpbench run --resume it")
    remaining = Remaining(tasks_like(records), budget)
    remaining.add(replace(records[0], seconds=10.0))
    assert str(remaining) == "about 1 min 50 s left, 1 min 30 s of the budget"
    late = Remaining(tasks_like(records), Budget(1.0, here, "", taken=9.0))
    assert str(late) == "about 0 s left, 0 s of the budget"


def test_plain_progress_is_sparse(
    records: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    with Plain(tasks_like(records)) as report:
        for number, record in enumerate(records, start=1):
            report(number, len(records), record)
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_live_progress_shows_what_failed_as_it_was_said(records: list[Record]) -> None:
    out = io.StringIO()
    failed = replace(records[0], status="incorrect", reason="[s]wrong[/s] :smile:")
    with Live(tasks_like(records), Console(file=out, force_terminal=True, width=400)) as report:
        for number, record in enumerate([failed, *records[1:]], start=1):
            report(number, len(records), record)
    assert "[s]wrong[/s] :smile:" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())


def test_what_is_left_is_what_each_suite_took_so_far(records: list[Record]) -> None:
    remaining = Remaining(tasks_like(records))
    assert remaining.seconds() == 0
    for number, record in enumerate(records, start=1):
        remaining.add(replace(record, seconds=2.0))
        assert remaining.seconds() == 2.0 * (len(records) - number)


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3600, "60 min 00 s")]
)
def test_a_duration_is_minutes_and_seconds(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_groups_stand_in_the_order_of_the_statuses(records: list[Record]) -> None:
    statuses = ["skipped", "unstable", "missing", "ok", "not-finite", "unsupported"]
    made = [replace(records[0], status=status) for status in statuses]
    assert list(groups(made).items()) == [
        ("ok", 1), ("wrong", 1), ("cannot", 2), ("untrusted", 1), ("skipped", 1),
    ]  # fmt: skip


def test_a_record_read_back_is_reported_as_it_was_written(finished: Path, tmp_path: Path) -> None:
    run = read_run(finished)
    writer = RunWriter(tmp_path / "again", run.plan, run.environment)
    for record in run.records:
        writer.append(record)
    writer.close()
    assert read_run(tmp_path / "again") == Run(
        tmp_path / "again", run.plan, run.environment, run.records
    )
    assert (tmp_path / "again/records.jsonl").read_text(encoding="utf-8").splitlines() == [
        to_line(record) for record in run.records
    ]


def test_measuring_needs_no_package_that_only_reports_need(tmp_path: Path) -> None:
    """As on a machine with a GPU and nothing else: records, summary, and what to do next."""
    script = (
        "import sys; sys.modules |= dict.fromkeys(['msgspec', 'altair', 'vl_convert']); "
        "from fwpbench.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["run", "stability", "--implementations", "chunked", "--where", "rule=sum"]
    done = subprocess.run(
        [sys.executable, "-c", script, *words, "--output", str(tmp_path / "run")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "nothing wrong, nothing crashed" in done.stdout
    assert "no report: " in done.stdout
    assert f"fwpbench report {tmp_path / 'run'}" in done.stdout
    assert len(fwpbench.load(tmp_path / "run")) == 3


def test_a_run_of_all_operators_writes_what_its_gate_catches(tmp_path: Path) -> None:
    """Once, and not where --where picked a few operators."""
    written: list[dict[str, object]] = []

    class Writer:
        has_gate = False

        def write_gate(self, score: dict[str, object]) -> None:
            written.append(score)
            self.has_gate = True

    here = make_setting("cpu", "quick", 0)
    suites, writer = {"agreement": SUITES["agreement"]}, Writer()
    for where, scores in (("rule=sum", 0), ("", 1), ("", 1)):
        tasks = make_tasks(suites, ["chunked"], here.profile, 0, where)
        score_the_gate(tasks, here, writer)  # type: ignore[arg-type]
        assert len(written) == scores
    assert written[0]["caught"] == written[0]["total"]
    assert json.loads(json.dumps(written[0]))["slipped"] == []
