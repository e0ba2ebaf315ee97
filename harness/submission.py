"""A submission: a run folder for results/, held to everything that its readers rely on.

What a stranger sends is data: it is read line by line, and nothing of it is executed. Markup is no
fault, because pages escape whatever they show.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from fwpbench.harness.plan import SETTINGS
from fwpbench.harness.records import (
    LONGEST_LINE,
    PROTOCOL,
    SCHEMA,
    BadRecord,
    Measurement,
    Record,
    from_line,
    strict_json,
)
from fwpbench.harness.run_folder import lines_of
from fwpbench.harness.signature import parse, signature
from fwpbench.operators.errors import UserError, unknown

#: What a submission consists of, and how many bytes each may have. GitHub takes files to 100 MB.
MOST_BYTES = {
    "plan.json": 16 * 2**20,
    "environment.json": 2**20,
    "records.jsonl": 64 * 2**20,
    "gate.json": 2**20,
}
OPTIONAL = ("gate.json",)
#: Without these nobody could tell what a number belongs to.
FACTS = (
    *("fwpbench", "protocol", "started", "device", "device kind", "cpu", "os"),
    *("python", "torch"),
)
FOLDER = r"[a-z0-9][a-z0-9._-]{0,79}"
#: A folder of somebody's machine, or an address.
PERSONAL = re.compile(
    r"(?<![\w.~/-])/(?:home|Users|Volumes|root|tmp|private|var|mnt|media|data|scratch|work"
    r"|workspace|srv)/[^\s\"':,;)]*"
    r"|\b[A-Za-z]:[\\/]Users[\\/][^\s\"':,;)]*"
    r"|\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
)
CLOSE = 1e-9


@dataclass(frozen=True)
class Fault:
    """What is wrong, where, and what to do about it. `line` is 0 where a whole file is meant."""

    file: str
    line: int
    said: str
    remedy: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        said = f"{place}: {_cut(self.said, 700)}; {self.remedy}"
        return "".join(letter if letter.isprintable() else "\ufffd" for letter in said)


def faults_of(folder: Path) -> Iterator[Fault]:
    """Every fault of a submission, in the order of its files and lines.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: name the one to submit, as results/my-gpu")
    wrong_files = list(_files(folder))
    yield from wrong_files
    unreadable = {fault.file for fault in wrong_files}
    content: dict[str, _Text] = {}
    for name in ("plan.json", "environment.json", "gate.json"):
        if name in unreadable or not (folder / name).is_file():
            continue
        text = _Text(name, (folder / name).read_bytes())
        problems = [*text.faults, *text.personal()]
        yield from problems
        if not text.faults:
            content[name] = text
    plan, environment = content.get("plan.json"), content.get("environment.json")
    if plan:
        yield from _plan(plan)
    if environment:
        yield from _environment(environment)
    if "records.jsonl" not in unreadable:
        yield from _Records(folder / "records.jsonl", plan, environment).faults()


def _files(folder: Path) -> Iterator[Fault]:
    name = folder.resolve().name
    if not re.fullmatch(FOLDER, name):
        said = f"expected a folder named like h200-2026-11, came {name!r}"
        yield Fault(".", 0, said, "rename it: lower-case letters, digits, dots, dashes")
    for path in sorted(folder.iterdir()):
        if path.name not in MOST_BYTES:
            kept = ", ".join(MOST_BYTES)
            yield Fault(path.name, 0, f"expected nothing but {kept}", "leave it out")
    for name, most in MOST_BYTES.items():
        path = folder / name
        if path.is_symlink() or (path.exists() and not path.is_file()):
            yield Fault(name, 0, "expected a file, came a link or a folder", "copy the file itself")
        elif not path.exists():
            if name not in OPTIONAL:
                yield Fault(name, 0, "is missing", "copy the whole run that `fwpbench run` wrote")
        elif (size := path.stat().st_size) > most:
            said = f"expected at most {most:,} bytes, came {size:,}"
            yield Fault(name, 0, said, "submit the suites one by one, each as a run of its own")


class _Text:
    """A JSON file, and on which of its lines something stands."""

    def __init__(self, name: str, raw: bytes):
        self.name, self.value, self.faults = name, dict[str, Any](), list[Fault]()
        try:
            self.text = raw.decode("utf-8")
            value = strict_json(self.text)
        except BadRecord as error:
            line = getattr(error.__cause__, "lineno", None) or self.line_of(error.token)
            self.faults = [Fault(name, line, f"expected JSON, came {error}", _AS_WRITTEN)]
            return
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            self.faults = [Fault(name, line, f"expected UTF-8, came {error.reason}", _AS_WRITTEN)]
            return
        if isinstance(value, dict):
            self.value = value
        else:
            said = f"expected an object, came {_kind(value)}"
            self.faults = [Fault(name, 1, said, _AS_WRITTEN)]

    def line_of(self, token: str) -> int:
        """The last line on which this stands, or the first of all."""
        return self.text.count("\n", 0, max(self.text.rfind(token), 0)) + 1

    def line_of_text(self, said: str) -> int:
        return self._items.get(said) or self.line_of(json.dumps(said, ensure_ascii=False))

    @cached_property
    def _items(self) -> dict[str, int]:
        """The lines that hold one text and nothing else, as a long list is written."""
        found: dict[str, int] = {}
        for number, line in enumerate(self.text.split("\n"), start=1):
            if line.lstrip().startswith('"'):
                with suppress(ValueError):
                    found.setdefault(json.loads(line.strip().rstrip(",")), number)
        return found

    def fault(self, field: str, expected: str, remedy: str = "") -> Fault:
        came = _shown(self.value[field]) if field in self.value else "nothing"
        said = f"{field}: expected {expected}, came {came}"
        return Fault(self.name, self.line_of(json.dumps(field)), said, remedy or _AS_WRITTEN)

    def personal(self) -> Iterator[Fault]:
        if not self.faults:
            for text in _texts(self.value):
                yield from _personal(text, self.name, self.line_of_text(text))


_AS_WRITTEN = "submit the file as `fwpbench run` wrote it"


def _plan(plan: _Text) -> Iterator[Fault]:
    given = plan.value
    if given.get("schema") != SCHEMA or isinstance(given.get("schema"), bool):
        yield plan.fault("schema", str(SCHEMA), _OTHER_VERSION)
    if not _is_protocol(given.get("protocol")):
        yield plan.fault("protocol", f"a number from 1 to {PROTOCOL}", _OTHER_VERSION)
    for name, kind in SETTINGS.items():
        if not isinstance(given.get(name), kind) or isinstance(given.get(name), bool):
            yield plan.fault(name, _KINDS[kind])
    if given.get("shard") is not None:
        yield plan.fault("shard", "a whole run", "make it whole: fwpbench merge RUN … --output RUN")
    cases = given.get("cases")
    if isinstance(cases, list):
        if not cases:
            yield plan.fault("cases", "at least one case")
        if not all(isinstance(case, str) for case in cases):
            yield plan.fault("cases", "texts")
        elif len(set(cases)) < len(cases):
            yield plan.fault("cases", "each case once")


_KINDS = {list: "a list", str: "a text", int: "a whole number"}
_OTHER_VERSION = "make the run with this FWPBench, or upgrade it"


def _is_protocol(value: Any) -> bool:
    return type(value) is int and 1 <= value <= PROTOCOL


def _environment(environment: _Text) -> Iterator[Fault]:
    given = environment.value
    for name in FACTS:
        if given.get(name) in (None, ""):
            yield environment.fault(name, "what `fwpbench run` writes there")
    if "protocol" in given and not _is_protocol(given["protocol"]):
        yield environment.fault("protocol", f"a number from 1 to {PROTOCOL}", _OTHER_VERSION)
    if given.get("dirty") is True:
        remedy = "commit your changes, or undo them, and run again"
        yield environment.fault("dirty", "false, so that others can make the same run", remedy)


@dataclass
class _Records:
    """records.jsonl beside its plan: every line, and that every planned case has one record."""

    path: Path
    plan: _Text | None
    environment: _Text | None

    def faults(self) -> Iterator[Fault]:
        facts = self.environment.value if self.environment else {}
        met: dict[str, int] = {}
        planned = self._planned()
        protocol = self.plan.value.get("protocol") if self.plan else None
        size = 0
        for number, line in enumerate(lines_of(self.path, LONGEST_LINE), start=1):
            size += len(line) + 1
            try:
                record = from_line(line)
            except BadRecord as error:
                yield Fault(self.path.name, number, _of_line(line, error), _AS_WRITTEN)
                continue
            for said, remedy in _of_record(line, record, facts, protocol):
                yield Fault(self.path.name, number, said, remedy)
            for text in _texts(json.loads(line)):
                yield from _personal(text, self.path.name, number)
            if (key := record.key) in met:
                said = (
                    f"expected one record a case, came another (see line {met[key]}) of {_cut(key)}"
                )
                yield Fault(self.path.name, number, said, "leave one out")
            elif planned is not None and key not in planned:
                said = f"expected a case of plan.json, came {_cut(key)}"
                yield Fault(self.path.name, number, said, _AS_WRITTEN)
            met.setdefault(key, number)
        if size < self.path.stat().st_size <= MOST_BYTES[self.path.name] and _is_torn(self.path):
            number = sum(1 for _ in lines_of(self.path)) + 1
            said = "expected a line break at the end, came a torn line"
            yield Fault(self.path.name, number, said, "go on with it: fwpbench run --resume RUN")
        for case in planned or {}:
            if case not in met and self.plan:
                said = f"expected a record of every planned case, came none of {_cut(case)}"
                remedy = "go on with it: fwpbench run --resume RUN. A part cannot be submitted"
                yield Fault(self.plan.name, self.plan.line_of_text(case), said, remedy)

    def _planned(self) -> dict[str, None] | None:
        cases = self.plan.value.get("cases") if self.plan else None
        if not isinstance(cases, list):
            return None
        return dict.fromkeys(case for case in cases if isinstance(case, str))


def _is_torn(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, 2)
        return file.read(1) != b"\n"


def _of_line(line: bytes, error: BadRecord) -> str:
    """Why a line is no record: JSON's own complaint first, which tells NaN and a name twice."""
    if len(line) <= LONGEST_LINE:
        try:
            strict_json(line)
        except BadRecord as first:
            error = first
    return f"expected a record, came {error}"


def _of_record(
    line: bytes, record: Record, environment: Mapping[str, Any], protocol: Any
) -> Iterator[tuple[str, str]]:
    """Each thing that is wrong with a line that is a record, and what to do."""
    said = json.loads(line)
    for name in said.keys() - _FIELDS:
        yield unknown("field", name, _FIELDS), "leave it out"
    for metric, measured in said.get("metrics", {}).items():
        for name in measured.keys() - _MEASURED:
            yield f"metrics.{metric}: {unknown('field', name, _MEASURED)}", "leave it out"
    if not _is_protocol(record.protocol) or record.protocol != (protocol or record.protocol):
        expected = f"the plan's {protocol}" if protocol else f"a number from 1 to {PROTOCOL}"
        yield f"protocol: expected {expected}, came {record.protocol}", _AS_WRITTEN
    if (record.status == "ok") == bool(record.reason):
        expected = "no reason where the status is ok, and one where it is not"
        yield f"reason: expected {expected}, came {_shown(record.reason)}", _AS_WRITTEN
    for name, one in record.metrics.items():
        yield from _of_measurement(name, one, record)
    try:
        text = signature(record, environment)
        found, facts = parse(text)
        if (found, "|".join(f"{n}={v}" for n, v in facts.items())) != (
            record.protocol,
            text.partition("|")[2],
        ):
            raise UserError(f"{text!r} is read back as something else")
    except UserError as error:
        yield f"expected a signature, came {error}", _AS_WRITTEN


def _of_measurement(name: str, one: Measurement, record: Record) -> Iterator[tuple[str, str]]:
    value = one.value
    bounds = [end for end in (one.low, value, one.high) if end is not None]
    if bounds != sorted(bounds) or (one.low is None) != (one.high is None):
        came = f"low {one.low}, value {value}, high {one.high}"
        yield f"metrics.{name}: expected low ≤ value ≤ high, came {came}", _AS_WRITTEN
    if one.unit != "s" or value is None:
        return
    if value <= 0:
        yield f"metrics.{name}: expected more than 0 s, came {value}", _AS_WRITTEN
    taken = [each for each in record.samples.get(name, []) if each is not None]
    if taken and not math.isclose(value, statistics.median(taken), rel_tol=CLOSE):
        expected = f"the median of its samples, {statistics.median(taken)}"
        yield f"metrics.{name}: expected {expected}, came {value}", _AS_WRITTEN


_FIELDS = {field.name for field in fields(Record)}
_MEASURED = {field.name for field in fields(Measurement)}


def _personal(text: str, file: str, line: int) -> Iterator[Fault]:
    for found in dict.fromkeys(match.group() for match in PERSONAL.finditer(text)):
        said = f"expected nothing of the machine or its user, came {_shown(found)}"
        yield Fault(file, line, said, "write a relative path or ~ there, or leave it out")


def _texts(value: Any) -> Iterator[str]:
    """Every text within, names included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield name
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _kind(value: Any) -> str:
    return "an array" if isinstance(value, list) else _shown(value)


def _shown(value: Any) -> str:
    return _cut(json.dumps(value, ensure_ascii=False))


def _cut(text: str, longest: int = 300) -> str:
    return text if len(text) <= longest else f"{text[:longest]}…"
