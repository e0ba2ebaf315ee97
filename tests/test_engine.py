"""Laws of the engine: every task gives exactly one record, whatever its implementation does."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fwpbench.harness import engine
from fwpbench.harness.device import CpuDevice
from fwpbench.harness.engine import InProcess, run_task, run_tasks
from fwpbench.harness.plan import Task, as_json, check_plan, make_tasks, tasks_of
from fwpbench.harness.profiles import PROFILES
from fwpbench.harness.records import LONGEST_LINE, PROTOCOL, Measurement, Record, from_line, to_line
from fwpbench.harness.run_folder import RunWriter, read_run
from fwpbench.harness.statuses import STATUSES
from fwpbench.harness.suite import Answer, Case, Metric, Setting, Suite
from fwpbench.implementations._copies import contiguous
from fwpbench.implementations.base import Implementation, Output, Unsupported
from fwpbench.implementations.reference import run as run_law
from fwpbench.operators.errors import UserError
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.problem import Problem
from fwpbench.operators.registry import Registry
from fwpbench.suites.agreement import answer

PROBLEM = Problem(
    rule="sum", phi="elu+1", norm="attention", B=1, T=5, H=2, K=4, V=3,
    dtype="fp32", direction="forward", state="out",
)  # fmt: skip
SETTING = Setting(CpuDevice(), PROFILES["quick"], 0)


# Implementations that go wrong, each in its own way


class Speechless(Exception):
    def __str__(self) -> str:
        raise ValueError("not even this can be said")


def raises(error: BaseException) -> Callable[..., Any]:
    def run(*_: object) -> Any:
        raise error

    return run


def returns(change: Callable[[Output], Any]) -> Callable[[Problem, Inputs], Any]:
    return lambda problem, inputs: change(run_law(problem, inputs))


RAISES = {
    "an exception": (RuntimeError("no\nand more"), "runtime-error", "RuntimeError: no"),
    "without words": (ValueError(), "runtime-error", "ValueError: ValueError"),
    "that cannot speak": (Speechless(), "runtime-error", "Speechless: Speechless"),
    "in colour": (
        RuntimeError("\x1b[31mred\x1b[0m\ttext"),
        "runtime-error",
        "RuntimeError: red text",
    ),
    "half a pair": (OSError("no \udcff"), "runtime-error", "OSError: no "),
    "an exit": (SystemExit(0), "runtime-error", "SystemExit: 0"),
    "an assertion": (AssertionError("x"), "runtime-error", "AssertionError: x"),
    "an illegal access": (
        RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors"),
        "illegal-access",
        "RuntimeError: CUDA error: an illegal memory access",
    ),
    "no memory for C++": (RuntimeError("std::bad_alloc"), "out-of-memory", "std::bad_alloc"),
    "out of memory": (MemoryError("all of it"), "out-of-memory", "all of it"),
    "out of GPU memory": (torch.OutOfMemoryError("CUDA"), "out-of-memory", "CUDA"),
    "what only a launch shows": (Unsupported("99 of 64 KiB"), "unsupported", "99 of 64 KiB"),
    "endless recursion": (RecursionError("deep"), "runtime-error", "RecursionError: deep"),
}
WRONG = {
    "zeros": (lambda out: out._replace(o=0 * out.o), "incorrect", "times what is allowed"),
    "not finite": (lambda out: out._replace(o=out.o / 0), "not-finite", "NaN or infinity"),
    "a shape": (lambda out: out._replace(o=out.o[:, 1:]), "incorrect", "the shape [1, 4, 2, 3]"),
    "a dtype": (lambda out: out._replace(o=out.o.double()), "incorrect", "o is torch.float64"),
    "no state": (lambda out: out._replace(state=None), "incorrect", "S was not returned"),
    "no o": (lambda out: out._replace(o=None), "incorrect", "o was not returned"),
    "nothing": (lambda out: None, "runtime-error", "AttributeError"),
}  # fmt: skip


def made(run: Callable[..., Any], **given: Any) -> Implementation:
    return Implementation(run, "made for a test", **given)


def broken_sentence(*_: object) -> str | None:
    raise LookupError("no driver")


THINGS = {
    **{f"raises {name}": made(raises(error)) for name, (error, _, _) in RAISES.items()},
    **{f"returns {name}": made(returns(change)) for name, (change, _, _) in WRONG.items()},
    "right": made(run_law),
    "missing": made(run_law, missing=lambda: "there is no such machine"),
    "elsewhere": made(run_law, devices=("cuda",)),
    "cannot": made(run_law, cannot=lambda problem: "it will not"),
    "broken missing": made(run_law, missing=broken_sentence),
    "broken cannot": made(run_law, cannot=broken_sentence),
    "greedy": made(lambda *_: torch.empty(2**58)),
    "interrupted": made(raises(KeyboardInterrupt())),
    "choosing": made(run_law, chosen=lambda problem, device: f"T={problem.T} on {device}"),
    "choosing badly": made(raises(ValueError("too wide")), chosen=lambda *_: "wide"),
    "broken choice": made(run_law, chosen=broken_sentence),
    "copying": made(lambda p, i: run_law(p, i._replace(k=contiguous(i.k.mT.contiguous().mT, "k")))),
}


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> Registry[Implementation]:
    """The implementations of this file in the place of the real ones."""
    rows = {name: f"{__name__}:THING {name}" for name in THINGS}
    for name, thing in THINGS.items():
        monkeypatch.setattr(sys.modules[__name__], f"THING {name}", thing, raising=False)
    rows |= {"no module": "no_such_module:IT", "no object": f"{__name__}:NO_SUCH"}
    registry = Registry[Implementation]("test_implementations", rows)
    monkeypatch.setattr(engine, "IMPLEMENTATIONS", registry)
    return registry


def suite(answers: Callable[..., Answer] = answer, **metrics: Metric) -> Suite:
    metrics = metrics or {"error ratio": Metric("1", "lower", "")}
    return Suite("?", lambda profile: [Case(PROBLEM)], answers, metrics)


def asked(implementation: str, of: Suite | None = None, writer: RunWriter | None = None) -> Record:
    """The record, which is one that can be written and read back whatever it says."""
    task = Task("speed", Case(PROBLEM, name="A name"), implementation, 0)
    record = run_task(task, of or suite(), SETTING, writer and writer.log)
    assert from_line(to_line(record).encode()).key == task.key == record.key
    assert record.status in STATUSES
    assert bool(record.reason) == (record.status != "ok")
    assert record.reason.isprintable()
    return record


# What comes of an implementation


@pytest.mark.parametrize("name", RAISES)
def test_what_an_implementation_raises_is_its_record(name: str) -> None:
    _, status, reason = RAISES[name]
    record = asked(f"raises {name}")
    assert (record.status, record.origin) == (status, "in-tree")
    assert record.reason.startswith(reason)


@pytest.mark.parametrize("name", WRONG)
def test_what_is_returned_wrongly_is_wrong_with_a_sentence(name: str) -> None:
    _, status, reason = WRONG[name]
    record = asked(f"returns {name}")
    assert record.status == status
    assert reason in record.reason


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("right", "ok", ""),
        ("missing", "missing", "there is no such machine"),
        ("elsewhere", "unsupported", "runs on cuda, not on cpu"),
        ("cannot", "unsupported", "it will not"),
        ("broken missing", "runtime-error", "LookupError: no driver"),
        ("broken cannot", "runtime-error", "LookupError: no driver"),
        (
            "no module",
            "missing",
            "the test implementation 'no module' cannot be imported: No module named",
        ),
        (
            "no object",
            "missing",
            "the test implementation 'no object' cannot be imported: AttributeError",
        ),
    ],
)
def test_what_stands_in_the_way_is_told(name: str, status: str, reason: str) -> None:
    record = asked(name)
    assert record.status == status
    assert record.reason.startswith(reason)
    assert record.name == "A name"


def test_what_the_allocator_of_torch_refuses_is_out_of_memory() -> None:
    record = asked("greedy")
    assert record.status == "out-of-memory"
    assert "can't allocate memory" in record.reason


def test_an_implementation_that_a_case_excludes_is_not_run() -> None:
    task = Task(
        "speed", Case(PROBLEM, excluded={"raises an exit": "too slow"}), "raises an exit", 0
    )
    record = run_task(task, suite(), SETTING)
    assert (record.status, record.reason) == ("unsupported", "too slow")


def test_control_c_is_nobodys_record() -> None:
    with pytest.raises(KeyboardInterrupt):
        asked("interrupted")


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[RunWriter]:
    writer = RunWriter(tmp_path / "run", {}, {})
    yield writer
    writer.close()


@pytest.mark.parametrize("name", ["an exception", "that cannot speak", "half a pair", "an exit"])
def test_the_traceback_of_an_exception_goes_into_the_log(name: str, writer: RunWriter) -> None:
    record = asked(f"raises {name}", writer=writer)
    log = (writer.path / "logs/speed.log").read_text(encoding="utf-8")
    assert log.startswith(f"{record.key}\nTraceback")
    assert type(RAISES[name][0]).__name__ in log


def test_a_log_that_cannot_be_written_costs_no_record(writer: RunWriter) -> None:
    (writer.path / "logs").rmdir()
    assert asked("raises an exception", writer=writer).status == "runtime-error"


# What a suite may answer


def number(value: Any, unit: str = "s") -> Measurement:
    return Measurement(value=value, unit=unit)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            Answer(metrics={"tmie": number(1.0)}),
            "answered with tmie in s, but declares {'time': 's'}",
        ),
        (Answer(metrics={"time": number(1.0, "ms")}), "answered with time in ms, but declares"),
        (Answer(status="superb"), "no status named 'superb'"),
        (Answer(detail={"tensor": torch.ones(1)}), "answered what cannot be written"),
        (Answer(metrics={"time": number(torch.ones(()))}), "answered what cannot be written"),
        (Answer(detail={"text": "x" * LONGEST_LINE}), "answered what cannot be written"),
        (None, "AttributeError"),
    ],
    ids=["metric", "unit", "status", "detail", "value", "length", "nothing"],
)
def test_an_answer_that_is_none_is_said_so(given: Any, sentence: str) -> None:
    record = asked("right", suite(lambda *_: given, time=Metric("s", "lower", "")))
    assert record.status == "runtime-error"
    assert sentence in record.reason


def test_what_a_suite_answers_is_in_the_record() -> None:
    given = Answer(
        "unstable", "it shook", {"time": number(2.0)}, {"time": (2.0, math.inf)}, ("a",), {"b": 1}
    )
    record = asked("right", suite(lambda *_: given, time=Metric("s", "lower", "")))
    assert (record.status, record.reason, record.tags) == ("unstable", "it shook", ["a"])
    assert (record.metrics, record.detail) == ({"time": number(2.0)}, {"b": 1})
    assert from_line(to_line(record)).samples == {"time": [2.0, None]}
    assert record.seconds >= 0


def test_what_an_implementation_chose_is_in_the_record() -> None:
    assert asked("choosing").detail["chosen"] == f"T={PROBLEM.T} on cpu"
    assert "chosen" not in asked("right").detail
    failed = asked("choosing badly")
    assert (failed.status, failed.detail) == ("runtime-error", {"chosen": "wide"})
    assert "no driver" in asked("broken choice").reason


def test_what_an_implementation_had_to_copy_is_in_the_record() -> None:
    assert asked("copying").detail["copied"].keys() == {"k"}
    assert "copied" not in asked("right").detail


# Plans


def test_each_task_gives_one_record_in_the_order_of_the_plan(tmp_path: Path) -> None:
    suites = {"speed": suite()}
    implementations = [name for name in THINGS if name != "interrupted"]
    tasks = make_tasks(suites, implementations, PROFILES["quick"], seed=0)
    writer = RunWriter(tmp_path / "run", as_json(tasks, {}), {})
    seen: list[tuple[int, int, str]] = []
    execute = InProcess(suites, SETTING)
    run_tasks(tasks, execute, writer, lambda n, of, record: seen.append((n, of, record.key)))
    writer.close()
    run = read_run(tmp_path / "run")
    assert [record.key for record in run.records] == run.plan["cases"]
    assert run.complaints == []
    assert seen == [(n, len(tasks), task.key) for n, task in enumerate(tasks, start=1)]
    again = RunWriter.resume(tmp_path / "run")
    assert run_tasks(tasks, execute, again, lambda *_: None) == []
    again.close()


def test_a_suite_that_plans_the_same_case_twice_is_refused() -> None:
    twice = Suite("?", lambda profile: [Case(PROBLEM), Case(PROBLEM, name="B")], answer, {})
    with pytest.raises(UserError, match="plans the same case 2 times: speed rule=sum"):
        make_tasks({"speed": twice}, ["right"], PROFILES["quick"], 0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_parameter_that_is_no_number_is_refused(value: float) -> None:
    odd = Suite("?", lambda profile: [Case(PROBLEM, {"load": value})], answer, {})
    with pytest.raises(UserError, match="speed plans load"):
        make_tasks({"speed": odd}, ["right"], PROFILES["quick"], 0)


def plan(**changes: Any) -> dict[str, Any]:
    tasks = make_tasks({"speed": suite()}, ["right"], PROFILES["quick"], 0)
    settings = {
        "suites": ["speed"], "implementations": ["right"], "profile": "quick", "seed": 0,
        "where": "", "device": "cpu",
    }  # fmt: skip
    written: dict[str, Any] = json.loads(json.dumps(as_json(tasks, settings)))
    return written | changes


def test_the_tasks_of_a_plan_are_those_it_was_made_of() -> None:
    check_plan(plan())
    tasks = make_tasks({"speed": suite()}, ["right"], PROFILES["quick"], 0)
    assert tasks_of(plan(), {"speed": suite()}, PROFILES["quick"]) == tasks


@pytest.mark.parametrize("protocol", [PROTOCOL + 1, PROTOCOL - 1, None, "1"])
def test_a_plan_of_another_protocol_is_not_gone_on_with(protocol: Any) -> None:
    with pytest.raises(UserError, match="resumed by the version that"):
        check_plan(plan(protocol=protocol))


def test_a_plan_of_other_cases_is_not_gone_on_with() -> None:
    with pytest.raises(UserError, match="whose cases differ"):
        tasks_of(plan(cases=[]), {"speed": suite()}, PROFILES["quick"])


@pytest.mark.parametrize("name", ["suites", "implementations", "profile", "seed", "where", "cases"])
@pytest.mark.parametrize("value", [None, {}, 1.5])
def test_a_damaged_plan_is_said_so(name: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"plan.json is damaged: its '{name}'"):
        check_plan(plan(**{name: value}))
