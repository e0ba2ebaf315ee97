"""The front of quality, speed and state: nobody on it is beaten in all three, everybody else is."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from itertools import product

import pytest

from fwpbench.harness.records import Measurement, Record
from fwpbench.reports.evidence import read
from fwpbench.reports.findings import findings
from fwpbench.reports.longest import failed_of
from fwpbench.reports.pareto import Front, fronts
from tests import sample_runs as sample
from tests.browser_pages import of, seen

#: Operators with (pairs held, bytes of state, seconds), and whether each is on the front.
MADE = {
    "sum": (8, 1024.0, 0.001, True),  # the fastest
    "decay": (8, 1024.0, 0.002, False),  # the same, slower
    "delta": (32, 1024.0, 0.003, True),  # holds more
    "kda": (16, 2048.0, 0.004, False),  # worse than delta in everything
    "gla": (16, 512.0, 0.005, True),  # the smallest state
    "gated": (8, 512.0, 0.005, False),  # as small and as slow, holds less
}


def records(numbers: dict[str, tuple[float, float, float]]) -> list[Record]:
    made = []
    for rule, (pairs, state, time) in numbers.items():
        words = f"rule={rule} phi=identity norm=none B=1 T=64 H=1 K=32 V=32 dtype=fp32"
        problem = f"{words} direction=forward"
        made += [
            sample.record("speed", problem, name, metrics={
                "time": Measurement(value=time * factor, unit="s")})
            for name, factor in (("reference", 3.0), ("chunked", 1.0))
        ]  # fmt: skip
        made.append(sample.record("memory", problem, "chunked", metrics={
            "state": Measurement(value=state, unit="B")}))  # fmt: skip
        made += [
            sample.record("capacity", f"{problem} state=out reads=no", "chunked",
                          parameters={"pairs": float(2**power)},
                          metrics={"error": Measurement(value=0.0 if 2**power <= pairs else 0.9,
                                                        unit="1")})
            for power in range(7)
        ]  # fmt: skip
    return made


def front_of(made: list[Record]) -> Front:
    (front,) = fronts(read([sample.run_of(made)]), {})
    return front


def test_the_front_is_who_is_beaten_by_nobody() -> None:
    front = front_of(records({rule: made[:3] for rule, made in MADE.items()}))
    assert {one.operator.rule: one.first for one in front.standings} == {
        rule: first for rule, (*_, first) in MADE.items()
    }
    assert {one.case.implementation for one in front.standings} == {"chunked"}
    assert {one.operator.rule: one.quality for one in front.standings} == {
        rule: pairs for rule, (pairs, *_) in MADE.items()
    }


@pytest.mark.parametrize("seed", range(5))
def test_whoever_is_not_on_the_front_is_beaten_by_somebody_on_it(seed: int) -> None:
    chance = random.Random(seed)
    numbers = {
        rule: (float(2 ** chance.randint(0, 5)), 2.0 ** chance.randint(4, 8), chance.randint(1, 5))
        for rule in sample.RULES
    }
    standings = front_of(records(numbers)).standings
    first = [one for one in standings if one.first]
    assert first
    for one, other in product(first, standings):
        assert not one.is_beaten_by(other)
    for one in standings:
        assert one.first or any(one.is_beaten_by(other) for other in first)


def test_a_wrong_time_is_on_no_front() -> None:
    made = [
        replace(one, status="incorrect", reason="made up")
        if one.suite == "speed" and "rule=sum " in one.problem
        else one
        for one in records({rule: made[:3] for rule, made in MADE.items()})
    ]
    assert "sum" not in {one.operator.rule for one in front_of(made).standings}


def test_runs_are_not_mixed() -> None:
    """The time of one machine and the capacity of another are no front."""
    made = records({rule: made[:3] for rule, made in MADE.items()})
    timed = sample.run_of([one for one in made if one.suite == "speed"])
    rest = sample.run_of([one for one in made if one.suite != "speed"])
    assert fronts(read([timed, rest]), {}) == []


def test_the_report_draws_and_tells_it() -> None:
    said = seen("everything").said("quality")
    assert "Quality, speed and state at once" in said
    for title in ("pairs held within an error of 10 %", "perplexity on"):
        assert title in said
    sentences = [one.sentence for one in findings(read([sample.run_of(sample.everything())]))]
    assert any(one.startswith("In quality, time and state at once") for one in sentences)


# First calls and longest sequences


def test_every_first_call_is_in_the_table_with_what_it_spent() -> None:
    said = re.sub(r"\s+", " ", seen("only first-call").said("first-call"))
    assert "first call, disk cache" in said
    assert "autotune" in said
    assert said.count("40.0") >= len(of("first-call"))


def test_a_longest_sequence_comes_with_what_stopped_it() -> None:
    said = seen("only longest").said("longest")
    assert "0.25 GiB" in said
    assert "out of memory (made up)" in said
    assert "nothing longer was tried" in said
    assert "lower-bound" in said
    for record in of("longest"):
        assert f"{record.metrics['longest'].value:,.0f}" in said


@pytest.mark.parametrize("tried", [None, 7, "x", [7], [[1]], [[None, "x"]], [["x", "y"]], {}])
def test_what_a_stranger_says_of_lengths_tried_is_no_reason(tried: object) -> None:
    (case, *_) = read([sample.run_of([replace(of("longest")[0], detail={"tried": tried})])]).cases
    assert failed_of(case) == ""
