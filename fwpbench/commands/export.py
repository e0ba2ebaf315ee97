"""fwpbench export: the records of runs as one flat table."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fwpbench.commands.reading import complain, read
from fwpbench.harness.records import Record, fixed_columns, to_frame
from fwpbench.harness.run_folder import Run
from fwpbench.harness.signature import signature
from fwpbench.operators.errors import UserError, unknown
from fwpbench.operators.problem import Problem
from fwpbench.operators.where import Where

if TYPE_CHECKING:
    import pandas

#: What a file may end in, and the format that is then meant.
ENDINGS = {
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".parquet": "parquet",
    ".md": "markdown",
}
#: Of a run and not of a record: before and after the columns that every frame has.
FIRST, LAST = ("run", "machine"), ("samples", "protocol", "signature")


def main(arguments: Namespace) -> int:
    output = None if arguments.output is None else Path(arguments.output)
    form = arguments.to or _form_of(output)
    if form == "parquet" and output is None:
        raise UserError("Parquet is no text: name a file, as in --output records.parquet")
    runs = [read(Path(path)) for path in arguments.runs]
    complain(runs)
    chosen = [(run, _chosen(run, runs, arguments)) for run in runs]
    if not any(records for _, records in chosen):
        suites = sorted({record.suite for run in runs for record in run.records})
        held = f"the runs hold {', '.join(suites)}" if suites else "the runs hold none yet"
        raise UserError(f"no record passes --where {arguments.where!r} and --suites: {held}")
    frame = table_of(chosen)
    if form == "parquet":
        assert output is not None
        _write_parquet(frame, output)
    elif output is None:
        sys.stdout.write(TEXTS[form](frame))
    else:
        _writing(output, lambda: output.write_text(TEXTS[form](frame), encoding="utf-8"))
    if output is not None:
        print(f"{len(frame):,} records, {len(frame.columns)} columns → {output}")
    return 0


def _form_of(output: Path | None) -> str:
    if output is None:
        return "csv"
    if output.suffix.lower() not in ENDINGS:
        raise UserError(
            f"{output}: which format is meant? Give --to, or an ending of: {', '.join(ENDINGS)}"
        )
    return ENDINGS[output.suffix.lower()]


def _chosen(run: Run, runs: Sequence[Run], arguments: Namespace) -> list[Record]:
    known = {record.suite for each in runs for record in each.records}
    for name in arguments.suites:
        if name not in known:
            raise UserError(unknown("suite", name, sorted(known)))
    parameters = frozenset(name for record in run.records for name in record.parameters)
    where = Where(arguments.where, parameters)

    def passes(record: Record) -> bool:
        if arguments.suites and record.suite not in arguments.suites:
            return False
        # Not parsed without need: a plugin's words are unknown here.
        return not arguments.where or where.matches(
            Problem.parse(record.problem), record.parameters
        )

    return [record for record in run.records if passes(record)]


def table_of(chosen: Sequence[tuple[Run, Sequence[Record]]]) -> pandas.DataFrame:
    """One row a record: fixed columns first, the others in alphabetical order."""
    records = [record for _, listed in chosen for record in listed]
    frame = to_frame(records)
    around: dict[str, list[Any]] = {name: [] for name in (*FIRST, *LAST)}
    for run, listed in chosen:
        for record in listed:
            around["run"].append(run.path.name)
            around["machine"].append(run.environment.get("device"))
            around["samples"].append(max((len(x) for x in record.samples.values()), default=0))
            around["protocol"].append(record.protocol)
            around["signature"].append(signature(record, run.environment))
    fixed = fixed_columns()
    others = sorted(set(frame.columns) - set(fixed))
    # A suite may call something of its own as these are called.
    frame = frame[[*fixed, *others]].rename(columns={name: f"suite's {name}" for name in around})
    placed = [(place, name) for place, name in enumerate(FIRST)]
    placed += [(len(FIRST) + len(fixed) + place, name) for place, name in enumerate(LAST)]
    for place, name in placed:
        frame.insert(place, name, around[name])
    return frame


def _as_csv(frame: pandas.DataFrame) -> str:
    return str(frame.to_csv(index=False, lineterminator="\n"))


def _as_json(frame: pandas.DataFrame) -> str:
    """Not by pandas, which rounds."""
    import pandas

    def line(row: Mapping[Any, Any]) -> str:
        plain = {
            name: None if pandas.isna(value) else getattr(value, "item", lambda v=value: v)()
            for name, value in row.items()
        }
        return json.dumps(plain, ensure_ascii=False, allow_nan=False) + "\n"

    return "".join(line(row) for row in frame.to_dict("records"))


def _as_markdown(frame: pandas.DataFrame) -> str:
    """What differs, in columns; what is the same in all rows in a line above; intervals beside
    their values, in four digits."""
    hidden = {"problem", "command", "seconds", "signature", "group", "origin", "reason", "protocol"}
    bounds = {name for name in frame.columns if str(name).endswith((".low", ".high"))}
    listed = [name for name in frame.columns if name not in hidden | bounds]
    told = [name for name in listed if frame[name].notna().any() and (frame[name] != "").any()]
    varying = [name for name in told if frame[name].nunique(dropna=False) > 1] or told[:4]
    same = [f"{name}={_cell(frame[name].iloc[0])}" for name in told if name not in varying]

    def row(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |\n"

    lines = [f"The same in all: {', '.join(same)}.\n\n"] if same else []
    lines += [row([_cell(name) for name in varying]), row(["---"] * len(varying))]
    for record in frame.to_dict("records"):
        cells = []
        for name in varying:
            low, high = record.get(f"{name}.low"), record.get(f"{name}.high")
            ends = [_cell(low), _cell(high)]
            cells.append(_cell(record[name]) + (f" ({' – '.join(ends)})" if all(ends) else ""))
        lines.append(row(cells))
    return "".join(lines)


def _cell(value: Any) -> str:
    import pandas

    if value is None or pandas.isna(value):
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")


TEXTS: dict[str, Callable[[pandas.DataFrame], str]] = {
    "csv": _as_csv,
    "json": _as_json,
    "markdown": _as_markdown,
}


def _write_parquet(frame: pandas.DataFrame, output: Path) -> None:
    try:
        _writing(output, lambda: frame.to_parquet(output, index=False))
    except ImportError:
        raise UserError(
            "Parquet needs pyarrow, which is not installed here: pip install pyarrow, or --to csv"
        ) from None


def _writing(output: Path, write: Callable[[], object]) -> None:
    if not output.absolute().parent.is_dir():
        raise UserError(f"there is no folder {output.parent} to write {output.name} into")
    try:
        write()
    except OSError as error:
        raise UserError(f"{output} cannot be written ({error.strerror or error})") from None
