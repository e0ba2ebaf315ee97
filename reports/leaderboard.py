"""Who is fastest: operator × implementation, ranked within one run, dtype and direction.

An implementation's score on an operator is the mean, over all problems asked, of its speed as a
share of the fastest right one's: median of the fastest ÷ own median. A problem without a right time
(wrong, crashed, untrusted, not supported, not there) counts as 0 and stays in the denominator. The
rank is one more than the number of implementations whose whole interval lies above; those that no
interval tells apart share it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from fwpbench.harness.statuses import Group
from fwpbench.reports.evidence import Case, Operator, in_order
from fwpbench.reports.findings import bounds_of
from fwpbench.reports.units import clipped


@dataclass(frozen=True, slots=True)
class Contestant:
    """One record of the speed suite, as much of it as a rank needs."""

    operator: Operator
    name: str
    dtype: str
    direction: str
    place: str
    implementation: str
    origin: str
    group: Group
    status: str
    reason: str
    time: float | None
    low: float
    high: float
    address: str

    @classmethod
    def of(cls, case: Case, address: str) -> Contestant:
        record, time = case.record, case.value("time")
        low, high = bounds_of(case)
        return cls(
            case.operator,
            record.name,
            case.words.get("dtype", ""),
            case.words.get("direction", ""),
            f"{record.problem} {sorted(record.parameters.items())} {record.device} {record.seed}",
            case.implementation,
            record.origin,
            case.group,
            record.status,
            clipped(record.reason, 160),
            time if time and time > 0 else None,
            low,
            high,
            address,
        )


@dataclass(frozen=True)
class Entry:
    """One implementation on one operator; without a rank where it has no right time at all."""

    rank: int | None
    shared: bool
    alone: bool
    share: float
    low: float
    high: float
    timed: int
    asked: int
    group: Group
    status: str
    reason: str
    time: float | None
    address: str

    @property
    def marker(self) -> str:
        return "" if self.rank is None else f"{self.rank}{'=' if self.shared else ''}"


@dataclass(frozen=True)
class Row:
    label: str
    entries: Sequence[Entry | None]


@dataclass(frozen=True)
class Board:
    """All operators of one run, dtype and direction."""

    run: str
    address: str
    device: str
    dtype: str
    direction: str
    implementations: Sequence[tuple[str, str]]
    rows: Sequence[Row]

    @property
    def firsts(self) -> list[tuple[int, int]]:
        """How many operators each implementation is first on, and on how many of them alone."""
        columns = [[row.entries[n] for row in self.rows] for n in range(len(self.implementations))]
        won = [[entry for entry in column if entry and entry.rank == 1] for column in columns]
        return [(len(entries), sum(entry.alone for entry in entries)) for entries in won]


@dataclass
class Contest:
    """What one run says of speed, gathered record by record."""

    run: str
    address: str
    device: str
    contestants: list[Contestant] = field(default_factory=list)
    wrong: set[tuple[Operator, str]] = field(default_factory=set)

    def add(self, case: Case, address: str) -> None:
        if case.record.suite == "speed":
            self.contestants.append(Contestant.of(case, address))
        elif case.record.suite == "agreement" and case.group == "wrong":
            self.wrong.add((case.operator, case.implementation))

    def boards(self) -> list[Board]:
        origins: dict[str, str] = {}
        for one in self.contestants:
            if origins.get(one.implementation, "unknown") == "unknown":
                origins[one.implementation] = one.origin
        order = in_order(
            origins, {one.implementation for one in self.contestants if one.group != "cannot"}
        )
        grouped: dict[tuple[str, str], dict[tuple[str, Operator], list[Contestant]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for one in self.contestants:
            grouped[one.dtype, one.direction][one.name, one.operator].append(one)
        return [
            Board(
                self.run,
                self.address,
                self.device,
                dtype,
                direction,
                [(name, origins[name]) for name in order],
                [
                    Row(_label(name, operator), self._entries(there, order))
                    for (name, operator), there in operators.items()
                ],
            )
            for (dtype, direction), operators in grouped.items()
        ]

    def _entries(self, there: Sequence[Contestant], order: Sequence[str]) -> list[Entry | None]:
        places = list(dict.fromkeys(one.place for one in there))
        mine = {
            name: {one.place: one for one in there if one.implementation == name} for name in order
        }
        best: dict[str, float] = {}
        for one in there:
            if self._is_ranked(one) and one.time:
                best[one.place] = min(one.time, best.get(one.place, one.time))
        shares = {name: self._share(mine[name], places, best) for name in order}
        in_it = {name: share for name, share in shares.items() if share[3]}
        ranks = {
            name: 1 + sum(other[1] > share[2] for other in in_it.values())
            for name, share in in_it.items()
        }
        return [
            self._entry(mine[name], shares[name], len(places), ranks.get(name), ranks.values())
            for name in order
        ]

    def _is_ranked(self, one: Contestant) -> bool:
        return one.group == "ok" and (one.operator, one.implementation) not in self.wrong

    def _share(
        self, mine: dict[str, Contestant], places: Sequence[str], best: dict[str, float]
    ) -> tuple[float, float, float, int]:
        """The mean share, its bounds, and of how many problems there is a right time."""
        total, low, high, timed = 0.0, 0.0, 0.0, 0
        for place in places:
            one = mine.get(place)
            if one is None or not one.time or not self._is_ranked(one):
                continue
            timed += 1
            total += best[place] / one.time
            low += best[place] / max(one.high, one.time)
            high += best[place] / (min(one.low, one.time) if one.low > 0 else one.time)
        asked = len(places)
        return total / asked, low / asked, high / asked, timed

    def _entry(
        self,
        mine: dict[str, Contestant],
        share: tuple[float, float, float, int],
        asked: int,
        rank: int | None,
        ranks: Iterable[int],
    ) -> Entry | None:
        if not mine:
            return None
        everybody = list(ranks)
        failed = next((one for one in mine.values() if not self._is_ranked(one)), None)
        told = failed or next(iter(mine.values()))
        group, status, reason = told.group, told.status, told.reason
        if failed and failed.group == "ok":
            group, status, reason = "wrong", "wrong elsewhere", "the agreement suite found it wrong"
        return Entry(
            rank,
            rank is not None and everybody.count(rank) > 1,
            rank is not None and len(everybody) == 1,
            *share,
            asked,
            group,
            status,
            reason,
            told.time if asked == 1 and not failed else None,
            told.address,
        )


def _label(name: str, operator: Operator) -> str:
    return f"{name} ({operator})" if name else str(operator)
