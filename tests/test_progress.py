"""Laws of what a run shows of its progress."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from fwpbench import progress
from fwpbench.harness.budget import Budget
from fwpbench.harness.plan import Task
from fwpbench.harness.profiles import PROFILES
from fwpbench.harness.records import Record
from fwpbench.harness.run_folder import read_run
from fwpbench.harness.suite import Setting
from fwpbench.progress import Live, Plain, Remaining, Silent, duration, groups, within
from fwpbench.suites import SUITES
from tests.simulated_device import SimulatedDevice

pytestmark = pytest.mark.usefixtures("in_this_process")


@pytest.fixture
def records(finished: Path) -> list[Record]:
    return read_run(finished).records


def tasks_like(records: list[Record]) -> list[Task]:
    cases = {str(case.problem): case for case in SUITES["agreement"].cases(PROFILES["quick"])}
    return [Task(r.suite, cases[r.problem], r.implementation, r.seed) for r in records]


def test_plain_progress_counts_up_and_down(
    records: list[Record], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    timed = [replace(record, seconds=7.0) for record in records]
    with Plain(tasks_like(timed)) as report:
        for number, record in enumerate(timed, start=1):
            report(number, len(timed), record)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(timed)
    assert lines[0] == "1 of 12 · agreement · about 1 min 17 s left"
    assert lines[-1] == "12 of 12 · agreement · about 0 s left"


def test_progress_shows_what_is_left_of_a_budget(records: list[Record]) -> None:
    here = Setting(SimulatedDevice([]), PROFILES["quick"], 0)
    budget = Budget(90.4, here, "fwpbench run --resume it")
    remaining = Remaining(tasks_like(records), budget)
    remaining.add(replace(records[0], seconds=10.0))
    assert str(remaining) == "about 1 min 50 s left, 1 min 30 s of the budget"
    late = Remaining(tasks_like(records), Budget(1.0, here, "", taken=9.0))
    assert str(late) == "about 0 s left, 0 s of the budget"


def test_plain_progress_is_sparse(
    records: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    with Plain(tasks_like(records)) as report:
        for number, record in enumerate(records, start=1):
            report(number, len(records), record)
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_live_progress_shows_what_failed_as_it_was_said(records: list[Record]) -> None:
    out = io.StringIO()
    failed = replace(records[0], status="incorrect", reason="[s]wrong[/s] :smile:")
    with Live(tasks_like(records), Console(file=out, force_terminal=True, width=400)) as report:
        for number, record in enumerate([failed, *records[1:]], start=1):
            report(number, len(records), record)
    assert "[s]wrong[/s] :smile:" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())


def test_what_is_left_is_what_each_suite_took_so_far(records: list[Record]) -> None:
    remaining = Remaining(tasks_like(records))
    assert remaining.seconds() == 0
    for number, record in enumerate(records, start=1):
        remaining.add(replace(record, seconds=2.0))
        assert remaining.seconds() == 2.0 * (len(records) - number)


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3600, "60 min 00 s")]
)
def test_a_duration_is_minutes_and_seconds(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_groups_stand_in_the_order_of_the_statuses(records: list[Record]) -> None:
    statuses = ["skipped", "unstable", "missing", "ok", "not-finite", "unsupported"]
    made = [replace(records[0], status=status) for status in statuses]
    assert list(groups(made).items()) == [
        ("ok", 1), ("wrong", 1), ("cannot", 2), ("untrusted", 1), ("skipped", 1),
    ]  # fmt: skip


# Within a case that takes long


@pytest.mark.parametrize(
    ("done", "seconds", "said"),
    [
        (1, 2.0, "step 1 of 10 · loss 2.5 · about 18 s for this case"),
        (5, 600.0, "step 5 of 10 · loss 2.5 · about 10 min 00 s for this case"),
        (10, 3.0, "step 10 of 10 · loss 2.5 · about 0 s for this case"),
        (0, 3.0, "step 0 of 10 · loss 2.5 · about 30 s for this case"),
    ],
)
def test_a_case_says_how_far_it_is_and_when_it_will_end(
    done: int, seconds: float, said: str
) -> None:
    assert within(done, 10, "loss 2.5", seconds) == said


def test_a_case_whose_end_is_not_known_promises_none() -> None:
    assert within(700, 0, "loss 2.5", 3.0) == "step 700 · loss 2.5"


def test_plain_lines_come_now_and_then_and_none_with_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter = Plain([])
    reporter.tell(1, 10, "loss 2.5")
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(progress, "EVERY", 0.0)
    reporter.tell(2, 10, "loss 2.5")
    assert capsys.readouterr().out.startswith("  step 2 of 10 · loss 2.5 · about")
    Silent().tell(3, 10, "loss 2.5")
    assert capsys.readouterr().out == ""
