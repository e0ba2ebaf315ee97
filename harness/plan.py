"""The plan: every case × implementation of a run, in order, before any is run."""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fwpbench.harness.environment import command_line
from fwpbench.harness.profiles import Profile
from fwpbench.harness.records import PROTOCOL, SCHEMA, key
from fwpbench.harness.suite import Case, Suite
from fwpbench.operators.errors import UserError
from fwpbench.operators.operator import enumerate_operators
from fwpbench.operators.problem import Problem
from fwpbench.operators.where import Where


@dataclass(frozen=True)
class Task:
    """One case on one implementation: what exactly one record will tell of."""

    suite: str
    case: Case
    implementation: str
    seed: int

    @cached_property
    def key(self) -> str:
        return key(
            self.suite,
            str(self.case.problem),
            self.case.parameters,
            self.implementation,
            self.seed,
        )

    def command(self, device: str, profile: Profile, plugins: Sequence[str] = ()) -> str:
        """What reproduces this record alone."""
        where = " ".join([self.case.problem.every_word, *self._conditions()])
        words = ["run", self.suite, "--where", where]
        words += ["--implementations", self.implementation, "--device", device]
        words += ["--profile", profile.name, "--seed", str(self.seed)]
        words += ["--data", ",".join(profile.data)] if profile.data else []
        if profile.domains:
            words += ["--domains", str(self.case.parameters.get("domain", "default"))]
        return command_line([*words, *(word for path in plugins for word in ("--plugin", path))])

    def _conditions(self) -> Iterator[str]:
        """The parameters as a filter; a text that the filter has no words for is left out."""
        for name, value in self.case.parameters.items():
            if re.fullmatch("[A-Za-z]+", name) and re.fullmatch(r"[\w.+/-]+", str(value)):
                yield f"{name}={value}"


def task_as_json(task: Task) -> dict[str, Any]:
    """A task for another process, which has the same tables."""
    return {
        "suite": task.suite,
        "problem": str(task.case.problem),
        "parameters": dict(task.case.parameters),
        "name": task.case.name,
        "excluded": dict(task.case.excluded),
        "implementation": task.implementation,
        "seed": task.seed,
    }


def task_from_json(fields: Mapping[str, Any]) -> Task:
    problem = Problem.parse(fields["problem"])
    case = Case(problem, fields["parameters"], fields["name"], fields["excluded"])
    return Task(fields["suite"], case, fields["implementation"], fields["seed"])


def make_tasks(
    suites: Mapping[str, Suite],
    implementations: Sequence[str],
    profile: Profile,
    seed: int,
    where: str = "",
) -> list[Task]:
    """All tasks that pass the filter. Raises UserError where none does.

    A suite whose cases cannot be listed has none, which is said on stderr; alone it is an error.
    """
    planned = [(name, case) for name, cases in _planned(suites, profile).items() for case in cases]
    condition = Where(where, frozenset(word for _, case in planned for word in case.parameters))
    tasks = [
        Task(name, case, implementation, seed)
        for name, case in planned
        if condition.matches(case.problem, case.parameters)
        for implementation in implementations
    ]
    if not tasks:
        raise UserError(
            f"no case of {', '.join(suites)} (profile {profile.name}) passes --where {where!r}; "
            "see them with: fwpbench run --dry-run"
        )
    _check(tasks)
    return tasks


def _planned(suites: Mapping[str, Suite], profile: Profile) -> dict[str, Sequence[Case]]:
    planned: dict[str, Sequence[Case]] = {}
    complaint = ""
    for name, suite in suites.items():
        try:
            planned[name] = list(suite.cases(profile))
        except (Exception, SystemExit) as error:
            said = f"{type(error).__name__}: {error}"
            complaint = f"the suite {name!r} cannot list its cases: {said}"
            print(f"fwpbench: left out: {complaint}", file=sys.stderr)
    if not planned and complaint:
        raise UserError(f"nothing is left to run: {complaint}")
    return planned


def _check(tasks: Sequence[Task]) -> None:
    """Each task has a key of its own, or two of them would share one record."""
    for task in tasks:
        for name, value in task.case.parameters.items():
            if not isinstance(value, str) and not math.isfinite(value):
                raise UserError(
                    f"{task.suite} plans {name} = {value}, which is no number: {task.key}"
                )
    key, times = Counter(task.key for task in tasks).most_common(1)[0]
    if times > 1:
        raise UserError(f"a suite plans the same case {times} times: {key}")


def as_json(tasks: Iterable[Task], settings: Mapping[str, Any]) -> dict[str, Any]:
    """plan.json: what was asked, every record to come, and the triples that make no sense."""
    _, senseless = enumerate_operators()
    return {
        "schema": SCHEMA,
        "protocol": PROTOCOL,
        **settings,
        "cases": [task.key for task in tasks],
        "excluded": [[str(operator), reason] for operator, reason in senseless],
    }


#: What a plan says that a resumed run needs.
SETTINGS = {
    "suites": list,
    "implementations": list,
    "profile": str,
    "seed": int,
    "where": str,
    "device": str,
    "cases": list,
}


def check_plan(plan: Mapping[str, Any]) -> None:
    """Raises UserError where a plan cannot be gone on with: damaged, or of another protocol."""
    if (protocol := plan.get("protocol")) != PROTOCOL:
        raise UserError(
            f"this run was planned under protocol {protocol}, and this FWPBench measures by "
            f"protocol {PROTOCOL}: its records can be reported, but a run is resumed by the "
            "version that began it"
        )
    for name, kind in SETTINGS.items():
        if not isinstance(plan.get(name), kind):
            raise UserError(f"plan.json is damaged: its {name!r} is {plan.get(name)!r}")


def tasks_of(plan: Mapping[str, Any], suites: Mapping[str, Suite], profile: Profile) -> list[Task]:
    """The tasks of a plan written earlier. Raises UserError where this version plans otherwise."""
    tasks = make_tasks(suites, plan["implementations"], profile, plan["seed"], plan["where"])
    if plan.get("shard") is not None:
        wanted = set(plan["cases"])
        tasks = [task for task in tasks if task.key in wanted]
    if [task.key for task in tasks] != plan["cases"]:
        raise UserError(
            "this run was planned by another version of FWPBench, whose cases differ: its records "
            "can be reported, but a run is resumed by the version that began it"
        )
    return tasks
