"""A plan in n parts that n machines run, and the one run that their records make again.

Part i of n has every n-th case, with all its implementations: they share what is found once for a
case, and what is slow is spread.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fwpbench.harness.doctor import worst
from fwpbench.harness.plan import Task
from fwpbench.harness.records import Record
from fwpbench.harness.run_folder import Run, RunWriter
from fwpbench.harness.statuses import SKIPPED
from fwpbench.operators.errors import UserError

#: What must be the same, or the records of one run would not be comparable.
SAME = ("fwpbench", "protocol", "commit", "device", "device kind", "torch", "threads", "isolation")


def shard_of(tasks: Sequence[Task], number: int, of: int) -> list[Task]:
    """Part `number` (from 1) of `of`."""
    part, cases, last = [], -1, None
    for task in tasks:
        if (case := (task.suite, task.case)) != last:
            cases, last = cases + 1, case
        if cases % of == number - 1:
            part.append(task)
    if not part:
        raise UserError(f"--shard {number}/{of}: there are only {cases + 1} cases to share out")
    return part


def shard_as_json(tasks: Sequence[Task], number: int, of: int) -> dict[str, Any]:
    """What plan.json tells of a shard: which it is, of what, and where its cases stand there."""
    keys = [task.key for task in tasks]
    mine = {task.key for task in shard_of(tasks, number, of)}
    return {
        "number": number,
        "of": of,
        "plan": _digest(keys),
        "positions": [position for position, key in enumerate(keys) if key in mine],
    }


def _digest(keys: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()


def merge(runs: Sequence[Run], output: Path) -> int:
    """Write the run that these shards make together; the number of its records."""
    shards = [_shard(run) for run in runs]
    _check_whole(runs, shards)
    places: dict[int, tuple[Run, str]] = {}
    for run, shard in zip(runs, shards, strict=True):
        places |= {
            position: (run, key)
            for position, key in zip(shard["positions"], run.plan["cases"], strict=True)
        }
    keys = [places[position][1] for position in sorted(places)]
    if _digest(keys) != shards[0]["plan"]:
        raise UserError(f"{runs[0].path}: its plan.json is damaged: its cases are not those it had")
    records = _records(runs)
    settings = {name: value for name, value in runs[0].plan.items() if name != "shard"}
    writer = RunWriter(output, settings | {"cases": keys}, _environment(runs))
    for key in keys:
        writer.append(records[key])
    writer.close()
    for run, shard in zip(runs, shards, strict=True):
        for log in sorted((run.path / "logs").glob("*.log")):
            shutil.copyfile(log, output / "logs" / f"shard-{shard['number']}-{log.name}")
    return len(keys)


def _shard(run: Run) -> Mapping[str, Any]:
    shard = run.plan.get("shard")
    if shard is None:
        raise UserError(f"{run.path} is no shard: it was not made by fwpbench run --shard")
    kinds = {"number": int, "of": int, "plan": str, "positions": list}
    if (
        not isinstance(shard, dict)
        or not all(isinstance(shard.get(name), kind) for name, kind in kinds.items())
        or not all(isinstance(position, int) for position in shard["positions"])
        or not isinstance(run.plan.get("cases"), list)
        or len(run.plan["cases"]) != len(shard["positions"])
    ):
        raise UserError(f"{run.path / 'plan.json'} is damaged: its 'shard' cannot be used")
    return shard


def _check_whole(runs: Sequence[Run], shards: Sequence[Mapping[str, Any]]) -> None:
    """Raises UserError where these are not all shards of one plan, each once."""
    first, here = runs[0], shards[0]
    seen: dict[int, Run] = {}
    for run, shard in zip(runs, shards, strict=True):
        for name in ("profile", "seed", "where", "suites", "implementations", "device"):
            if run.plan.get(name) != first.plan.get(name):
                raise UserError(
                    f"{first.path} and {run.path} are shards of different plans: their {name} is "
                    f"{first.plan.get(name)!r} and {run.plan.get(name)!r}"
                )
        if (shard["plan"], shard["of"]) != (here["plan"], here["of"]):
            raise UserError(
                f"{first.path} and {run.path} are shards of different plans: "
                f"{here['number']}/{here['of']} of {here['plan'][:8]} and "
                f"{shard['number']}/{shard['of']} of {shard['plan'][:8]}"
            )
        if shard["number"] in seen:
            raise UserError(
                f"shard {shard['number']}/{shard['of']} is given twice: "
                f"{seen[shard['number']].path} and {run.path}"
            )
        seen[shard["number"]] = run
        for name in SAME:
            if run.environment.get(name) != first.environment.get(name):
                raise UserError(
                    f"{first.path} and {run.path} cannot be one run: their {name} is "
                    f"{first.environment.get(name)!r} and {run.environment.get(name)!r}. "
                    "fwpbench report shows them side by side"
                )
    missing = [str(number) for number in range(1, here["of"] + 1) if number not in seen]
    if missing:
        raise UserError(f"of {here['of']} shards, {', '.join(missing)} missing: give all of them")


def _records(runs: Sequence[Run]) -> dict[str, Record]:
    records: dict[str, Record] = {}
    for run in runs:
        # What a budget left is missing like any other: a whole run has no case that was not run.
        mine = {record.key: record for record in run.records if record.status != SKIPPED}
        if left := [key for key in run.plan["cases"] if key not in mine]:
            raise UserError(
                f"{run.path} is not finished: {len(left)} of {len(run.plan['cases'])} records are "
                f"missing or skipped. First: fwpbench run --resume {run.path}"
            )
        records |= mine
    return records


def _environment(runs: Sequence[Run]) -> dict[str, Any]:
    """What is the same in all, as it is; the rest, each shard's in a list of its own."""
    merged: dict[str, Any] = {}
    for name in dict.fromkeys(name for run in runs for name in run.environment):
        values = [run.environment.get(name) for run in runs]
        same = all(value == values[0] for value in values)
        merged[name] = values[0] if same else json.dumps(values, ensure_ascii=False)
    return merged | worst(run.environment for run in runs)
