"""Every defect of the museum is caught and named; the same lines without it are right, and so are
we."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from fwpbench.harness.agreement import check, ill_conditioned
from fwpbench.harness.device import CpuDevice
from fwpbench.harness.engine import run_task
from fwpbench.harness.plan import Task
from fwpbench.harness.profiles import PROFILES
from fwpbench.harness.statuses import group_of
from fwpbench.harness.suite import Case, Setting
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations.base import Implementation, Output
from fwpbench.reports.museum import address
from fwpbench.suites import museum
from fwpbench.suites.exhibits import EXHIBITS
from fwpbench.suites.exhibits.normalizers import IDSIA

SETTING = Setting(CpuDevice(), PROFILES["quick"], seed=0)
CASES = {str(case.parameters["exhibit"]): case for case in museum.cases(SETTING.profile)}
PAGE = (Path(__file__).parent.parent / "docs/museum.md").read_text(encoding="utf-8")
#: Each exhibit's part of the page, by its heading.
SECTIONS = dict(re.findall(r"^## ([a-z0-9-]+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
every_exhibit = pytest.mark.parametrize("name", EXHIBITS)


@every_exhibit
def test_the_published_form_is_caught_and_the_same_lines_mended_are_right(name):
    """On several seeds: what it shows on must not be luck."""
    exhibit = EXHIBITS[name]
    for seed in range(3):
        published = museum.seen(name, seed)  # raises where the gate says anything else
        assert group_of(published.agreement.status) == "wrong"
        assert ill_conditioned(published.truth) is None
        mended = check(exhibit.mended, exhibit.problem, published.truth)
        assert (mended.status, mended.reason) == ("ok", "")
        assert mended.evidence


@pytest.mark.parametrize("implementation", ["chunked", "reference"])
@every_exhibit
def test_we_do_not_make_the_mistake(name, implementation):
    answer = museum.answer(CASES[name], IMPLEMENTATIONS[implementation], SETTING)
    assert (answer.status, answer.reason) == ("ok", "")
    assert answer.metrics["error ratio"].value < 1 < answer.metrics["published error ratio"].value
    assert answer.detail["published"]["status"] == EXHIBITS[name].must.status


@every_exhibit
def test_whoever_makes_the_mistake_is_told_so(name):
    same = Implementation(EXHIBITS[name].published, "the published form")
    answer = museum.answer(CASES[name], same, SETTING)
    assert answer.status == EXHIBITS[name].must.status


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda e: replace(e, published=e.mended), "must be incorrect in o, and is ok"),
        (
            lambda e: replace(e, must=replace(e.must, tensors=frozenset({"o", "S"}))),
            "must be incorrect in S, o",
        ),
        (lambda e: replace(e, must=replace(e.must, status="not-finite")), "must be not-finite"),
        (lambda e: replace(e, must=replace(e.must, suspect="β twice")), "must look like β twice"),
        (lambda e: replace(e, given=lambda inputs: inputs), "what is claimed beside"),
    ],
)
def test_an_exhibit_that_does_not_show_its_defect_says_nothing_of_anybody(
    change, said, monkeypatch
):
    name = "zeros-within-tolerance"
    monkeypatch.setitem(EXHIBITS, name, change(EXHIBITS[name]))
    museum.seen.cache_clear()
    for implementation in ("chunked", "reference"):
        record = run_task(Task("museum", CASES[name], implementation, 0), museum.SUITE, SETTING)
        assert record.status == "runtime-error"
        assert f"the exhibit {name} is broken" in record.reason
        assert said in record.reason
    museum.seen.cache_clear()


def test_what_is_not_finite_in_an_implementation_is_its_own():
    def run(problem, inputs):
        o, state = IMPLEMENTATIONS["chunked"].run(problem, inputs)
        return Output(o.log(), state)

    case = Case(EXHIBITS["padding-decays"].problem, {"exhibit": "padding-decays"})
    answer = museum.answer(case, Implementation(run, "a logarithm"), SETTING)
    assert answer.status == "not-finite"
    assert "o wrong from" in answer.reason


def test_there_are_enough_of_them_in_every_profile():
    assert len(EXHIBITS) >= 12
    for profile in PROFILES.values():
        assert [case.parameters["exhibit"] for case in museum.cases(profile)] == list(EXHIBITS)


@every_exhibit
def test_every_exhibit_has_a_section_with_its_credit_its_command_and_what_the_gate_said(name):
    exhibit, section = EXHIBITS[name], SECTIONS[name]
    assert exhibit.wrong.endswith(".")
    assert exhibit.credits
    for credit in exhibit.credits:
        assert address(credit.url) == credit.url
        assert credit.url in section
    commands = [shlex.split(line) for line in section.splitlines() if line.startswith("fwpbench ")]
    assert commands == [["fwpbench", "run", "museum", "--where", f"exhibit={name}"]]
    said = museum.seen(name, 0).agreement
    begin = f"{said.status}: {said.reason.split(';')[0]}"
    assert _without_figures(begin) in _without_figures(" ".join(section.split()))


def _without_figures(text: str) -> str:
    """Another machine rounds otherwise."""
    return re.sub(r"\d[\d.,]*(e[+-]\d+)?", "0", text)


def test_no_section_without_an_exhibit():
    assert list(SECTIONS) == list(EXHIBITS)
    assert len(IDSIA.rsplit("/", 1)[-1]) == 40  # a commit, not a branch that moves
