"""fwpbench check: agreement of everything that is listed."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from fwpbench.commands.check_function import refuse_options
from fwpbench.commands.selection import (
    chosen_implementations,
    chosen_suites,
    executor,
    setting,
)
from fwpbench.harness.engine import records_of
from fwpbench.harness.plan import Task, make_tasks
from fwpbench.harness.profiles import PROFILES
from fwpbench.harness.records import Record, to_line
from fwpbench.harness.statuses import STATUSES, group_of
from fwpbench.harness.suite import Setting
from fwpbench.operators.errors import UserError
from fwpbench.operators.problem import Problem
from fwpbench.progress import groups, make_reporter
from fwpbench.terminal import console, table


def main(arguments: Namespace) -> int:
    refuse_options(arguments)
    implementations = chosen_implementations(arguments.implementations)
    here, tasks = planned(arguments, implementations)
    records: list[Record] = []
    try:
        with (
            make_reporter(tasks, silent=arguments.json) as reporter,
            executor(here, None, arguments.timeout, arguments.workers) as execute,
        ):
            for number, record in enumerate(records_of(tasks, execute), start=1):
                records.append(record)
                reporter(number, len(tasks), record)
                if arguments.json:
                    print(to_line(record), flush=True)
    except (KeyboardInterrupt, BrokenPipeError):
        print(f"\ninterrupted after {len(records)} of {len(tasks)} cases", file=sys.stderr)
        return 130
    failed = [record for record in records if STATUSES[record.status].fails_the_run]
    if not arguments.json:
        _print(records, implementations)
        for record in failed:
            print(f"{record.status}: {record.problem}: {record.reason}\n  {record.command}")
    return 1 if failed else 0


def planned(arguments: Namespace, implementations: Sequence[str]) -> tuple[Setting, list[Task]]:
    """In quick, which asks fp32 alone; where nothing there passes --where, and no --profile was
    given, in standard."""
    suites, here = chosen_suites(["agreement"]), setting(arguments)
    try:
        return here, make_tasks(suites, implementations, here.profile, here.seed, arguments.where)
    except UserError:
        if arguments.profile is not None:
            raise
    here = replace(here, profile=PROFILES["standard"])
    return here, make_tasks(suites, implementations, here.profile, here.seed, arguments.where)


def _print(records: Sequence[Record], implementations: Sequence[str]) -> None:
    """One row an operator; a cell is its worst group, its worst ratio or its reason's number."""
    cells: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        operator = str(Problem.parse(record.problem).operator)
        cells[operator][record.implementation].append(record)
    rows = table("operator", *implementations)
    notes: dict[str, int] = {}
    for operator, row in cells.items():
        rows.add_row(operator, *(_cell(row[name], notes) for name in implementations))
    out = console()
    out.print(rows)
    for reason, number in notes.items():
        out.print(f"[{number}] {reason}")
    counts = " · ".join(f"{count} {group}" for group, count in groups(records).items())
    out.print(f"{counts}; a number is the worst error ÷ what is allowed")


def _cell(records: Sequence[Record], notes: dict[str, int]) -> str:
    bad = [record for record in records if STATUSES[record.status].fails_the_run]
    if bad:
        return bad[0].status
    ratios = [
        m.value for r in records if (m := r.metrics.get("error ratio")) and m.value is not None
    ]
    if ratios:
        return f"ok {max(ratios):.2f}"
    reasons = [record.reason for record in records if group_of(record.status) == "cannot"]
    return f"– {notes.setdefault(reasons[0], len(notes) + 1)}" if reasons else ""
