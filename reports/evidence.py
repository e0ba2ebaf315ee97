"""The records of all runs as the pages read them: problems taken apart, long strings cut."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from fwpbench.harness.records import Record
from fwpbench.harness.run_folder import Run
from fwpbench.harness.statuses import STATUSES, UNRANKED, Group, group_of
from fwpbench.reports.palette import Style, styles
from fwpbench.reports.units import LONGEST_COMMAND, clipped

#: Words a problem leaves out where they are these.
UNSAID = {"state": "none", "inputs": "normal", "causal": "yes", "masked": "no", "reads": "yes"}
#: What can tell two cases of one operator apart, in the order shown.
CONDITIONS = (
    *("device", "run", "direction", "dtype", "K", "V", "H", "B", "T"),
    *("state", "inputs", "causal", "masked", "reads", "domain", "cache", "seed"),
)


#: No sum of fewer numbers than a machine holds leaves the finite ones.
LARGEST = 1e290


def is_number(value: float) -> bool:
    """Whether a mean can be taken of it: a record may hold anything that JSON can write."""
    return abs(value) < LARGEST


@dataclass(frozen=True, order=True)
class Operator:
    rule: str
    phi: str
    norm: str

    def __str__(self) -> str:
        return " · ".join(word for word in (self.rule, self.phi, self.norm) if word)


@dataclass(frozen=True)
class Case:
    """One record, with the words of its problem."""

    record: Record
    operator: Operator
    words: Mapping[str, str]

    @property
    def implementation(self) -> str:
        return self.record.implementation

    @property
    def group(self) -> Group:
        return group_of(self.record.status)

    @property
    def fails(self) -> bool:
        return STATUSES[self.record.status].fails_the_run

    @property
    def tokens(self) -> int:
        said = self.words.get("T", "")
        return int(said) if said.isdecimal() and len(said) < 13 else 0

    def value(self, metric: str) -> float | None:
        measured = self.record.metrics.get(metric)
        if measured is None or measured.value is None or not is_number(measured.value):
            return None
        return measured.value

    def bounds(self, metric: str) -> tuple[float | None, float | None]:
        """The 95 % interval, or twice None."""
        measured = self.record.metrics.get(metric)
        if measured is None or measured.low is None or measured.high is None:
            return None, None
        finite = is_number(measured.low) and is_number(measured.high)
        return (measured.low, measured.high) if finite else (None, None)

    def told_by(self, conditions: Iterable[str]) -> str:
        """`forward · bf16 · K=64`: the words that tell this case from its neighbours."""
        bare = {"device", "run", "direction", "dtype"}
        words = ((word, self.words.get(word, "")) for word in conditions)
        return " · ".join(value if word in bare else f"{word}={value}" for word, value in words)


@dataclass(frozen=True)
class Implementation:
    name: str
    origin: str
    style: Style


@dataclass(frozen=True)
class Evidence:
    runs: Sequence[Run]
    cases: list[Case]

    @cached_property
    def names(self) -> list[str]:
        """What the runs are called, each otherwise than the others."""
        return _names_of(self.runs)

    def number(self, case: Case) -> int:
        """Its place among all records, from 1: what a link to it says."""
        return self._numbers[id(case)]

    @cached_property
    def _numbers(self) -> dict[int, int]:
        return {id(case): number for number, case in enumerate(self.cases, 1)}

    def of(self, suite: str) -> list[Case]:
        return self._by_suite.get(suite, [])

    @cached_property
    def _by_suite(self) -> dict[str, list[Case]]:
        suites: dict[str, list[Case]] = defaultdict(list)
        for case in self.cases:
            suites[case.record.suite].append(case)
        return suites

    @cached_property
    def implementations(self) -> dict[str, Implementation]:
        """The reference, what is in-tree, third-party; last what is not here. Colours follow."""
        origins: dict[str, str] = {}
        here = {case.implementation for case in self.cases if case.group != "cannot"}
        for (
            case
        ) in self.cases:  # one that was not loaded, as for a case that was skipped, says none
            if origins.get(case.implementation, "unknown") == "unknown":
                origins[case.implementation] = case.record.origin
        names = in_order(origins, here)
        pairs = zip(names, styles(len(names)), strict=True)
        return {name: Implementation(name, origins[name], style) for name, style in pairs}

    @cached_property
    def labels(self) -> dict[tuple[str, Operator], str]:
        """The operator's name where only one operator bears it, its three words otherwise."""
        bearers: dict[str, set[Operator]] = defaultdict(set)
        for case in self.cases:
            bearers[case.record.name].add(case.operator)
        return {
            (name, operator): str(operator)
            if not name
            else (name if len(operators) == 1 else f"{name} · {operator.phi} · {operator.norm}")
            for name, operators in bearers.items()
            for operator in operators
        }

    def label(self, case: Case) -> str:
        return self.labels[case.record.name, case.operator]

    def device(self, case: Case) -> str:
        """The machine's name for it, where its run says one; else cpu or cuda."""
        return self._devices.get(case.words["run"], case.record.device)

    @cached_property
    def _devices(self) -> dict[str, str]:
        named = zip(_names_of(self.runs), self.runs, strict=True)
        return {
            name: clipped(str(run.environment["device"]), 80)
            for name, run in named
            if run.environment.get("device")
        }

    @cached_property
    def wrong_pairs(self) -> set[tuple[Operator, str]]:
        """Operator × implementation with a wrong agreement record: never ranked."""
        return {
            (case.operator, case.implementation)
            for case in self.of("agreement")
            if case.group == "wrong"
        }

    def is_ranked(self, case: Case) -> bool:
        if case.group != "ok" or UNRANKED.intersection(case.record.tags):
            return False
        return (case.operator, case.implementation) not in self.wrong_pairs


def in_order(origins: Mapping[str, str], here: Set[str]) -> list[str]:
    """Implementations as all tables and legends list them; `here` are those that did something."""
    return sorted(
        origins,
        key=lambda name: (name not in here, name != "reference", origins[name] != "in-tree"),
    )


def read(runs: Sequence[Run]) -> Evidence:
    names = _names_of(runs)
    cases = [
        case_of(record, name)
        for name, run in zip(names, runs, strict=True)
        for record in run.records
    ]
    return Evidence(runs, cases)


def _names_of(runs: Sequence[Run]) -> list[str]:
    names = [clipped(run.path.name or "run", 60) for run in runs]
    return [
        f"{name} ({place})" if names.count(name) > 1 else name
        for place, name in enumerate(names, 1)
    ]


def case_of(record: Record, run: str) -> Case:
    record = replace(
        record,
        suite=clipped(record.suite, 60),
        problem=clipped(record.problem),
        implementation=clipped(record.implementation, 60),
        origin=clipped(record.origin, 60),
        device=clipped(record.device, 80),
        name=clipped(record.name, 80),
        reason=clipped(record.reason),
        command=clipped(record.command, LONGEST_COMMAND),
        tags=[clipped(tag, 60) for tag in record.tags[:20]],
    )
    said = dict(word.split("=", 1) for word in record.problem.split() if "=" in word)
    operator = Operator(*(clipped(said.get(word, ""), 60) for word in ("rule", "phi", "norm")))
    for word in ("domain", "cache"):
        if word in record.parameters:  # else its suite's default
            said[word] = clipped(str(record.parameters[word]), 60)
    words = UNSAID | said | {"device": record.device, "run": run, "seed": str(record.seed)}
    return Case(record, operator, words)


def varying(cases: Sequence[Case], ignoring: str = "") -> list[str]:
    """The conditions that take more than one value among the cases."""
    ignored = set(ignoring.split())
    told = [
        word
        for word in CONDITIONS
        if word not in ignored and len({case.words.get(word, "") for case in cases}) > 1
    ]
    if "device" in told and "run" in told:
        pairs = {(case.words["device"], case.words["run"]) for case in cases}
        if len(pairs) == len({device for device, _ in pairs}):
            told.remove("run")
    return told


def telling(cases: Sequence[Case], axis: str) -> list[str]:
    """The conditions needed so that each operator × implementation has one case a value of `axis`.

    B that falls as T grows needs no line of its own; two directions at one T do.
    """
    told: list[str] = []
    for word in varying(cases, ignoring=axis):
        seen: dict[tuple[Any, ...], set[str]] = defaultdict(set)
        for case in cases:
            place = (case.operator, case.implementation, axis_of(case, axis))
            seen[(*place, *(case.words.get(name) for name in told))].add(case.words.get(word, ""))
        if any(len(values) > 1 for values in seen.values()):
            told.append(word)
    return told


def axis_of(case: Case, axis: str) -> Any:
    return case.record.parameters.get(axis, case.words.get(axis))


def shared(cases: Sequence[Case], words: Iterable[str] = ("dtype", "B", "T", "H", "K", "V")) -> str:
    """`dtype=fp32 H=2 K=64`: what all the cases have in common."""
    common = []
    for word in words:
        values = {case.words.get(word, "") for case in cases}
        if len(values) == 1 and values != {""}:
            common.append(f"{word}={values.pop()}")
    return " ".join(common)
