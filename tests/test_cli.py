"""Laws of the command line: wrong usage, help, and what is done with a finished run."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fwpbench
from fwpbench import cli
from fwpbench.cli import main, make_parser
from fwpbench.harness.records import to_line
from fwpbench.harness.run_folder import Run, RunWriter, read_run
from tests.small_run import SMALL, exits, fails_at, keys, printable

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.usefixtures("in_this_process")

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
