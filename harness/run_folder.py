"""A run on disk: plan.json, environment.json, records.jsonl, logs/ and, of a whole run, gate.json.

The plan is written before anything is run; records are appended one line at a time and flushed, so
that whatever ends a run, what was measured stays. A torn last line (the machine went down while it
was written) is dropped and its case is run again, and so is what a budget left.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from fwpbench.harness.records import (
    LONGEST_LINE,
    SCHEMA,
    BadRecord,
    Record,
    from_line,
    key,
    to_line,
)
from fwpbench.harness.statuses import SKIPPED
from fwpbench.operators.errors import UserError

if TYPE_CHECKING:
    from fwpbench.harness.plan import Task


@dataclass(frozen=True)
class Run:
    """What a finished or unfinished run folder holds. `complaints` are lines that were not read."""

    path: Path
    plan: Mapping[str, Any]
    environment: Mapping[str, Any]
    records: list[Record]
    complaints: list[str] = field(default_factory=list)
    #: What the gate catches (mutation_score.py); empty where that was not computed.
    gate: Mapping[str, Any] = field(default_factory=dict)


def read_run(path: Path, read_line: Callable[[bytes], Record] = from_line) -> Run:
    """Read a run folder; bad lines become complaints, a folder that is no run a UserError."""
    plan, environment = read_plan(path), read_environment(path)
    complaints: list[str] = []
    records = list(read_records(path, complaints, read_line))
    return Run(path, plan, environment, records, complaints, read_gate(path))


def read_records(
    path: Path, complaints: list[str], read_line: Callable[[bytes], Record] = from_line
) -> Iterator[Record]:
    """One record after the other, the first of each key; only the keys are kept meanwhile."""
    file = path / "records.jsonl"
    seen: set[str] = set()
    for number, line in enumerate(lines_of(file, LONGEST_LINE), start=1):
        try:
            record = read_line(line)
        except BadRecord as error:
            complaints.append(f"{file}, line {number}: {error}")
            continue
        if (name := record.key) in seen:
            complaints.append(
                f"{file}, line {number}: a second record of {name!r}; the first one counts"
            )
        else:
            seen.add(name)
            yield record


def read_environment(path: Path) -> dict[str, Any]:
    return _read_json(path / "environment.json")


def read_gate(path: Path) -> dict[str, Any]:
    return _read_json(path / "gate.json")


def read_plan(path: Path) -> dict[str, Any]:
    if not (path / "plan.json").is_file():
        raise UserError(
            f"{path} is not a run: it has no plan.json. A run is a folder that "
            "`fwpbench run` made (runs/<time> by default)"
        )
    plan = _read_json(path / "plan.json")
    schema = plan.get("schema", SCHEMA)
    if not isinstance(schema, int):
        raise UserError(f"{path / 'plan.json'}: the schema should be a number, not {schema!r}")
    if schema > SCHEMA:
        raise UserError(
            f"{path} was written by a newer FWPBench (schema {schema}; this one reads up "
            f"to {SCHEMA}): upgrade FWPBench to read it"
        )
    return plan


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # of JSON and of UTF-8
        raise UserError(f"{path} cannot be read: {error}. Was the run cut off?") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} should hold a JSON object, not a {type(content).__name__}")
    return content


def lines_of(path: Path, longest: int = -1) -> Iterator[bytes]:
    """The complete lines, one at a time: what follows the last line break is torn and left out.

    Of a line longer than `longest` comes as much as shows that it is, so that no line fills the
    memory.
    """
    if not path.is_file():
        return
    try:
        with open(path, "rb") as file:
            while line := file.readline(longest + 2 if longest >= 0 else -1):
                rest = line
                while not rest.endswith(b"\n"):
                    if not (rest := file.readline(_BLOCK)):
                        return
                yield line.removesuffix(b"\n")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def count_lines(path: Path) -> int:
    """How many complete lines there are, and so how many records at most; fast."""
    try:
        with open(path / "records.jsonl", "rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(_BLOCK), b""))
    except OSError:
        return 0


_BLOCK = 2**20


def keys_done(path: Path) -> set[str]:
    """The keys of the records that need not be made (again), read without validation."""
    told = map(_told, lines_of(path / "records.jsonl"))
    return {key for key, status in told if key is not None and status != SKIPPED}


class RunWriter:
    """Creates or continues a run folder. `done` holds the keys of the records already there."""

    def __init__(self, path: Path, plan: Mapping[str, Any], environment: Mapping[str, Any]):
        if path.exists() and not _is_free(path):
            raise UserError(
                f"{path} exists and is not empty: choose another --output, or continue it with "
                f"--resume {path}"
            )
        try:
            (path / "logs").mkdir(parents=True, exist_ok=True)
            _write(path / "environment.json", environment)
            # Last, and whole or not at all: a folder with a plan is a run that can be resumed.
            _write(path / _UNFINISHED, plan)
            os.replace(path / _UNFINISHED, path / "plan.json")
        except OSError as error:
            raise UserError(
                f"{path} cannot be written ({error.strerror}): choose another --output"
            ) from None
        self._open(path)

    @classmethod
    def resume(cls, path: Path) -> RunWriter:
        """What the budget of an earlier run left is dropped, and so is a torn last line."""
        writer = cls.__new__(cls)
        read_plan(path)
        _drop_skipped(path)
        writer._open(path)
        return writer

    def _open(self, path: Path) -> None:
        self.path, self.done = path, keys_done(path)
        self._end = _end_of_complete_lines(path / "records.jsonl")
        try:
            self._file: IO[bytes] = open(path / "records.jsonl", "ab")  # noqa: SIM115
            self._file.truncate(self._end)
        except OSError as error:
            raise UserError(
                f"{path / 'records.jsonl'} cannot be written ({error.strerror})"
            ) from None

    @property
    def has_gate(self) -> bool:
        return (self.path / "gate.json").exists()

    def write_gate(self, score: Mapping[str, Any]) -> None:
        # Renamed when it is whole: a run that is killed here must still be readable.
        _write(self.path / "gate.json.part", score)
        os.replace(self.path / "gate.json.part", self.path / "gate.json")

    def append(self, *records: Record) -> None:
        """Add lines, all or none of them: a disk that fills up leaves the records before them."""
        lines = b"".join(to_line(record).encode() + b"\n" for record in records)
        try:
            self._file.write(lines)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            self._abandon()
            raise UserError(
                f"{self.path / 'records.jsonl'} cannot be written ({error.strerror}); every record "
                f"before this one is kept. Make room, then: fwpbench run --resume {self.path}"
            ) from error
        self._end += len(lines)
        self.done |= {record.key for record in records if record.status != SKIPPED}

    def log(self, task: Task, text: str) -> None:
        """Keep what a task printed. A log that cannot be written costs no record."""
        file = self.path / "logs" / f"{task.suite}.log"
        with suppress(OSError), open(file, "a", encoding="utf-8", errors="backslashreplace") as log:
            log.write(f"{task.key}\n{text}\n")

    def _abandon(self) -> None:
        # The buffered writer would retry the failed bytes on close: take the file away from it
        # and cut what may have been half written.
        self._file.raw.close()  # type: ignore[attr-defined]
        try:
            os.truncate(self.path / "records.jsonl", self._end)
        except OSError:
            return  # a torn last line is dropped on reading as well

    def close(self) -> None:
        if not self._file.closed:
            self._file.close()


_UNFINISHED = "plan.json.new"


def _is_free(path: Path) -> bool:
    """Whether a run may begin here: an empty folder, or one killed before its plan was there."""
    begun = {"logs", "environment.json", _UNFINISHED}
    return path.is_dir() and {entry.name for entry in path.iterdir()} <= begun


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _end_of_complete_lines(path: Path) -> int:
    return sum(len(line) + 1 for line in lines_of(path))


def _drop_skipped(path: Path) -> None:
    """Write the records anew without those of cases that the budget left: the file that was, or the
    one that is to be, and nothing between, whenever this is cut short."""
    file, new = path / "records.jsonl", path / "records.jsonl.new"
    if all(_told(line)[1] != SKIPPED for line in lines_of(file)):
        return
    try:
        with open(new, "wb") as out:
            kept = (line for line in lines_of(file) if _told(line)[1] != SKIPPED)
            out.writelines(line + b"\n" for line in kept)
            out.flush()
            os.fsync(out.fileno())
        os.replace(new, file)
    except OSError as error:
        raise UserError(
            f"{file} cannot be written anew ({error.strerror}); it is as it was. Make room, then: "
            f"fwpbench run --resume {path}"
        ) from error


def _told(line: bytes) -> tuple[str | None, str]:
    """A line's key and status, read without validation so that resuming needs no extra package."""
    try:
        fields = json.loads(line)
        told = key(
            fields["suite"],
            fields["problem"],
            fields["parameters"],
            fields["implementation"],
            fields["seed"],
        )
        return told, str(fields.get("status"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None, ""
