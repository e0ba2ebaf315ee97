"""fwpbench choose: which operator by which implementation, as far as records say."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from fwpbench.harness.run_folder import Run, read_run
from fwpbench.operators.errors import UserError
from fwpbench.reports.choosing import Candidate, Choice, Wish, choose
from fwpbench.reports.evidence import Evidence, read
from fwpbench.reports.units import between, count, shown

#: Where runs lie if none is named.
FOLDERS = ("results", "runs")


def main(arguments: Namespace) -> int:
    evidence = read(_runs([Path(each) for each in arguments.runs]))
    wish = Wish(
        arguments.T, arguments.K, arguments.V, arguments.H, arguments.B,
        arguments.gpu or "", arguments.dtype, arguments.direction,
    )  # fmt: skip
    choice = choose(evidence, wish)
    if not choice.candidates:
        raise UserError(_nothing(evidence, wish, choice))
    if arguments.json:
        _print_json(choice)
    else:
        _print(evidence, choice, wish, arguments.most)
    return 0


def _runs(paths: list[Path]) -> list[Run]:
    if not paths:
        paths = sorted(
            file.parent for folder in FOLDERS for file in Path(folder).glob("**/plan.json")
        )
    if not paths:
        raise UserError(
            "no records: expected run folders, or some under results/ or runs/; make one with "
            "`fwpbench run speed scaling capacity`"
        )
    runs = [read_run(path) for path in paths]
    for complaint in [line for run in runs for line in run.complaints]:
        print(f"not read: {complaint}", file=sys.stderr)
    return runs


def _nothing(evidence: Evidence, wish: Wish, choice: Choice) -> str:
    """What was asked for, and what there is."""
    timed = [case for suite in ("speed", "scaling") for case in evidence.of(suite)]
    timed = [case for case in timed if case.value("time") is not None]
    there = {
        "devices": sorted({evidence.device(case) for case in timed}),
        "dtypes": sorted({case.words.get("dtype", "?") for case in timed}),
        "directions": sorted({case.words.get("direction", "?") for case in timed}),
        "T": [count(T) for T in sorted({case.tokens for case in timed})],
    }
    lines = [f"  {name}: {', '.join(values) or 'none'}" for name, values in there.items()]
    asked = f"{wish.direction}, T = {count(wish.T)}"
    asked += "".join(f", {word}" for word in (wish.dtype, wish.device) if word)
    said = "\n".join([f"no time is known for {asked}; there are times of", *lines])
    return "\n".join([said, *(f"  {each}" for each in choice.unknown[:5])])


def _print(evidence: Evidence, choice: Choice, wish: Wish, most: int) -> None:
    fastest, front = choice.candidates[0], choice.front
    print(f"For {wish.direction}, T = {count(wish.T)}, on {evidence.device(fastest.case)}:")
    print(f"  fastest: {_sentence(fastest)}")
    for one in choice.as_fast:
        print(f"  maybe as fast: {_sentence(one)}")
    for one in front:
        if one is not fastest:
            print(f"  holds more: {_sentence(one)}")
    _print_table(choice.candidates[:most])
    if (left := len(choice.candidates) - most) > 0:
        print(f"left out: {left} slower; --most {len(choice.candidates)} shows all")
    print(f"record of the fastest: in {fastest.case.words['run']}, {fastest.case.record.key}")
    if fastest.case.record.command:
        print(f"measured again by: {fastest.case.record.command}")
    for each in choice.unknown:
        print(f"unknown: {each}")


def _print_table(candidates: Sequence[Candidate]) -> None:
    """What all lines share is said once, above them."""
    from rich.console import Console
    from rich.table import Table

    shared = {
        name: values.pop()
        for name, of in FACTS.items()
        if len(values := {of(one) for one in candidates}) == 1
    }
    told = [name for name in FACTS if name not in shared]
    caption = "; ".join(f"{name}: {value}" for name, value in shared.items())
    table = Table(
        "operator", "implementation", title=caption, title_justify="left", title_style="none"
    )
    for column in ("time", "95 % interval", "pairs held", "state", *told):
        table.add_column(column, justify="right")
    for one in candidates:
        table.add_row(
            one.label, _marked(one), shown(one.time.seconds, "s"),
            between(one.time.low, one.time.high, "s"),
            "–" if one.pairs is None else count(one.pairs), shown(one.state, "B"),
            *(FACTS[name](one) for name in told),
        )  # fmt: skip
    Console().print(table)


#: Of a candidate, where its time comes from.
FACTS: dict[str, Callable[[Candidate], str]] = {
    "sizes": lambda one: one.sizes,
    "dtype": lambda one: one.case.words.get("dtype", "?"),
    "known": lambda one: one.time.how,
}


def _marked(one: Candidate) -> str:
    origin = one.case.record.origin
    return one.implementation if origin == "in-tree" else f"{one.implementation} ({origin})"


def _sentence(one: Candidate) -> str:
    how = "" if one.time.how == "measured" else f" ({one.time.how})"
    holds = "" if one.pairs is None else f", holds {count(one.pairs)} pairs"
    return f"{one.label} by {_marked(one)}, {shown(one.time.seconds, 's')}{how}{holds}"


def _print_json(choice: Choice) -> None:
    candidates = [
        {
            "operator": one.label,
            "implementation": one.implementation,
            "origin": one.case.record.origin,
            "problem": one.case.record.problem,
            "time": asdict(one.time),
            "pairs held": one.pairs,
            "state bytes": one.state,
            "run": one.case.words["run"],
            "record": one.case.record.key,
        }
        for one in choice.candidates
    ]
    front = [one.label for one in choice.front]
    print(json.dumps({"candidates": candidates, "front": front, "unknown": choice.unknown}))
