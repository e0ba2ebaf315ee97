"""fwpbench run: plan, run, record, report."""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from fwpbench import __version__, plugins
from fwpbench.commands.reading import complain, read
from fwpbench.commands.selection import (
    check_workers,
    chosen_implementations,
    chosen_suites,
    executor,
    executor_on_ray,
    make_setting,
    setting,
    with_data,
    with_domains,
    with_processes,
)
from fwpbench.harness.budget import Budget, in_words
from fwpbench.harness.device import DEVICES
from fwpbench.harness.doctor import GRADE, as_facts, examine
from fwpbench.harness.engine import Executor, Log, Several, run_tasks
from fwpbench.harness.environment import command_line, describe
from fwpbench.harness.plan import Task, as_json, check_plan, make_tasks, tasks_of
from fwpbench.harness.probe import BRIEFLY, LONG, MachineProbe
from fwpbench.harness.records import Record
from fwpbench.harness.run_folder import Run, RunWriter, keys_done, read_plan
from fwpbench.harness.shard import shard_as_json, shard_of
from fwpbench.harness.statuses import SKIPPED, STATUSES
from fwpbench.harness.suite import Setting, Suite
from fwpbench.operators.errors import UserError
from fwpbench.operators.operator import enumerate_operators
from fwpbench.plugins import paths_of, plugged, shown
from fwpbench.progress import duration, groups, make_reporter
from fwpbench.reports import build_report, load
from fwpbench.terminal import console, table

#: How long the end of the process takes, of its start: torch is as slow to leave as to come.
LEAVING = 0.5
#: What a suite adds to a report, of what it took to load what draws it: 0.1 to 0.4 on two cores.
DRAWING_A_SUITE = 0.25


def main(arguments: Namespace) -> int:
    paths = shown(arguments.plugin)
    if arguments.resume is not None and not paths:
        paths = paths_of(read_plan(Path(arguments.resume)))
    with plugged(paths):
        return _planned(arguments)


def _planned(arguments: Namespace) -> int:
    if arguments.resume is not None:
        suites, tasks, here, path = _resumed(arguments)
    else:
        suites = chosen_suites(arguments.suites)
        here = with_data(setting(arguments), arguments.data, arguments.data_dir, suites)
        here = with_domains(here, arguments.domains)
        here = with_processes(here, arguments.processes)
        tasks = make_tasks(
            suites,
            chosen_implementations(arguments.implementations),
            here.profile,
            here.seed,
            arguments.where,
        )
        whole = tasks
        if arguments.shard is not None:
            tasks = shard_of(whole, *arguments.shard)
        path = Path(arguments.output or f"runs/{time.strftime('%Y-%m-%d-%H%M%S')}")
    check_workers(arguments.workers, {task.suite: suites[task.suite] for task in tasks})
    if arguments.dry_run:
        done = keys_done(path) if arguments.resume is not None else set()
        return _show([task for task in tasks if task.key not in done], arguments.json)
    if arguments.resume is not None:
        writer = RunWriter.resume(path)
    else:
        environment = _environment(arguments, here)
        if any("time" in suites[name].metrics for name in {task.suite for task in tasks}):
            environment |= examined(here)
        writer = RunWriter(path, _plan(arguments, whole, here), environment)
        if not arguments.json:
            _warn(environment)
    return _run(tasks, here, writer, arguments)


def _run(
    tasks: Sequence[Task],
    here: Setting,
    writer: RunWriter,
    arguments: Namespace,
) -> int:
    left = [task for task in tasks if task.key not in writer.done]
    try:
        budget = _budget(tasks, here, writer.path, arguments)
        if not arguments.json:
            within = f" in {in_words(budget.seconds)}" if budget else ""
            on = f"on {here.device.name}{within} → {writer.path}"
            print(f"{len(left)} records to make {on}", flush=True)
        if budget is None or budget.left() > 0:
            score_the_gate(tasks, here, writer)
        with (
            make_reporter(left, budget, silent=arguments.json) as reporter,
            _executor(
                replace(here, checkpoints=writer.path / "checkpoints", tell=reporter.tell),
                writer.log,
                arguments,
            ) as execute,
        ):
            run_tasks(tasks, execute, writer, reporter, budget)
    except (KeyboardInterrupt, BrokenPipeError):  # Ctrl-C, or `fwpbench run | head`
        print(
            f"\ninterrupted: {len(writer.done)} of {len(tasks)} records are kept. Go on with:\n"
            f"  fwpbench run --resume {writer.path}",
            file=sys.stderr,
        )
        return 130
    finally:
        writer.close()
    return _conclude(writer.path, arguments.json)


def _budget(
    tasks: Sequence[Task], here: Setting, path: Path, arguments: Namespace
) -> Budget | None:
    """What was asked for, less what it took to come here and what will follow the last case.

    How long that takes depends on the machine and on who else uses it, so it is counted in times of
    what was seen to take long here.
    """
    if arguments.budget is None:
        return None
    starting = -arguments.began + (clock := time.perf_counter())
    aside = LEAVING * starting
    with suppress(ModuleNotFoundError):  # then there will be no report
        load()
        loading = time.perf_counter() - clock
        aside += DRAWING_A_SUITE * loading * len({task.suite for task in tasks})
    resume = command_line(["run", "--resume", str(path)])
    taken = time.perf_counter() - arguments.began
    return Budget(arguments.budget, here, resume, taken + aside)


def score_the_gate(tasks: Sequence[Task], here: Setting, writer: RunWriter) -> None:
    """Seconds, so only where all operators are judged: not for a few cases picked by --where."""
    judged = {task.case.problem.operator for task in tasks if task.suite == "agreement"}
    if writer.has_gate or not judged.issuperset(enumerate_operators()[0]):
        return
    from fwpbench.harness.mutation_score import mutation_score

    writer.write_gate(mutation_score("fp32", here.seed, here.device.kind).as_json())


def _plan(arguments: Namespace, tasks: Sequence[Task], here: Setting) -> dict[str, Any]:
    settings = {
        "profile": here.profile.name,
        "seed": here.seed,
        "where": arguments.where,
        "suites": list(dict.fromkeys(task.suite for task in tasks)),
        "implementations": chosen_implementations(arguments.implementations),
        "device": here.device.kind,
        "data": list(here.profile.data),
        "domains": list(arguments.domains),
        "processes": here.profile.processes,
        "plugins": plugins.as_json(here.plugins),
        "arguments": command_line(arguments.words),
    }
    plan = as_json(tasks, settings)
    if arguments.shard is None:
        return plan
    part = [task.key for task in shard_of(tasks, *arguments.shard)]
    return plan | {"cases": part, "shard": shard_as_json(tasks, *arguments.shard)}


def _environment(arguments: Namespace, here: Setting) -> dict[str, Any]:
    execution = _executor(here, None, arguments).facts()
    return describe(here.device, command_line(arguments.words), __version__, execution)


def _executor(here: Setting, log: Log | None, arguments: Namespace) -> Executor | Several:
    if arguments.executor == "ray":
        if arguments.workers > 1:
            raise UserError("--workers is for --executor local: with ray, ask for more GPUs")
        return executor_on_ray(here, log, arguments.timeout, arguments.ray_address)
    if arguments.ray_address is not None:
        raise UserError("--ray-address is for --executor ray: add that, or leave it out")
    return executor(here, log, arguments.timeout, arguments.workers)


def examined(here: Setting) -> dict[str, Any]:
    """What the doctor says of this machine now: briefly before a quick run, at length otherwise."""
    brief = here.profile.name == "quick"
    probe = MachineProbe(DEVICES[here.device.kind](), BRIEFLY if brief else LONG)
    return dict(as_facts(examine(probe)))


def _warn(environment: Mapping[str, Any]) -> None:
    """Before anything is timed: what speaks against the times to come."""
    poor = [
        f"  {name.removeprefix('doctor: ')}: {said.removeprefix('poor: ')}"
        for name, said in environment.items()
        if name.startswith("doctor: ") and str(said).startswith("poor: ")
    ]
    if poor:
        print(f"this machine has grade {environment.get(GRADE)} (see fwpbench doctor):")
        print("\n".join(poor))


def _resumed(
    arguments: Namespace,
) -> tuple[dict[str, Suite], list[Task], Setting, Path]:
    for option, given in (
        ("SUITE", arguments.suites),
        ("--where", arguments.where),
        ("--output", arguments.output),
        ("--implementations", arguments.implementations),
        ("--profile", arguments.profile),
        ("--device", arguments.device),
        ("--seed", arguments.seed),
        ("--plugin", arguments.plugin),
        ("--shard", arguments.shard),
        ("--data", arguments.data),
        ("--domains", arguments.domains),
        ("--processes", arguments.processes),
    ):
        if given not in (None, "", []):
            raise UserError(f"--resume goes on with the plan that is there: leave {option} out")
    path = Path(arguments.resume)
    plan = read_plan(path)
    check_plan(plan)
    suites = chosen_suites(plan["suites"])
    chosen_implementations(",".join(plan["implementations"]))  # a plugin may be missing here
    here = make_setting(plan["device"], plan["profile"], plan["seed"], paths_of(plan))
    here = with_data(here, plan.get("data", ()), arguments.data_dir, suites)
    if "domains" in plan:  # an older one had none
        here = with_domains(here, plan["domains"])
    processes = plan.get("processes")
    here = with_processes(here, processes if isinstance(processes, int) else None)
    return suites, tasks_of(plan, suites, here.profile), here, path


def _show(tasks: Sequence[Task], as_json: bool) -> int:
    if as_json:
        print(json.dumps([task.key for task in tasks], indent=1, ensure_ascii=False))
        return 0
    for task in tasks:
        print(task.key)
    print(f"{len(tasks)} records; nothing was run", file=sys.stderr)
    return 0


def _conclude(path: Path, as_json: bool) -> int:
    """The summary and the report; 1 where something is wrong or crashed."""
    run = read(path)
    complain([run])
    failed = [record for record in run.records if STATUSES[record.status].fails_the_run]
    skipped = [record for record in run.records if record.status == SKIPPED]
    report, complaint = _report(run, path)
    if as_json:
        summary = {
            "run": str(path),
            "report": report and str(report),
            "records": len(run.records),
            "groups": groups(run.records),
            "failed": [{"key": r.key, "status": r.status, "reason": r.reason} for r in failed],
            **({"skipped": skipped[-1].reason} if skipped else {}),
        }
        print(json.dumps(summary, ensure_ascii=False))
    else:
        _print_summary(run.records, failed, skipped)
        print(complaint or f"report: {report}")
    return 1 if failed else 0


def _report(run: Run, path: Path) -> tuple[Path | None, str]:
    try:
        return build_report([run], path / "report.html"), ""
    except ModuleNotFoundError as error:
        return None, (
            f"no report: {error.name} is not installed here. Copy {path} to a machine with "
            f"pip install 'fwpbench[report]', then: fwpbench report {path}"
        )
    except OSError as error:
        return None, (
            f"no report: {path / 'report.html'} cannot be written ({error.strerror}). "
            f"Make room, then: fwpbench report {path}"
        )
    except UserError as error:
        return None, f"no report: {error}"


def _print_summary(
    records: Sequence[Record], failed: Sequence[Record], skipped: Sequence[Record]
) -> None:
    rows = table("suite", *(columns := list(groups(records))), "time", title="records")
    for suite in dict.fromkeys(record.suite for record in records):
        mine = [record for record in records if record.suite == suite]
        counts = groups(mine)
        spent = duration(sum(record.seconds for record in mine))
        rows.add_row(suite, *(str(counts.get(group, "")) for group in columns), spent)
    console().print(rows)
    for record in failed:
        print(f"{record.status}: {record.reason}\n  {record.command}")
    if skipped:
        print(f"{len(skipped)} skipped: {skipped[-1].reason}")
    print("nothing wrong, nothing crashed" if not failed else f"{len(failed)} failed")
