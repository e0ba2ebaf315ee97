"""Laws of the quality section: the records' numbers, the paper's beside them, never mixed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fwpbench.harness.profiles import PROFILES
from fwpbench.harness.records import Measurement, Record
from fwpbench.operators.problem import Problem
from fwpbench.reports.evidence import Case, Evidence, Operator, read
from fwpbench.reports.findings import findings
from fwpbench.reports.page import page_of
from fwpbench.reports.quality import section
from fwpbench.reports.quality_language import language, over_segments
from fwpbench.reports.quality_paper import (
    FIGURES,
    IMPLEMENTED,
    NOT_YET,
    REDUCED,
    REPRODUCED,
    STANDINGS,
    TABLES,
    Figure,
    Item,
    figure_item,
    operator_of,
    paper,
    standing_of,
)
from fwpbench.reports.quality_published import curves, rows, runs
from fwpbench.reports.quality_retrieval import conformance, furthest, largest_solved
from fwpbench.reports.quality_trials import T_975, dress_of, mean_of
from fwpbench.reports.units import digits
from fwpbench.suites import SUITES
from tests import sample_runs as sample
from tests.browser_pages import EVIL, QUALITY, Seen, of, seen

SUM = Operator("sum", "dpfp-1", "attention")


def evidence_of(records: list[Record]) -> Evidence:
    return read([sample.run_of(records)])


def section_of(records: list[Record]) -> Seen:
    """What a browser finds in the page of these records."""
    parser = Seen()
    parser.feed(page_of([sample.run_of(records)]))
    parser.close()
    assert not parser.open
    return parser


# Numbers


def test_every_loss_and_step_is_in_the_table() -> None:
    shown = seen("only retrieval").values("data-order")
    for record in of("retrieval")[:60]:
        for metric in ("best loss", "steps"):
            value = record.metrics[metric].value
            assert str(value) in shown, f"{metric} of {record.key}"


@pytest.mark.parametrize(
    ("suite", "metric"), [("language-modeling", "perplexity"), ("translation", "bleu")]
)
def test_every_score_and_every_mean_is_in_the_table(suite: str, metric: str) -> None:
    said, shown = seen(f"only {suite}").said("quality"), seen(f"only {suite}").values("data-order")
    models: dict[tuple[str, Any], list[float]] = {}
    for record in of(suite):
        if record.status == "ok":
            value = record.metrics[metric].value
            assert value is not None
            assert digits(value) in said
            models.setdefault((record.name, record.parameters["data"]), []).append(value)
    assert models
    for values in models.values():
        assert str(sum(values) / len(values)) in shown


def test_baselines_stand_in_the_tables() -> None:
    rows_of = seen("only language-modeling").said("quality")
    for text in ("Unigram", "190", "Floor", "11.5"):
        assert text in rows_of
    for text in ("Copy", "3.10", "Dictionary", "24.0", "nrefs:1|tok:13a|made:up"):
        assert text in seen("only translation").said("quality")
    for source, reference in sample.SENTENCES:
        assert source in seen("only translation").said("quality")
        assert reference in seen("only translation").said("quality")


@pytest.mark.parametrize("trials", [2, 3, 5, 10])
def test_the_interval_of_a_mean_covers_it_95_times_of_100(trials: int) -> None:
    chance = random.Random(trials)
    covered = 0
    for _ in range(2000):
        mean = mean_of([chance.gauss(7.0, 2.0) for _ in range(trials)])
        assert mean is not None
        assert mean.low is not None
        assert mean.high is not None
        covered += mean.low <= 7.0 <= mean.high
    assert 0.93 <= covered / 2000 <= 0.97


def test_one_trial_has_no_interval_and_none_has_no_mean() -> None:
    one = mean_of([3.0])
    assert one is not None
    assert (one.value, one.low, one.high) == (3.0, None, None)
    assert mean_of([]) is None
    assert sorted(T_975, reverse=True) == list(T_975)


def test_a_score_has_no_interval_beyond_the_largest_score() -> None:
    mean = mean_of([99.0, 99.9], most=100.0)
    assert mean is not None
    assert mean.high == 100.0


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_delta_minus_sum_is_shown_with_its_sign(sign: float) -> None:
    records = [_perplexity("sum", "attention", trial, 50.0 + trial) for trial in range(2)]
    records += [_perplexity("delta", "sum", trial, 50.0 + 4 * trial + sign) for trial in range(2)]
    evidence = evidence_of(records)
    (text,) = language(evidence, dress_of(evidence))
    (difference,) = text.differences
    assert difference.trials == [sign, 3 + sign]
    said = section_of(records).said("quality")
    assert ("+1.00, +4.00" if sign > 0 else "−1.00, +2.00") in said


def _perplexity(rule: str, norm: str, trial: int, value: float) -> Record:
    return sample.record(
        "language-modeling",
        f"rule={rule} phi=dpfp-1 norm={norm} B=1 T=8 H=1 K=4 V=4 dtype=fp32",
        "chunked",
        name=f"{rule} model",
        parameters={"data": "grammar", "trial": trial},
        metrics={"perplexity": Measurement(value=value, unit="1")},
    )


def _segmented(losses: list[float], tokens: list[float]) -> Case:
    """A model that lost so many nats in each segment."""
    record = _perplexity("sum", "attention", 0, 50.0)
    samples: dict[str, list[float | None]] = {
        "test log-likelihood": [-loss for loss in losses],
        "test tokens": [*tokens],
    }
    return evidence_of([replace(record, samples=samples)]).cases[0]


def test_a_model_that_loses_more_of_every_token_is_worse_by_that_factor() -> None:
    tokens = [10.0, 20.0, 10.0]
    worse, better = (_segmented([c * n for n in tokens], tokens) for c in (1.3, 1.2))
    found = over_segments([(worse, better)])
    assert found is not None
    assert found[0] == pytest.approx(math.expm1(0.1))
    same = over_segments([(worse, worse)])
    assert same == (0.0, 0.0, 0.0)


def test_the_interval_over_segments_covers_the_difference() -> None:
    chance, tokens = random.Random(1), [16.0] * 60
    covered = 0
    for _ in range(300):
        second = [chance.gauss(30.0, 6.0) for _ in tokens]
        first = [loss + chance.gauss(16 * 0.02, 2.0) for loss in second]
        found = over_segments([(_segmented(first, tokens), _segmented(second, tokens))])
        assert found is not None
        covered += found[1] <= math.expm1(0.02) <= found[2]
    assert 0.91 <= covered / 300 <= 0.98


def test_segments_that_are_not_the_same_are_not_compared() -> None:
    one = _segmented([1.0, 2.0, 3.0], [4.0, 4.0, 4.0])
    others = [
        ([1.0, 2.0], [4.0, 4.0]),
        ([1.0, 2.0, 3.0], [4.0, 4.0, 5.0]),
        ([], []),
    ]
    others += [([1.0, 2.0, math.nan], [4.0, 4.0, 4.0]), ([1.0, 2.0, 3e9], [4.0, 4.0, 4.0])]
    for losses, tokens in others:
        other = _segmented(losses, tokens)
        assert over_segments([(one, other)]) is None
        assert over_segments([(one, one), (one, other)]) is None
    assert over_segments([]) is None


def test_data_sets_are_never_averaged_over() -> None:
    evidence = evidence_of(of("language-modeling"))
    texts = language(evidence, dress_of(evidence))
    assert [text.scores.data for text in texts] == ["grammar", "wikitext-2"]
    for text in texts:
        assert {case.record.parameters["data"] for case in text.scores.cases} == {text.scores.data}


# What did not come to a number


@pytest.mark.parametrize("suite", QUALITY)
@pytest.mark.parametrize("status", ["diverged", "skipped", "unsupported", "missing", "timeout"])
def test_a_record_without_a_number_gives_its_reason(suite: str, status: str) -> None:
    reason = "a made-up reason that is nowhere else"
    first, *others = of(suite)[:3]
    broken = replace(first, status=status, reason=reason, metrics={}, samples={})
    page = page_of([sample.run_of([broken, *others])])
    inside = page.split('<section id="quality"')[1]
    assert reason in inside
    assert f">{status}<" in inside


@pytest.mark.parametrize("suite", QUALITY)
def test_a_record_that_is_ok_and_has_no_number_is_no_error(suite: str) -> None:
    empty = [replace(one, metrics={}, samples={}, detail={}) for one in of(suite)[:4]]
    assert "no reason was recorded" in section_of(empty).said("quality")


def test_a_run_without_quality_records_has_no_section() -> None:
    assert section(evidence_of(of("capacity"))) is None
    assert "quality" not in seen("only capacity").sections


# Strangers' records


def test_strings_of_a_record_are_shown_and_not_obeyed() -> None:
    detail = {
        "signatures": {EVIL: EVIL},
        "encoder": EVIL,
        "examples": [{"source": EVIL, "reference": EVIL, "translation": EVIL}],
        "published": {EVIL: EVIL},
    }
    records = [
        replace(
            one,
            name=EVIL,
            implementation=EVIL,
            parameters=dict(one.parameters) | {"data": EVIL},
            detail=detail,
        )
        for suite in QUALITY
        for one in of(suite)[:2]
    ]
    parser = section_of(records)
    assert "x-evil" not in {tag for tag, _ in parser.elements}
    assert len(parser.scripts) == 5
    assert parser.said("quality").count("<x-evil onload=alert(1)>") > 10


ODD: dict[str, Any] = {
    "examples no list": {"examples": "x", "signatures": "x", "encoder": 7},
    "examples no dicts": {"examples": [1, None, []], "signatures": {"bleu": 7}},
    "strings no strings": {"examples": [{"source": 3, "reference": None}], "signatures": []},
    "published no dict": {"published": [1]},
    "published no numbers": {"published": {"first": "a", "worst": None, "same steps": "yes"}},
    "published booleans": {"published": {"first": True, "worst": True, "same steps": 1}},
}


@pytest.mark.parametrize("detail", ODD.values(), ids=ODD)
def test_odd_details_break_nothing(detail: dict[str, Any]) -> None:
    records = [replace(of(suite)[0], detail=detail) for suite in QUALITY]
    assert section(evidence_of(records)) is not None


@pytest.mark.parametrize("value", ["x", "", float("1e308"), -3.0])
def test_odd_parameters_break_nothing(value: float | str) -> None:
    odd = {"setting": value, "trial": value, "data": value}
    records = [replace(of(suite)[0], parameters=odd) for suite in QUALITY]
    assert section(evidence_of(records)) is not None
    assert findings(evidence_of(records))


# The published numbers


def test_published_runs_are_those_that_ended() -> None:
    assert len(runs()) == 319
    ours = {(setting, S) for setting, _, S in runs()}
    assert ours == {(1, S) for S in range(20, 601, 20)} | {(2, S) for S in range(20, 201, 20)}
    assert {S for _, _, S in curves()} == {20, 40, 60}


def test_published_operators_are_operators() -> None:
    for operator in {run.operator for run in runs().values()}:
        words = f"rule={operator.rule} phi={operator.phi} norm={operator.norm}"
        problem = Problem.parse(f"{words} B=1 T=4 H=1 K=64 V=20 dtype=fp32 direction=forward")
        assert problem.operator.rule == operator.rule


def test_published_excerpts_are_the_papers() -> None:
    """Table 2, small, test; figure 2 at S = 60 and 600; table 1's best."""
    printed = {(r.table, r.model, r.rule, r.config, r.split): r.printed for r in rows()}
    assert printed["2", "Delta Network (linear elu+1)", "delta", "small", "test"] == "35.5"
    assert printed["1", "DPFP nu=4", "sum", "d_dot=512", "test(wmt14/full)"] == "27.1"
    best = {place: run.best for place, run in runs().items()}
    assert best[1, Operator("sum", "elu+1", "attention"), 60] == pytest.approx(0.0245, rel=1e-2)
    assert best[1, Operator("sum", "dpfp-3", "attention"), 600] == pytest.approx(0.198, rel=1e-2)
    assert best[2, Operator("fwm", "tanh", "none"), 20] == pytest.approx(1.5, rel=1e-2)


def test_every_printed_number_is_in_the_page() -> None:
    said = seen("only retrieval").said("quality")
    for row in rows():
        assert row.printed in said
        assert row.model in said
    assert "26.8 (log: 26.6)" in said
    assert "27.7 (log" not in said


def test_published_curves_lie_beneath_ours() -> None:
    specs = seen("only retrieval").unpacked("specs")["charts"]
    points = [row for spec in specs for rows in spec["datasets"].values() for row in rows]
    published = {
        (row["x"], row["y"]) for row in points if row.get("series", "").startswith("published")
    }
    known = {(run.S, run.best) for run in runs().values()}
    known |= {point for curve in curves().values() for point in curve}
    assert published
    assert published <= known


# Standings


@pytest.mark.parametrize(
    ("run", "agree", "total", "lacks", "standing"),
    [
        (0, 0, 10, [], IMPLEMENTED),
        (0, 0, 10, ["data"], NOT_YET),
        (3, 3, 10, [], REDUCED),
        (10, 9, 10, [], REDUCED),
        (10, 10, 10, [], REPRODUCED),
        (10, 10, 10, ["16 layers"], REDUCED),
        (0, 0, 0, [], IMPLEMENTED),
    ],
)
def test_a_standing_follows_from_what_was_run(
    run: int, agree: int, total: int, lacks: list[str], standing: str
) -> None:
    assert standing_of(run, agree, total, lacks) == standing
    assert standing in STANDINGS


def standings(records: list[Record]) -> dict[str, str]:
    return {item.name: item.standing for item in paper(evidence_of(records))}


def test_standings_rise_only_with_records() -> None:
    figures, tables = [f.name for f in FIGURES], [t.name for t in TABLES]
    nothing = standings([])
    assert nothing == dict.fromkeys(figures, IMPLEMENTED) | dict.fromkeys(tables, NOT_YET)
    assert standings(of("retrieval")) == nothing | dict.fromkeys(figures, REDUCED)
    predicted = dict.fromkeys(("Table 2", "Table 3", "Table 5"), REDUCED)
    assert standings(of("language-modeling")) == nothing | predicted
    assert standings(of("translation")) == nothing | {"Table 1": REDUCED}
    empty = [replace(one, metrics={}, status="skipped") for suite in QUALITY for one in of(suite)]
    assert standings(empty) == nothing


def small_figure(bend: Callable[[Record], Record]) -> Item:
    """The published points of one model at S = 20 and 40, of which each was run."""
    records = [
        bend(one)
        for one in of("retrieval")
        if "rule=sum phi=dpfp-1" in one.problem and one.parameters["setting"] == 1
        if "V=60" not in one.problem
    ]
    return figure_item(evidence_of(records), Figure("A figure", "", 1, (20, 40), (SUM,)))


def test_a_figure_is_reproduced_when_every_point_conforms() -> None:
    def away(worst: float) -> Callable[[Record], Record]:
        def bend(record: Record) -> Record:
            if record.parameters["trial"] or "V=40" not in record.problem:
                return record
            return replace(
                record,
                detail={"published": record.detail["published"] | {"worst": worst}},
            )

        return bend

    assert small_figure(lambda record: record).standing == REPRODUCED
    assert small_figure(away(0.02)).standing == REDUCED
    assert "1 conform, 1 do not" in small_figure(away(0.02)).here


def test_a_reduced_runs_number_never_stands_in_a_published_column() -> None:
    items = paper(evidence_of([*of("language-modeling"), *of("translation")]))
    shown = {item.name: item for item in items}
    for table in TABLES:
        item = shown[table.name]
        printed = {row.printed for row in rows() if row.table == table.table}
        for column, name in enumerate(item.columns):
            for row in item.rows:
                if name.startswith("Published"):
                    assert row[column].split(" (log")[0] in printed
                elif name.startswith("Run here") and row[column] != "–":
                    assert " on " in row[column]  # which data
        if item.standing == REDUCED:
            assert f"not {table.data}" in item.differs


def test_what_the_paper_asks_of_data_is_what_the_suites_say_of_themselves() -> None:
    for table in TABLES:
        known = SUITES[table.suite].data if table.suite in SUITES else ()
        assert table.reads == (table.data in known), f"{table.name}: has {table.suite} learned it?"


def test_what_a_figure_is_said_to_lack_is_what_the_suite_does_not_ask() -> None:
    asked = {
        (case.parameters["setting"], str(case.problem.operator))
        for case in SUITES["retrieval"].cases(PROFILES["full"])
    }
    for figure in FIGURES:
        shown = {run.operator for run in runs().values() if run.setting == figure.setting}
        shown &= set(figure.models) or shown
        for operator in shown:
            words = f"rule={operator.rule} phi={operator.phi} norm={operator.norm}"
            is_asked = (figure.setting, words) in asked
            assert is_asked != (operator in figure.unasked), f"{figure.name}: {operator}"


def test_rows_of_a_table_that_no_suite_asks_have_no_operator() -> None:
    for row in rows():
        operator = operator_of(row.table, row.model, row.rule)
        unlike = row.table == "4" or "pos=no" in row.model
        assert (operator is None) == unlike
        if operator is not None:
            rest = "B=1 T=4 H=1 K=32 V=32 dtype=fp32 direction=forward"
            words = f"rule={operator.rule} phi={operator.phi} norm={operator.norm}"
            Problem.parse(f"{words} {rest}")


# Verdicts and findings


def _retrieval(setting: int, operator: Operator, S: int, **found: Any) -> Case:
    words = f"rule={operator.rule} phi={operator.phi} norm={operator.norm}"
    made = sample.record(
        "retrieval",
        f"{words} B=32 T={S} H=1 K=64 V={S} dtype=fp32",
        "chunked",
        parameters={"setting": setting, "trial": found.pop("trial", 0)},
        metrics={"best loss": Measurement(value=found.pop("loss", 5e-4), unit="1")},
        detail={"published": {"first": 1e-4, "worst": 5e-3, "same steps": True} | found},
    )
    return evidence_of([made]).cases[0]


@pytest.mark.parametrize(
    ("phi", "found", "group"),
    [
        ("elu+1", {}, "ok"),
        ("elu+1", {"first": 2e-3}, "wrong"),
        ("elu+1", {"worst": 2e-2}, "wrong"),
        ("dpfp-2", {"worst": 2e-2}, "ok"),
        ("dpfp-2", {"worst": 4e-2}, "wrong"),
        ("elu+1", {"same steps": False}, "wrong"),
        ("elu+1", {"trial": 1}, ""),
        ("elu+1", {"worst": None}, ""),
    ],
)
def test_a_curve_conforms_or_not(phi: str, found: dict[str, Any], group: str) -> None:
    assert conformance(_retrieval(1, Operator("sum", phi, "attention"), 20, **found))[1] == group


@pytest.mark.parametrize(
    "operator", [Operator("delta", "dpfp-1", "sum"), Operator("fwm", "tanh", "none")]
)
def test_what_drifts_by_rounding_is_reported_and_not_judged(operator: Operator) -> None:
    case = _retrieval(2, operator, 20, worst=0.5, **{"same steps": False})
    assert conformance(case) == ("not judged", "")
    assert furthest(case) == 0.5


def test_what_is_stored_ends_at_the_first_failure() -> None:
    def at(S: int, loss: float) -> Case:
        return _retrieval(1, SUM, S, loss=loss)

    assert largest_solved([]) is None
    assert largest_solved([at(20, 1e-4), at(40, 1e-3), at(60, 2e-3), at(80, 1e-4)]) == 40
    assert largest_solved([at(20, 0.1), at(40, 1e-4)]) == 0
    assert largest_solved([at(20, 1e-4), at(20, 0.1)]) == 0


SAID = [
    "in setting 1 (of S = 20, 40 and 60) Softmax attention and DPFP memory up to S = 60",
    "Lowest perplexity on grammar: Softmax attention with 12.8",
    "without a model: unigram 190, floor 11.5",
    "Highest BLEU on transduction: Softmax attention with 99.4",
    "without a model: copy 3.10, dictionary 24.0",
]


@pytest.mark.parametrize("sentence", SAID)
def test_findings_are_what_was_made_up(sentence: str) -> None:
    made = findings(evidence_of([one for suite in QUALITY for one in of(suite)]))
    assert sentence in " ".join(finding.sentence for finding in made)


def test_a_lead_within_the_intervals_is_said_to_be_one() -> None:
    def found(second: float, trials: int = 2) -> str:
        records = [_perplexity("sum", "attention", trial, 50.0 + trial) for trial in range(trials)]
        records += [_perplexity("delta", "sum", trial, second + trial) for trial in range(trials)]
        return findings(evidence_of(records))[0].sentence

    assert "their intervals overlap" in found(52.0)
    assert "undecided" not in found(90.0)
    assert "undecided" in found(90.0, trials=1)
