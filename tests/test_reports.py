"""Laws of the report: it holds everything, says nothing it was not told, and trusts no string."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from fwpbench.harness.records import Measurement, Record, to_line
from fwpbench.harness.run_folder import RunWriter, read_run
from fwpbench.harness.statuses import STATUSES
from fwpbench.reports import build_report
from fwpbench.reports.axes import logarithmic
from fwpbench.reports.evidence import read
from fwpbench.reports.findings import findings
from fwpbench.reports.markdown import markdown_of
from fwpbench.reports.museum import address
from fwpbench.reports.page import about, page_of, sections_of
from fwpbench.reports.palette import COLOURS, SHAPES, styles
from fwpbench.reports.units import between, digits, shown
from tests import sample_runs as sample
from tests.browser_pages import RUNS, SECTIONS, SUITES, of, page, seen, some
from tests.test_records import BAD

every_page = pytest.mark.parametrize("name", RUNS)


@every_page
def test_is_smaller_than_three_megabytes(name: str) -> None:
    assert len(page(name).encode("utf-8", "replace")) < 3_000_000


@every_page
def test_asks_nothing_from_outside(name: str) -> None:
    for attribute in ("src", "href", "action", "data", "srcset", "poster", "xlink:href"):
        outside = seen(name).credits if attribute == "href" else []
        for value in seen(name).values(attribute):
            assert value.startswith("#") or value in outside, f"{attribute}={value!r}"
    assert not re.search(r"@import|url\(", page(name).split("</style>")[0])


@every_page
def test_no_string_becomes_markup(name: str) -> None:
    parser = seen(name)
    blocks = ["packed-specs", "packed-charts", "packed-tables", "packed-records"]
    assert parser.script_tags == ([*blocks, ""] if "record" in parser.sections else [""])
    for block in parser.scripts[:-1]:
        base64.b64decode(block, validate=True)
    for tag, known in parser.elements:
        assert tag != "x-evil"
        assert not any(attribute.startswith("on") for attribute in known), (tag, known)


def test_hostile_strings_are_shown_as_they_are() -> None:
    said = seen("hostile").said("summary")
    assert "<x-evil onload=alert(1)>" in said
    assert "{{ 7 * 7 }}" in said
    for block in ("specs", "records"):
        assert "x-evil" in json.dumps(seen("hostile").unpacked(block))


@every_page
def test_links_lead_somewhere_and_names_are_given_once(name: str) -> None:
    names = seen(name).values("id")
    assert len(names) == len(set(names))
    for target in seen(name).values("href"):
        assert target[1:] in names or target in seen(name).credits


@every_page
def test_a_credit_leads_to_a_plain_address_and_nowhere_else(name: str) -> None:
    """Records come from strangers: no other scheme, and nothing that could leave the attribute."""
    for target in seen(name).credits:
        assert re.fullmatch(r"https?://[\w.-]+(/[\w.~/#%+-]*)?", target)


@pytest.mark.parametrize(
    ("url", "leads"),
    [
        ("https://example.org/a/b#L1-L2", True),
        ("http://example.org", True),
        ("javascript:alert(1)", False),
        ("data:text/html,hello", False),
        ("//example.org", False),
        ('https://example.org/"onclick=x', False),
        ("https://someone@example.org/", False),
        ("https://example.org/" + 400 * "a", False),
        (7, False),
    ],
)
def test_only_addresses_of_the_web_become_links(url: object, leads: bool) -> None:
    assert address(url) == (url if leads else None)


def test_the_museum_shows_both_verdicts_and_the_credit() -> None:
    said = seen("only museum").said("museum")
    for record in of("museum"):
        assert str(record.parameters["exhibit"]) in said
        assert record.detail["wrong"] in said
        assert record.detail["published"]["reason"] in said
    assert "✗ incorrect" in said
    assert "✓ ok" in said
    assert "https://example.org/issue/1#comment" in seen("only museum").credits
    assert seen("only museum").credits == seen("everything").credits
    assert not any("evil" in credit for credit in seen("hostile").credits)


@every_page
def test_headings_are_in_order(name: str) -> None:
    levels = [int(tag[1]) for tag, _ in seen(name).elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    for before, after in pairwise(levels):
        assert after <= before + 1
    assert ("html", {"lang": "en"}) in seen(name).elements


@every_page
def test_every_failure_is_named_with_its_command(name: str) -> None:
    said = seen(name).said("summary")
    for run in RUNS[name]():
        for record in run.records:
            if STATUSES[record.status].group in ("wrong", "crashed"):
                if len(record.problem) < 500:  # longer ones are cut
                    assert record.problem in said
                assert record.command in said


@every_page
def test_every_chart_stands_there_without_script(name: str) -> None:
    figures = [known for tag, known in seen(name).elements if tag == "figure"]
    specs = seen(name).unpacked("specs")["charts"] if figures else []
    assert [known["data-chart"] for known in figures] == [str(n) for n in range(len(specs))]
    assert page(name).count('class="marks"') == len(specs)


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_that_was_not_run_has_no_section(suite: str) -> None:
    parser = seen(f"only {suite}")
    own = SECTIONS.get(suite, suite)
    assert parser.sections == ["summary", "coverage", own, "explained", "record", "about"]
    links = [known["href"] for tag, known in parser.elements if tag == "a" and "href" in known]
    others = {SECTIONS.get(other, other) for other in SUITES} - {own}
    assert not {f"#{other}" for other in others} & set(links)


def test_a_run_without_records_says_so() -> None:
    assert seen("no records").sections == ["summary", "about"]
    assert "no records yet" in seen("no records").said("summary")


def test_a_run_without_failures_says_so() -> None:
    assert "Nothing was wrong, nothing crashed." in seen("only speed").said("summary")


def test_an_interrupted_run_says_how_much_is_missing() -> None:
    planned = len(some())
    assert f"{planned - 7} of {planned} planned cases have no record" in seen("interrupted").said(
        "summary"
    )
    assert "a bad line" in seen("interrupted").said("about")


def test_several_devices_are_told_apart() -> None:
    for section in ("speed", "scaling"):
        assert "Imaginary GPU (made up)" in seen("two devices").said(section)


def test_a_time_comes_with_what_was_chosen_for_it() -> None:
    assert "chunks of 64" in seen("everything").said("speed")


def test_scaling_says_how_time_grows() -> None:
    """The exponent and its interval, where the made-up times have intervals at six lengths."""
    said = seen("everything").said("scaling")
    found = re.findall(r"(\d\.\d\d) \((\d\.\d\d) – (\d\.\d\d)\)", said)
    assert found
    assert all(float(low) <= float(p) <= float(high) for p, low, high in found)


def test_coverage_shows_every_pair_with_reason_and_command() -> None:
    said = seen("everything").said("coverage")
    commands = {record.command for record in of("agreement")}
    pairs = {(tuple(one.problem.split()[:3]), one.implementation) for one in of("agreement")}
    assert sum(command in said for command in commands) >= len(pairs)
    for reason in {one.reason for one in of("agreement") if "ill-cond" not in one.reason}:
        assert reason in said
    for triple, reason in sample.excluded():
        assert triple in said
        assert reason in said


def test_the_file_is_what_a_folder_of_records_gives(tmp_path: Path) -> None:
    run = sample.run_of(some(100))
    writer = RunWriter(tmp_path / "made-up", run.plan, run.environment)
    for record in run.records:
        writer.append(record)
    writer.close()
    path = build_report([read_run(tmp_path / "made-up")], tmp_path / "new" / "report.html")
    assert path.read_text(encoding="utf-8") == page_of([run])
    assert str(tmp_path) not in path.read_text(encoding="utf-8")


def test_a_string_of_a_megabyte_is_cut() -> None:
    long = replace(
        some()[0], name="x" * 2**20, reason="y" * 2**20, command="z" * 2**20, status="incorrect"
    )
    run = sample.run_of([long], environment={"device": "w" * 2**20}, complaints=["v" * 2**20])
    assert len(page_of([run])) < 1_200_000


SAID = {
    "Fastest correct implementation, of 16 problems: chunked in 14 and torch-sdpa in 2.",
    "DeltaNet · forward",
    "on Softmax attention, forward",
    "Gated DeltaNet and 1 more from T = 1,024 on.",
    "store most of the pairs tried: 16; next",
    "The state grows with T for Softmax attention (512 KiB at T = 256, 8.00 MiB at 4,096)",
    "The state left the finite numbers for delta, none (token 2,048).",
}


@pytest.mark.parametrize("sentence", sorted(SAID))
def test_findings_are_what_was_made_up(sentence: str) -> None:
    assert sentence in seen("everything").said("summary")


def test_what_a_budget_left_is_counted_and_never_taken_for_right() -> None:
    run = RUNS["a budget used up"]()[0]
    skipped = [record for record in run.records if record.status == "skipped"]
    said = seen("a budget used up").said("summary")
    of = f"{len(skipped)} of {len(run.records)} cases were skipped: "
    assert f"{of}the budget of 10 min was used up (made up)" in said
    assert "Nothing was wrong, nothing crashed among the 11 that were not skipped." in said
    assert "skipped: the budget of 10 min" in seen("a budget of nothing").said("summary")
    assert "before anything was measured, so nothing can be said." in seen(
        "a budget of nothing"
    ).said("summary")
    assert "✓" not in seen("a budget of nothing").said("coverage")


def test_an_origin_that_a_skipped_case_does_not_know_is_that_of_another() -> None:
    first, *rest = [one for one in some() if one.implementation == "chunked"]
    unknown = replace(first, status="skipped", origin="unknown")
    evidence = read([sample.run_of([unknown, *rest])])
    assert evidence.implementations["chunked"].origin == "in-tree"


def test_what_is_wrong_or_untrusted_is_never_ranked() -> None:
    wrong = [
        replace(one, status="incorrect", reason="made up")
        for one in of("agreement")
        if one.implementation == "chunked" and one.name == "DeltaNet"
    ][:1]
    unstable = [
        replace(one, status="unstable", reason="made up")
        if one.implementation == "chunked" and one.name == "Retention"
        else one
        for one in of("speed")
    ]
    fastest = findings(read([sample.run_of([*wrong, *unstable])]))[0]
    winners = {row[0]: row[1] for row in fastest.rows}
    assert winners["DeltaNet · forward"] == "reference"
    assert winners["Retention · forward"] == "reference"
    assert winners["Performer · forward"] == "chunked"


def test_a_diverging_line_leaves_room_for_the_others() -> None:
    specs = seen("only stability").unpacked("specs")["charts"]
    values = [row["y"] for rows in specs[0]["datasets"].values() for row in rows]
    assert max(values) < 1e7
    assert "diverged and left the picture" in seen("only stability").said("stability")


def test_overlapping_intervals_are_undecided() -> None:
    wide = {"time": Measurement(value=1.0, unit="s", low=0.5, high=30.0)}
    records = [replace(one, metrics=wide) for one in of("speed") if one.status == "ok"]
    assert "undecided in 16" in findings(read([sample.run_of(records)]))[0].sentence


READABLE = {
    (0.0, "s"): "0 ns",
    (1.23456e-6, "s"): "1.23 µs",
    (0.99999e-3, "s"): "1.00 ms",
    (0.0123, "s"): "12.3 ms",
    (12.3, "s"): "12.3 s",
    (1536.0, "B"): "1.50 KiB",
    (25769803776.0, "B"): "24.0 GiB",
    (0.1234, "fraction"): "12.3 %",
    (1234.5, "1"): "1,234",
    (1.5e-9, "1"): "1.50 × 10⁻⁹",
    (None, "s"): "–",
}


@pytest.mark.parametrize(("given", "text"), READABLE.items())
def test_numbers_are_scaled_where_they_are_shown(
    given: tuple[float | None, str], text: str
) -> None:
    assert shown(*given) == text


def test_an_interval_names_its_unit_once_where_it_can() -> None:
    assert between(1e-3, 2e-3, "s") == "1.00 – 2.00 ms"
    assert between(9e-4, 1.1e-3, "s") == "900 µs – 1.10 ms"
    assert digits(99.96) == "100"


@pytest.mark.parametrize("values", [[], [0.0], [1e-300, 1e300], [5.0], [1.0, 1.0001], [3, 4097]])
def test_ticks_lie_on_their_axis(values: list[float]) -> None:
    for axis in (logarithmic("x", "s", values), logarithmic("x", "B", values)):
        assert all(axis.low <= tick <= axis.high for tick in axis.ticks)
        assert len(axis.ticks) <= 10
        assert 0 < axis.low < axis.high


def test_no_two_implementations_look_alike() -> None:
    alike = {(style.colour, style.shape) for style in styles(len(COLOURS) * len(SHAPES))}
    assert len(alike) == len(COLOURS) * len(SHAPES)


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(theme: int) -> None:
    """WCAG AA: 4.5 : 1."""
    css = page("no records").split("</style>")[0]
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})\b", css.split("@media")[theme]))
    pairs = [(name, "paper") for name in ("ink", "soft", "link")] + [("soft", "card")]
    pairs += [(name, name.removesuffix("-ink")) for name in colours if name.endswith("-ink")]
    for ink, ground in pairs:
        bright, dark = sorted((_luminance(colours[ink]), _luminance(colours[ground])))[::-1]
        assert (bright + 0.05) / (dark + 0.05) >= 4.5, f"{ink} on {ground}"


def test_the_gates_score_is_shown_and_a_strangers_is_not_trusted() -> None:
    run = sample.run_of(list(sample.agreement()))
    score = {"caught": 46, "total": 47, "dtype": "fp32", "slipped": ["<b>zeros</b>"]}
    text = page_of([replace(run, gate=score)])
    assert "caught 46 of 47 wrong implementations" in text
    assert "&lt;b&gt;zeros" in text
    for broken in ({"caught": "46"}, {"caught": 99}, {"total": None}, {"slipped": "x"}):
        assert "wrong implementations made" not in page_of([replace(run, gate=score | broken)])


# What a stranger may write


@pytest.mark.parametrize("name", BAD)
def test_a_line_that_is_no_record_costs_no_other_and_is_told(name: str, tmp_path: Path) -> None:
    """NaN, wrong types, names given twice, lines of megabytes: the report is made of the rest."""
    good = to_line(some()[0])
    line = BAD[name][0]
    line = line.encode("utf-8", "surrogatepass") if isinstance(line, str) else line
    run = sample.run_of(some()[:1])
    (tmp_path / "plan.json").write_text(json.dumps(run.plan), encoding="utf-8")
    (tmp_path / "records.jsonl").write_bytes(line + b"\n" + good.encode() + b"\n")
    found = read_run(tmp_path)
    assert [record.key for record in found.records] == [some()[0].key]
    (complaint,) = found.complaints
    assert "line 1: " in complaint
    section = about(read([found]), [found], [])
    assert section.content["complained"] == 1
    assert str(tmp_path) not in section.content["complaints"][0]


ODD: tuple[Any, ...] = (
    *(None, True, -1, 1e308, -1e308, 10**30, "", "x", [], [[]], [None], ["x", 7], {}),
    *({"x": None}, {"": {"": []}}),
)
TWISTS: dict[str, Callable[[Record, Any], Record]] = {
    "detail": lambda one, odd: replace(one, detail=dict.fromkeys(one.detail, odd)),
    "inside detail": lambda one, odd: replace(
        one,
        detail={
            name: dict.fromkeys(value, odd) if isinstance(value, dict) else [odd, odd]
            for name, value in one.detail.items()
        },
    ),
    "metrics": lambda one, odd: replace(
        one,
        metrics={
            name: Measurement(value=number_of(odd), unit=value.unit, low=number_of(odd),
                              high=number_of(odd))
            for name, value in one.metrics.items()
        },
    ),
    "samples": lambda one, odd: replace(
        one, samples={name: [number_of(odd)] * len(taken) for name, taken in one.samples.items()}
    ),
    "parameters": lambda one, odd: replace(
        one, parameters=dict.fromkeys(one.parameters, odd if odd == "" else number_of(odd) or 0.0)
    ),
}  # fmt: skip


def number_of(odd: Any) -> float | None:
    return float(odd) if isinstance(odd, int | float) else None


@pytest.mark.parametrize("where", TWISTS)
@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_any_value_that_a_record_may_hold_gives_a_page(odd: Any, where: str) -> None:
    """The reading lets these pass: detail holds anything, and a number may be any finite one."""
    records = [TWISTS[where](one, odd) for suite in SUITES for one in of(suite)[::60]]
    run = sample.run_of(records)
    evidence = read([run])
    sections = sections_of(evidence)
    assert sections[0].content["groups"]
    assert markdown_of(evidence, sections)


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_any_value_in_plan_environment_and_gate_gives_a_page(odd: Any) -> None:
    run = sample.run_of(some(90))
    twisted = replace(
        run,
        plan=dict.fromkeys(run.plan, odd),
        environment=dict.fromkeys(run.environment, odd),
        gate=dict.fromkeys(("caught", "total", "dtype", "slipped"), odd),
    )
    evidence = read([twisted])
    assert markdown_of(evidence, sections_of(evidence))


@pytest.mark.parametrize(
    ("grade", "told"),
    [
        ("A", "Grade A by the doctor: nothing speaks against its numbers."),
        ("C", "Grade C by the doctor: its numbers are for yourself only."),
        ("Z", "No grade by the doctor"),
        (["A"], "No grade by the doctor"),
        (None, "No grade by the doctor"),
    ],
)
def test_a_report_says_how_far_to_trust_it(grade: Any, told: str) -> None:
    run = sample.run_of(some(90), environment={"device": "an abacus", "grade": grade})
    assert told in page_of([run])
