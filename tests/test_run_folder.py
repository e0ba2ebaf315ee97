"""Laws of a run on disk: what was written stays, what was torn is run again, strangers are told."""

from __future__ import annotations

import errno
import io
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fwpbench.harness.records import SCHEMA, Record, to_line
from fwpbench.harness.run_folder import (
    RunWriter,
    count_lines,
    keys_done,
    read_plan,
    read_records,
    read_run,
)
from fwpbench.operators.errors import UserError

PROBLEM = "rule=sum phi=elu+1 norm=none B=1 T=67 H=2 K=16 V=12 dtype=fp32 direction=forward"
PLAN = {"schema": SCHEMA, "protocol": 1, "cases": []}


def record(seed: int, **changes: Any) -> Record:
    given: dict[str, Any] = {
        "suite": "speed",
        "implementation": "chunked",
        "origin": "in-tree",
        "device": "cpu",
    }
    given |= {"problem": PROBLEM, "seed": seed, "status": "ok"}
    return Record(**(given | changes))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with three records."""
    writer = RunWriter(tmp_path / "run", PLAN, {"cpu": "an abacus"})
    for seed in range(3):
        writer.append(record(seed))
    writer.close()
    return tmp_path / "run"


def test_what_is_written_is_read(run: Path) -> None:
    read = read_run(run)
    assert read.records == [record(seed) for seed in range(3)]
    assert (read.plan, read.environment, read.complaints) == (PLAN, {"cpu": "an abacus"}, [])
    assert keys_done(run) == {one.key for one in read.records}


def test_a_record_is_on_disk_as_soon_as_it_is_appended(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "run", PLAN, {})
    for seed in range(3):
        writer.append(record(seed))
        assert len(read_run(tmp_path / "run").records) == seed + 1
    writer.close()


@pytest.mark.parametrize("cut", [1, 2, 40, 300])
def test_a_torn_last_line_is_dropped_and_its_key_is_run_again(run: Path, cut: int) -> None:
    lines = run / "records.jsonl"
    lines.write_bytes(lines.read_bytes()[:-cut])
    assert read_run(run).records == [record(0), record(1)]
    writer = RunWriter.resume(run)
    assert writer.done == {record(0).key, record(1).key}
    writer.append(record(2))
    writer.close()
    assert read_run(run).records == [record(seed) for seed in range(3)]
    assert read_run(run).complaints == []


def test_a_second_record_of_a_key_is_a_complaint_and_the_first_counts(run: Path) -> None:
    with open(run / "records.jsonl", "a", encoding="utf-8") as file:
        file.write(to_line(record(1, status="incorrect")) + "\n")
    read = read_run(run)
    assert read.records == [record(seed) for seed in range(3)]
    (complaint,) = read.complaints
    assert "line 4: a second record of" in complaint


@pytest.mark.parametrize("junk", [b"{", b"", b"\xff\xfe", b"[" * 100_000, b"7", b'{"seed": 0}'])
def test_a_line_that_is_no_record_is_a_complaint_and_costs_no_other(run: Path, junk: bytes) -> None:
    first, rest = (run / "records.jsonl").read_bytes().split(b"\n", 1)
    (run / "records.jsonl").write_bytes(b"\n".join([first, junk, rest]))
    read = read_run(run)
    assert read.records == [record(seed) for seed in range(3)]
    (complaint,) = read.complaints
    assert "line 2: " in complaint
    RunWriter.resume(run).close()
    assert keys_done(run) == {one.key for one in read.records}


def test_resuming_knows_what_is_done_without_validating(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that only measures has no msgspec."""
    monkeypatch.setitem(__import__("sys").modules, "msgspec", None)
    writer = RunWriter.resume(run)
    writer.close()
    assert writer.done == {record(seed).key for seed in range(3)}


def test_reading_holds_one_line_at_a_time(run: Path) -> None:
    """A file of any size is read: neither it nor a line that never ends is held as a whole."""
    line = to_line(record(0)).encode()
    with open(run / "records.jsonl", "ab") as file:
        for _ in range(8000):
            file.write(line + b"\n")
        for _ in range(32):
            file.write(b"x" * 2**20)
        file.write(b"\n" + to_line(record(9)).encode() + b"\n")
    complaints: list[str] = []
    tracemalloc.start()
    read = sum(1 for _ in read_records(run, complaints))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert read == 4
    assert "line 8004: a line of more than 4,194,304 characters" in complaints[-1]
    assert (run / "records.jsonl").stat().st_size > 34 * 2**20
    assert most < 20 * 2**20
    assert count_lines(run) == 8005


# What a budget left


def skipped(seed: int) -> Record:
    return record(seed, status="skipped", reason="the budget was used up")


@pytest.fixture
def ended(run: Path) -> Path:
    """A run with three records, a line that is none, two that were skipped, and a torn one."""
    with open(run / "records.jsonl", "ab") as file:
        file.write(b"{\n")
    writer = RunWriter.resume(run)
    writer.append(skipped(3), skipped(4))
    assert writer.done == {record(seed).key for seed in range(3)}
    writer.close()
    with open(run / "records.jsonl", "ab") as file:
        file.write(to_line(record(5)).encode()[:100])
    return run


def test_what_was_skipped_is_recorded_until_it_is_resumed(ended: Path) -> None:
    before = (ended / "records.jsonl").read_bytes()
    assert read_run(ended).records == [*map(record, range(3)), skipped(3), skipped(4)]
    assert keys_done(ended) == {record(seed).key for seed in range(3)}
    writer = RunWriter.resume(ended)
    kept = b"".join(line + b"\n" for line in before.split(b"\n")[:4])
    assert (ended / "records.jsonl").read_bytes() == kept, "byte by byte what was there"
    writer.append(record(3))
    writer.close()
    assert read_run(ended).records == [record(seed) for seed in range(4)]


class Killed(BaseException):
    """Nothing that follows is run."""


@pytest.mark.parametrize("end", [OSError(errno.ENOSPC, "No space left on device"), Killed()])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_an_interruption_while_skipped_records_are_dropped_loses_nothing(
    ended: Path, step: str, end: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (ended / "records.jsonl").read_bytes()

    def ends(*_: object) -> None:
        raise end

    with monkeypatch.context() as patch:
        patch.setattr(os, step, ends)
        with pytest.raises((UserError, Killed)) as raised:
            RunWriter.resume(ended)
    if isinstance(end, OSError):
        assert f"fwpbench run --resume {ended}" in str(raised.value)
    assert (ended / "records.jsonl").read_bytes() == before
    writer = RunWriter.resume(ended)
    writer.append(record(3))
    writer.close()
    assert read_run(ended).records == [record(seed) for seed in range(4)]
    assert not (ended / "records.jsonl.new").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000, b"1" * 5000, b"[]", b"7"])
@pytest.mark.parametrize("name", ["plan.json", "environment.json"])
def test_a_plan_or_environment_that_cannot_be_read_is_said_so(
    run: Path, name: str, content: bytes
) -> None:
    (run / name).write_bytes(content)
    with pytest.raises(UserError, match=name):
        read_run(run)


def test_a_run_without_environment_or_records_is_read(run: Path) -> None:
    (run / "environment.json").unlink()
    (run / "records.jsonl").unlink()
    read = read_run(run)
    assert (read.environment, read.records, read.complaints) == ({}, [], [])


@pytest.mark.parametrize(
    "make", [Path.mkdir, Path.touch, lambda path: None], ids=["a folder", "a file", "nothing"]
)
def test_what_is_no_run_is_said_so(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "thing")
    for read in (read_run, read_plan, RunWriter.resume):
        with pytest.raises(UserError, match="is not a run: it has no plan"):
            read(tmp_path / "thing")


@pytest.mark.parametrize("schema", [SCHEMA + 1, "1", None, [], 1.5])
def test_a_plan_of_another_schema_is_said_so(run: Path, schema: Any) -> None:
    (run / "plan.json").write_text(json.dumps(PLAN | {"schema": schema}), encoding="utf-8")
    for read in (read_run, RunWriter.resume):
        with pytest.raises(UserError, match="newer FWPBench" if schema == SCHEMA + 1 else "schema"):
            read(run)


def test_a_folder_that_is_not_empty_is_left_alone(run: Path) -> None:
    before = sorted(path.read_bytes() for path in run.iterdir() if path.is_file())
    with pytest.raises(UserError, match="--resume"):
        RunWriter(run, PLAN, {})
    assert sorted(path.read_bytes() for path in run.iterdir() if path.is_file()) == before


def test_a_folder_that_cannot_be_made_is_said_so(run: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        RunWriter(run / "plan.json" / "within", PLAN, {})
    (run.parent / "dangling").symlink_to(run / "nothing")
    with pytest.raises(UserError, match="cannot be written"):
        RunWriter(run.parent / "dangling", PLAN, {})


# A disk that fills up


def fail(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("after", ["nothing", "half a line", "a whole line"])
def test_a_full_disk_keeps_the_records_before_and_whole_lines(
    run: Path, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    before = (run / "records.jsonl").read_bytes()
    writer = RunWriter.resume(run)
    if after == "a whole line":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        writer._file = io.BufferedWriter(FullDisk(run, 60 if after == "half a line" else 0))
    with pytest.raises(UserError, match="No space left") as raised:
        writer.append(record(3))
    writer.close()
    assert f"fwpbench run --resume {run}" in str(raised.value)
    assert (run / "records.jsonl").read_bytes() == before
    monkeypatch.undo()
    again = RunWriter.resume(run)
    assert len(again.done) == 3
    again.append(record(3))
    again.close()
    assert read_run(run).records == [record(seed) for seed in range(4)]


class FullDisk(io.FileIO):
    """records.jsonl on a disk with room for some bytes more."""

    def __init__(self, run: Path, room: int):
        super().__init__(run / "records.jsonl", "ab")
        self.room = room

    def write(self, data: Any) -> int:
        if not self.room:
            fail()
        written = super().write(bytes(data)[: self.room])
        self.room -= written
        return written


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_records_that_cannot_be_opened_are_said_so(run: Path) -> None:
    (run / "records.jsonl").unlink()
    (run / "records.jsonl").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"records\.jsonl cannot be written"):
        RunWriter.resume(run)
