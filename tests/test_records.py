"""Laws of the record: written and read back it is the same, and no stranger's line does harm."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fwpbench.harness import records
from fwpbench.harness.profiles import PROFILES
from fwpbench.harness.records import (
    SCHEMA,
    BadRecord,
    Measurement,
    Record,
    from_line,
    json_schema,
    key,
    to_frame,
    to_line,
)
from fwpbench.harness.statuses import STATUSES, group_of
from fwpbench.operators.problem import field_names
from fwpbench.suites import SUITES

PROBLEM = "rule=sum phi=elu+1 norm=none B=1 T=67 H=2 K=16 V=12 dtype=fp32 direction=forward"
SIXTY = settings(max_examples=60, deadline=None, derandomize=True)

# Text that JSON can hold: everything but halves of surrogate pairs.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
numbers = st.floats()
finite = st.floats(allow_nan=False, allow_infinity=False)
seeds = st.integers(0, 2**63 - 1)
measurements = st.builds(
    Measurement,
    value=st.none() | numbers,
    unit=st.sampled_from(["s", "B", "fraction", "1"]),
    low=st.none() | numbers,
    high=st.none() | numbers,
)
anything = st.recursive(
    st.none() | st.booleans() | finite | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
some_records = st.builds(
    Record,
    suite=texts,
    problem=texts,
    implementation=texts,
    origin=texts,
    device=texts,
    seed=seeds,
    status=st.sampled_from(list(STATUSES)),
    reason=texts,
    name=texts,
    parameters=st.dictionaries(texts, finite | texts, max_size=3),
    metrics=st.dictionaries(texts, measurements, max_size=3),
    samples=st.dictionaries(texts, st.lists(numbers, max_size=4), max_size=2),
    tags=st.lists(texts, max_size=3),
    detail=st.dictionaries(texts, anything, max_size=3),
    command=texts,
    seconds=finite,
    started=texts,
)


def record(**changes: Any) -> Record:
    given: dict[str, Any] = {
        "suite": "speed",
        "problem": PROBLEM,
        "implementation": "chunked",
        "origin": "in-tree",
        "device": "cpu",
        "seed": 0,
        "status": "ok",
    }
    return Record(**(given | changes))


def line_of(**changes: Any) -> str:
    """A line as it could have been written by anybody."""
    return json.dumps(json.loads(to_line(record())) | changes)


def nulled(value: Any) -> Any:
    """What is not finite is None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: nulled(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [nulled(inner) for inner in value]
    if isinstance(value, Measurement):
        low, high = nulled(value.low), nulled(value.high)
        return Measurement(value=nulled(value.value), unit=value.unit, low=low, high=high)
    return value


# Writing and reading


@SIXTY
@given(some_records)
def test_what_is_written_is_read_back_with_null_for_what_is_not_finite(written: Record) -> None:
    line = to_line(written)
    assert "\n" not in line
    assert from_line(line) == Record(**nulled(vars(written)))
    assert from_line(line.encode()) == from_line(line)


@SIXTY
@given(some_records)
def test_the_key_survives_writing(written: Record) -> None:
    assert from_line(to_line(written)).key == written.key


def test_not_a_number_is_null_on_disk() -> None:
    line = to_line(record(metrics={"time": Measurement(value=math.nan, unit="s", high=math.inf)}))
    assert json.loads(line)["metrics"]["time"] == {
        "value": None,
        "unit": "s",
        "low": None,
        "high": None,
    }


def test_half_a_surrogate_pair_does_not_stop_a_run() -> None:
    """File names that are not UTF-8 come into error messages as such halves."""
    assert from_line(to_line(record(reason="no file 'a\udcff'")).encode()).reason == "no file 'a?'"


# Lines from strangers

BAD: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "not a record"),
    "no JSON": ("{", "not a record"),
    "not a number": (line_of(seconds=math.nan), "not a record"),
    "an array": ("[]", "object"),
    "not UTF-8": (b'{"suite": "\xff"}', "utf-8"),
    "half a surrogate pair": (line_of(reason="\ud800"), "not a record"),
    "half a surrogate pair, unescaped": ('"\ud800"', "not a record"),
    "a field is missing": ('{"suite": "speed"}', "problem"),
    "a wrong type": (line_of(seed="0"), "int"),
    "a wrong type within": (line_of(metrics={"time": {"value": "1", "unit": "s"}}), "metrics"),
    "a number too large": (line_of(seconds=10**400), "not a record"),
    "very many digits": ('{"seed": ' + "1" * 5000 + "}", "not a record"),
    "deep": ("[" * 100_000, "not a record"),
    "deep within": (line_of(detail={}).replace("{}", '{"a":' * 5000 + "1" + "}" * 5000), "recurs"),
    "giant": (line_of(reason="x" * 5 * 2**20), "more than 4,194,304 characters"),
    "an unknown status": (line_of(status="superb"), "unknown status 'superb'"),
    "newer": (line_of(schema=SCHEMA + 1, status=7), "newer FWPBench (schema 2"),
    "twice": ('{"status": "ok", ' + line_of(status="incorrect")[1:], "'status' is given twice"),
    "twice within": (line_of(detail={}).replace("{}", '{"a": 1, "a": 2}'), "'a' is given twice"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_line_is_a_bad_record_with_a_sentence(name: str) -> None:
    line, sentence = BAD[name]
    with pytest.raises(BadRecord, match="(?i)" + sentence.replace("(", r"\(")):
        from_line(line)


@SIXTY
@given(st.dictionaries(st.sampled_from(list(vars(record()))), anything, max_size=4))
def test_any_value_in_any_field_is_a_record_or_a_bad_record(changes: dict[str, Any]) -> None:
    with suppress(BadRecord):
        read = from_line(line_of(**changes))
        assert read.key
        assert len(to_frame([read])) == 1


@SIXTY
@given(st.binary(max_size=60), st.integers(0, 400))
def test_any_bytes_are_a_record_or_a_bad_record(noise: bytes, place: int) -> None:
    whole = to_line(record()).encode()
    for line in (noise, whole[:place] + noise + whole[place:], whole[:place]):
        with suppress(BadRecord):
            from_line(line)


# Keys

identities = st.tuples(
    st.sampled_from(["speed", "a suite", "", 'sp"eed', "with"]),
    st.sampled_from(
        [
            *(PROBLEM, f"{PROBLEM} state=in", f"{PROBLEM} pairs=2", f"{PROBLEM} with pairs=2"),
            *(f"{PROBLEM} implementation=a seed=0", "", "with", '"', "rule=sum", "rule=sum seed=0"),
        ]
    ),
    st.dictionaries(
        st.sampled_from(["pairs", "state", "a b", "a b=1", "seed", "implementation", ""]),
        st.sampled_from(["2", "in", "x implementation=a", "", '"', "nan", "with", "a b=1"])
        | st.sampled_from([2, 2.5, 1234567, 1234568, 1e-9, 0.1, 0.1 + 2**-55, 1e22, -1, math.inf]),
        max_size=2,
    ),
    st.sampled_from(["a", "a seed=0", "", "b implementation=a", '"']),
    st.sampled_from([0, 1, 10]),
)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(identities, identities)
def test_two_records_share_a_key_only_where_they_are_the_same(a: Any, b: Any) -> None:
    assert (key(*a) == key(*b)) == (a == b)


def test_different_values_give_different_keys() -> None:
    values: list[float | str] = [1234567, 1234568, 1e-9, 0.1, 0.1 + 2**-55, 1e22, -1, 1, math.inf]
    values += ["1", "1e-09", "inf", "nan", "", "a b", "a", '"a"', "with", "A"]
    assert len({record(parameters={"pairs": value}).key for value in values}) == len(values)


@pytest.mark.parametrize("numbers", [(32, 32.0), (0, 0.0), (0.1, 1 / 10), (10**20, 1e20)])
def test_equal_numbers_give_equal_keys(numbers: tuple[float, float]) -> None:
    a, b = (record(parameters={"pairs": number}).key for number in numbers)
    assert a == b


def test_a_key_reads_as_it_stands() -> None:
    assert record(parameters={"pairs": 2.0, "load": 0.0625}).key == (
        f"speed {PROBLEM} with load=0.0625 pairs=2 implementation=chunked seed=0"
    )


# Frames


def test_a_frame_has_fields_axes_parameters_and_metrics_as_columns() -> None:
    time = Measurement(value=2.0, unit="s", low=1.0, high=3.0)
    frame = to_frame(
        [
            record(parameters={"pairs": 2}, metrics={"time": time}, tags=["few-samples", "x"]),
            record(problem=PROBLEM.replace("forward", "decode"), status="missing"),
        ]
    )
    assert len(frame) == 2
    assert {*field_names(), "suite", "implementation", "status", "seed", "command"} <= {*frame}
    first, second = (row for _, row in frame.iterrows())
    assert (first["rule"], first["phi"], first["T"], first["dtype"]) == ("sum", "elu+1", 67, "fp32")
    assert (first["time"], first["time.low"], first["time.high"]) == (2.0, 1.0, 3.0)
    assert (first["pairs"], first["tags"], first["group"]) == (2, "few-samples x", "ok")
    assert (first["state"], first["inputs"], first["causal"]) == ("none", "normal", "yes")
    assert (second["state"], second["group"]) == ("in+out", "cannot")
    assert math.isnan(second["time"])
    assert str(frame["T"].dtype) == "Int64"


def test_a_name_that_is_taken_has_its_suite_before_it() -> None:
    state = Measurement(value=64.0, unit="B")
    row = record(suite="memory", parameters={"status": "mine"}, metrics={"state": state})
    frame = to_frame([row])
    assert frame["memory.state"].item() == 64.0
    assert frame["memory.status"].item() == "mine"
    assert (frame["state"].item(), frame["status"].item()) == ("none", "ok")


def test_a_frame_of_nothing_has_its_columns() -> None:
    frame = to_frame([])
    assert len(frame) == 0
    assert {"suite", "implementation", "status"} <= {*frame}


@pytest.mark.parametrize("T", ["many", "1.5", "1e400", "", "-1", "9" * 40])
def test_a_size_that_is_none_is_missing_from_the_frame(T: str) -> None:
    frame = to_frame([record(), record(problem=PROBLEM.replace("T=67", f"T={T}"))])
    assert frame["T"].isna().tolist() == [False, True]


@pytest.mark.parametrize("suite", SUITES)
def test_the_columns_of_a_suite_do_not_meet(suite: str) -> None:
    """A parameter never has the name of a metric, nor a metric that of another one's bound."""
    parameters = {
        name for case in SUITES[suite].cases(PROFILES["quick"]) for name in case.parameters
    }
    bounds = {f"{name}{end}" for name in SUITES[suite].metrics for end in ("", ".low", ".high")}
    assert len(bounds) == 3 * len(SUITES[suite].metrics)
    assert not parameters & bounds


# The schema


def test_the_shipped_schema_is_that_of_the_dataclass() -> None:
    path = Path(records.__file__).with_name("record.schema.json")
    shipped = json.loads(path.read_text(encoding="utf-8"))
    assert shipped == json_schema(), "write it again with: python -m fwpbench.harness.records"


@SIXTY
@given(some_records)
def test_what_is_written_obeys_the_schema(written: Record) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator(json_schema()).validate(json.loads(to_line(written)))


# Statuses


@pytest.mark.parametrize("status", STATUSES)
def test_a_run_fails_by_what_is_wrong_or_crashed_and_by_nothing_else(status: str) -> None:
    bad = group_of(status) in ("wrong", "crashed") and status != "diverged"
    assert STATUSES[status].fails_the_run == bad
