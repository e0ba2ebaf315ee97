"""fwpbench compare: what became faster or slower from one run to another."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from fwpbench.commands.reading import read
from fwpbench.harness.comparison import MARGIN, Change, between_processes, changes, samples_of
from fwpbench.harness.doctor import NOISE
from fwpbench.harness.records import Record
from fwpbench.harness.run_folder import Run
from fwpbench.harness.signature import signature
from fwpbench.operators.errors import UserError
from fwpbench.operators.problem import Problem
from fwpbench.operators.where import Where

#: Of a verdict that --fail-on names; where both came up, that of the first.
EXITS = {"slower": 1, "undecided": 3}


def main(arguments: Namespace) -> int:
    before, after = (read(Path(path)) for path in (arguments.before, arguments.after))
    pairs, left = _pairs(before, after, arguments)
    if not pairs:
        raise UserError(
            f"nothing to compare: no record with {arguments.metric} in both runs"
            + "".join(f"\n  {number} left out: {reason}" for reason, number in left.most_common())
        )
    margin = _margin(before, after, arguments.margin)
    samples = {key: (first, second) for key, (_, _, first, second) in pairs.items()}
    processes = {
        key: (between_processes(old, arguments.metric), between_processes(new, arguments.metric))
        for key, (old, new, _, _) in pairs.items()
    }
    found = changes(samples, margin, processes)
    elsewhere = _other_machine(before, after)
    if arguments.json:
        _print_json(found, pairs, margin, elsewhere)
    else:
        _print_table(found, pairs, left, elsewhere is None)
        _print_end(before, after, found, pairs, margin, elsewhere)
    if elsewhere is not None:
        return 0
    verdicts = {change.verdict for change in found.values()}
    return next(
        (code for name, code in EXITS.items() if name in arguments.fail_on and name in verdicts), 0
    )


Pair = tuple[Record, Record, list[float], list[float]]


def _pairs(before: Run, after: Run, arguments: Namespace) -> tuple[dict[str, Pair], Counter[str]]:
    """By key; and why others are left out, counted."""
    old, new = ({record.key: record for record in run.records} for run in (before, after))
    parameters = {name for record in [*old.values(), *new.values()] for name in record.parameters}
    where, metric = Where(arguments.where, frozenset(parameters)), arguments.metric
    pairs: dict[str, Pair] = {}
    left: Counter[str] = Counter()
    for key in dict.fromkeys([*old, *new]):
        record = new.get(key) or old[key]
        # Not parsed without need: a plugin's words are unknown here.
        if arguments.where and not where.matches(Problem.parse(record.problem), record.parameters):
            continue
        if key not in old or key not in new:
            left[f"only {'after' if key in new else 'before'}"] += 1
            continue
        if old[key].protocol != new[key].protocol:
            left["another version of the protocol: not comparable"] += 1
            continue
        first, second = (samples_of(each, metric) for each in (old[key], new[key]))
        if first is not None and second is not None:
            pairs[key] = (old[key], new[key], first, second)
        elif first is not None or second is not None:
            left[f"{old[key].status} before, {new[key].status} after"] += 1
    return pairs, left


def _margin(before: Run, after: Run, asked: float | None) -> float:
    """At least what two runs of the same code differ by on these machines, where that is known."""
    if asked is not None:
        return asked
    noise = [run.environment.get(NOISE) for run in (before, after)]
    return max([MARGIN, *(float(x) for x in noise if isinstance(x, int | float))])


def _other_machine(before: Run, after: Run) -> str | None:
    first, second = (str(run.environment.get("device")) for run in (before, after))
    return None if first == second else f"{first} before, {second} after"


def _print_json(
    found: dict[str, Change], pairs: dict[str, Pair], margin: float, elsewhere: str | None
) -> None:
    unjudged = {"p": None, "verdict": None} if elsewhere is not None else {}
    cells = [
        {
            "suite": record.suite,
            "problem": record.problem,
            "parameters": record.parameters,
            "implementation": record.implementation,
            "seed": record.seed,
            **asdict(found[key]),
            **unjudged,
            "roofline": {"before": _roofline(old), "after": _roofline(record)},
        }
        for key, (old, record, _, _) in pairs.items()
    ]
    print(json.dumps({"margin": margin, "other machine": elsewhere, "cells": cells}))


def _print_table(
    found: dict[str, Change], pairs: dict[str, Pair], left: Counter[str], judged: bool
) -> None:
    """Across machines a cell has no verdict, but what part of each machine's roofline it reaches,
    where that was measured."""
    from rich.console import Console
    from rich.table import Table

    fractions = {key: (_roofline(old), _roofline(new)) for key, (old, new, _, _) in pairs.items()}
    measured = any(fraction for both in fractions.values() for fraction in both)
    table = Table("suite", "implementation", "problem")
    columns = ["verdict"] if judged else []
    columns += ["of roofline before", "after"] if measured else []
    for column in ("ratio", "95 % interval", *columns):
        table.add_column(column, no_wrap=True)
    for key, change in sorted(found.items(), key=lambda item: -item[1].ratio):
        record = pairs[key][1]
        interval = "too few samples"
        if change.low is not None and change.high is not None:
            interval = f"{change.low:.3f} – {change.high:.3f}"
        words = " ".join([record.problem, *(f"{n}={v}" for n, v in record.parameters.items())])
        cells = [record.suite, record.implementation, words, f"{change.ratio:.3f}", interval]
        cells += [change.verdict] if judged else []
        if measured:
            cells += ["–" if each is None else f"{100 * each:.1f} %" for each in fractions[key]]
        table.add_row(*cells)
    Console().print(table)
    if not judged and not measured:
        print("no record has its fraction of the measured roofline: ratios alone are compared")
    for reason, number in left.most_common():
        print(f"left out: {number} ({reason})", file=sys.stderr)


def _roofline(record: Record) -> float | None:
    """What part of its machine's measured roofline a record reached, where that was measured."""
    measured = record.metrics.get("roofline")
    return None if measured is None else measured.value


def _print_end(
    before: Run,
    after: Run,
    found: dict[str, Change],
    pairs: dict[str, Pair],
    margin: float,
    elsewhere: str | None,
) -> None:
    first, second, _, _ = next(iter(pairs.values()))
    print(f"before: {before.path}, {signature(first, before.environment)}")
    print(f"after:  {after.path}, {signature(second, after.environment)}")
    counted = Counter(change.verdict for change in found.values())
    said = ", ".join(
        f"{counted[name]} {name}" for name in ("slower", "faster", "same", "undecided")
    )
    print(f"ratio = after ÷ before; margin {100 * margin:.2g} %")
    if elsewhere is not None:
        print(f"other machines ({elsewhere}): these are ratios, and no verdict on a change")
        return
    print(said)
    if not all(NOISE in run.environment for run in (before, after)):
        print(
            "not measured: how much two runs of the same code differ on this machine. Where other "
            "work shares it,\nthat is more than the noise within a run: repeat both runs in turn."
        )
