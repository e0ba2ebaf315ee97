"""Laws of shards: together they are one run, and what is not all of one plan is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fwpbench.cli import main
from fwpbench.commands import run as run_command
from fwpbench.harness.engine import InProcess
from fwpbench.harness.plan import make_tasks
from fwpbench.harness.profiles import PROFILES
from fwpbench.harness.records import to_line
from fwpbench.harness.run_folder import read_run
from fwpbench.harness.shard import shard_of
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.operators.errors import UserError
from fwpbench.suites import SUITES

WORDS = ["run", "agreement", "--where", "rule=sum phi=elu+1 norm=attention", "--device", "cpu"]
WORDS += ["--implementations", "chunked,reference", "--json"]
OF = 3


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the run `whole`, its shards `1`, `2` and `3`, and a shard of another plan."""
    folder = tmp_path_factory.mktemp("shards")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_command, "executor", lambda here, log, *_: InProcess(SUITES, here, log))
        assert main([*WORDS, "--output", str(folder / "whole")]) == 0
        for number in range(1, OF + 1):
            words = [*WORDS, "--shard", f"{number}/{OF}", "--output", str(folder / str(number))]
            assert main(words) == 0
        other = [word.replace("elu+1", "relu") for word in WORDS]
        assert main([*other, "--shard", f"3/{OF}", "--output", str(folder / "other")]) == 0
        assert main([*WORDS, "--shard", "1/2", "--output", str(folder / "half")]) == 0
        yield folder


def records(path: Path) -> list[dict[str, Any]]:
    run = read_run(path)
    assert run.complaints == []
    fields = [json.loads(to_line(record)) for record in run.records]
    return [
        {name: value for name, value in one.items() if name not in ("seconds", "started")}
        for one in fields
    ]


def paths(folder: Path, *names: str) -> list[str]:
    return [str(folder / name) for name in names]


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("of", [1, 2, 7])
def test_every_task_is_in_one_shard_and_a_case_is_in_one_piece(suite: str, of: int) -> None:
    tasks = make_tasks({suite: SUITES[suite]}, list(IMPLEMENTATIONS), PROFILES["quick"], 0)
    if of > len(tasks) // len(IMPLEMENTATIONS):
        with pytest.raises(UserError, match="cases to share out"):
            shard_of(tasks, of, of)
        return
    shards = [shard_of(tasks, number, of) for number in range(1, of + 1)]
    assert sorted(task.key for shard in shards for task in shard) == sorted(t.key for t in tasks)
    assert all(len(shard) % len(IMPLEMENTATIONS) == 0 for shard in shards)
    sizes = [len(shard) for shard in shards]
    assert max(sizes) - min(sizes) <= len(IMPLEMENTATIONS)


@pytest.mark.parametrize("order", [("1", "2", "3"), ("3", "1", "2")], ids="".join)
def test_merged_shards_are_the_records_of_one_run(
    order: tuple[str, ...], made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["merge", *paths(made, *order), "--output", str(tmp_path / "run")]) == 0
    assert "12 records of 3 shards" in capsys.readouterr().out
    assert records(tmp_path / "run") == records(made / "whole")
    plan, wanted = read_run(tmp_path / "run").plan, read_run(made / "whole").plan
    assert {**plan, "arguments": ""} == {**wanted, "arguments": ""}
    print(f"{[len(records(made / name)) for name in order]} records make {len(plan['cases'])}")
    assert main(["run", "--resume", str(tmp_path / "run"), "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == []


REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "missing": (("1", "3"), "of 3 shards, 2 missing: give all of them"),
    "twice": (("1", "2", "2"), "shard 2/3 is given twice: "),
    "another plan": (("1", "2", "other"), "of different plans: their where is 'rule=sum phi=elu+1"),
    "another number": (("1", "half"), "are shards of different plans: 1/3 of "),
    "a whole run": (("1", "whole"), "is no shard: it was not made by fwpbench run --shard"),
    "no run": (("1", "nowhere"), "nowhere is not a run"),
    "unfinished": (("1", "2", "torn"), "torn is not finished: 1 of 4 records are missing or "),
    "skipped": (("1", "2", "left"), "left is not finished: 2 of 4 records are missing or skipped"),
    "elsewhere": (("1", "2", "moved"), "cannot be one run: their device is "),
    "damaged": (("1", "2", "damaged"), "is damaged: its 'shard' cannot be used"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_make_one_run_is_refused_with_a_sentence(
    name: str, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, sentence = REFUSED[name]
    folder = Path(shutil.copytree(made, tmp_path / "copy"))
    for copy in ("torn", "left", "moved", "damaged"):
        shutil.copytree(made / "3", folder / copy)
    lines = (folder / "torn/records.jsonl").read_bytes()
    (folder / "torn/records.jsonl").write_bytes(lines[:-5])
    (folder / "left/records.jsonl").write_bytes(lines.replace(b'"ok"', b'"skipped"', 2))
    change(folder / "moved/environment.json", device="an abacus")
    change(folder / "damaged/plan.json", shard={"number": 3, "of": 3})
    words = ["merge", *paths(folder, *given), "--output", str(tmp_path / "run")]
    assert main(words) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def change(file: Path, **changes: Any) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(content | changes), encoding="utf-8")


def test_a_shard_is_gone_on_with(made: Path, tmp_path: Path) -> None:
    torn = Path(shutil.copytree(made / "2", tmp_path / "torn"))
    (torn / "records.jsonl").write_bytes((torn / "records.jsonl").read_bytes()[:-5])
    assert main(["run", "--resume", str(torn), "--json"]) == 0
    assert records(torn) == records(made / "2")
