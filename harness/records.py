"""The record: every case × implementation × seed gives exactly one, whatever happens.

Writing needs the standard library only, so that a machine with a GPU and nothing else can measure.
Reading validates against the same dataclasses (msgspec), because a file may come from a stranger.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas

#: Raised when a field is added, removed or changes its meaning.
SCHEMA = 1
#: Raised when a change makes new numbers incomparable with old ones (timing, gate, inputs).
PROTOCOL = 1
#: A line of records.jsonl longer than this is not one of ours.
LONGEST_LINE = 4 * 2**20


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One number with its unit (s, B, J, fraction, 1 …); `low` and `high` bound it with 95 %."""

    value: float | None
    unit: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Record:
    """What came of one case on one implementation.

    `problem` is a sentence of the problem grammar and `parameters` what the suite varies besides;
    `name` is the name of the operator in the suite's table, or "". `reason` is empty for `ok`
    and a sentence otherwise. `samples` are raw, in the order taken, nothing dropped.
    """

    suite: str
    problem: str
    implementation: str
    origin: str
    device: str
    seed: int
    status: str
    reason: str = ""
    name: str = ""
    parameters: dict[str, float | str] = field(default_factory=dict)
    metrics: dict[str, Measurement] = field(default_factory=dict)
    samples: dict[str, list[float | None]] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    detail: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    seconds: float = 0.0
    started: str = ""
    schema: int = SCHEMA
    protocol: int = PROTOCOL

    @property
    def key(self) -> str:
        """Who this record is about; no two records of a run share it."""
        return key(self.suite, self.problem, self.parameters, self.implementation, self.seed)


def key(
    suite: str,
    problem: str,
    parameters: Mapping[str, float | str],
    implementation: str,
    seed: int,
) -> str:
    """Two different records never share a key: what could be mistaken stands in quotes."""
    sentence = problem if re.fullmatch(rf"{_PAIR}( {_PAIR})*", problem) else json.dumps(problem)
    varied = [f"{_word(name)}={_word(value)}" for name, value in sorted(parameters.items())]
    words = [_word(suite), sentence, *(["with", *varied] if varied else [])]
    return " ".join([*words, f"implementation={_word(implementation)}", f"seed={seed}"])


_PAIR = r"[\w+.*/-]+=[\w+.*/-]+"


def _word(value: float | str) -> str:
    if isinstance(value, str):
        plain = re.fullmatch(r"[A-Za-z_][\w+.*/-]*", value) and value not in ("inf", "nan", "with")
        return value if plain else json.dumps(value)
    number = float(value)  # 32 is 32.0
    return f"{number:.0f}" if number.is_integer() else repr(number)


def to_line(record: Record) -> str:
    """The record as one line of JSON; numbers that are not finite become null."""
    line = json.dumps(_finite(asdict(record)), ensure_ascii=False, allow_nan=False)
    return line.encode("utf-8", "replace").decode()  # half a surrogate pair, as in odd file names


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value


class BadRecord(ValueError):
    """A line that is not a record of this schema; the message says where and why.

    `token` is what was found there and should not be, where it can be named.
    """

    def __init__(self, said: str, token: str = ""):
        super().__init__(said)
        self.token = token


def from_line(line: str | bytes) -> Record:
    """Read and validate one line. Raises BadRecord with what was expected and what came."""
    import msgspec

    if len(line) > LONGEST_LINE:
        raise BadRecord(f"a line of more than {LONGEST_LINE:,} characters: no record is that long")
    try:
        version = msgspec.json.decode(line)
        schema = version.get("schema") if isinstance(version, dict) else None
        if isinstance(schema, int) and schema > SCHEMA:
            raise BadRecord(
                f"written by a newer FWPBench (schema {schema}; this one reads up to {SCHEMA}): "
                "upgrade FWPBench to read it"
            )
        strict_json(line)  # msgspec takes the last of two
        record = msgspec.convert(version, Record)
    except BadRecord:
        raise
    # DecodeError and UnicodeError are ValueErrors; a number may be too large for its type.
    except (ValueError, OverflowError, RecursionError) as error:
        raise BadRecord(f"not a record: {error}") from None
    from fwpbench.harness.statuses import STATUSES

    if record.status not in STATUSES:
        raise BadRecord(f"unknown status {record.status!r}; known: {', '.join(STATUSES)}")
    return record


def from_own_line(line: str | bytes) -> Record:
    """Read a line that this program has just written: not validated, so no package is needed."""
    try:
        fields = json.loads(line)
        measured = {name: Measurement(**values) for name, values in fields["metrics"].items()}
        return Record(**(fields | {"metrics": measured}))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadRecord(f"not a record: {error}") from None


def strict_json(text: str | bytes) -> Any:
    """JSON by its standard: no NaN, and each name once. Raises BadRecord."""
    try:
        return json.loads(text, object_pairs_hook=_named_once, parse_constant=_no_number)
    except BadRecord:
        raise
    except (ValueError, RecursionError) as error:
        raise BadRecord(f"not JSON: {error}") from error


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadRecord(f"{twice!r} is given twice", json.dumps(twice))
    return named


def _no_number(word: str) -> Any:
    raise BadRecord(f"{word}, which is no number in JSON (null says that there is none)", word)


def json_schema() -> dict[str, Any]:
    """The schema of one line, shipped as record.schema.json: `python -m fwpbench.harness.records`
    writes that file."""
    import msgspec

    return msgspec.json.schema(Record)


def to_frame(records: Iterable[Record]) -> pandas.DataFrame:
    """One row a record: its fields, the problem's axes, each parameter and each metric.

    An axis that the problem does not mention has its default. A metric `time` gives the columns
    `time`, `time.low` and `time.high`, in its own unit (seconds, bytes, fractions); a parameter
    `pairs` gives the column `pairs`. Where a name is taken, its suite stands before it:
    `memory.state` is a metric, `state` says which states cross the border of the call.
    """
    import pandas

    rows = [_row(record) for record in records]
    frame = pandas.DataFrame(rows, columns=None if rows else list(_FIELDS))
    for axis in "BTHKV":
        if axis in frame:
            sizes = frame[axis].where(frame[axis].astype(str).str.fullmatch("[0-9]{1,12}"))
            frame[axis] = pandas.to_numeric(sizes).astype("Int64")
    return frame


_FIELDS = (
    *("suite", "name", "problem", "implementation", "origin", "device", "seed", "status", "group"),
    *("reason", "tags", "command", "seconds"),
)


def _row(record: Record) -> dict[str, Any]:
    from fwpbench.harness.statuses import group_of
    from fwpbench.operators.problem import DEFAULTS, field_names, show_value

    words = dict(word.split("=", 1) for word in record.problem.split() if "=" in word)
    defaults = {name: show_value(value) for name, value in DEFAULTS.items()}
    if words.get("direction") == "decode":
        defaults["state"] = "in+out"
    row: dict[str, Any] = {name: getattr(record, name, "") for name in _FIELDS}
    row |= {"group": group_of(record.status), "tags": " ".join(record.tags)}
    row |= {name: words.get(name, defaults.get(name)) for name in field_names()}
    taken = set(row)

    def column(name: str) -> str:
        return f"{record.suite}.{name}" if name in taken else name

    for name, value in record.parameters.items():
        row[column(name)] = value
    for name, measured in record.metrics.items():
        row[column(name)] = measured.value
        row[f"{column(name)}.low"], row[f"{column(name)}.high"] = measured.low, measured.high
    return row


def fixed_columns() -> list[str]:
    """What every frame that is not empty has, in this order, whatever its suites vary."""
    from fwpbench.operators.problem import field_names

    return [*_FIELDS, *field_names()]


if __name__ == "__main__":
    from pathlib import Path

    schema = json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"
    Path(__file__).with_name("record.schema.json").write_text(schema, encoding="utf-8")
