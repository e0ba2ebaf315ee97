"""The tables and figures of Schlag et al. 2021: what was published, and how far we are with each.

How far is computed from the records, and from the table below, which says what of a protocol the
suites do not do. A number of a smaller model or of other data never stands in the published
number's column.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fwpbench.reports.evidence import Case, Evidence, Operator
from fwpbench.reports.quality_published import SOFTMAX, Row, Run, rows, runs
from fwpbench.reports.quality_retrieval import (
    SOLVED,
    conformance,
    largest_solved,
    setting_of,
    size_of,
)
from fwpbench.reports.quality_trials import mean_of, number, parameter
from fwpbench.reports.units import count, digits, plural

REPRODUCED, REDUCED = "reproduced", "run at reduced size"
IMPLEMENTED, NOT_YET = "protocol implemented", "not yet"
STANDINGS = {
    REPRODUCED: "everything in it was run here as published, and agrees",
    REDUCED: "some of it was run here: fewer points, a smaller model or other data",
    IMPLEMENTED: "a suite asks it as published, of the models it knows; these runs did not",
    NOT_YET: "no suite asks it as published, and nothing like it was run",
}
#: The colour of its tag.
GROUPS = {REPRODUCED: "ok", REDUCED: "untrusted", IMPLEMENTED: "skipped", NOT_YET: "cannot"}


@dataclass(frozen=True)
class Figure:
    """A figure of the retrieval task; it shows all S and models that were logged, or these.

    `unasked` are models that the suite does not ask, in any profile.
    """

    name: str
    about: str
    setting: int
    sizes: tuple[int, ...] | None = None
    models: tuple[Operator, ...] = ()
    unasked: tuple[Operator, ...] = ()


@dataclass(frozen=True)
class Table:
    """`table` is its number in the paper; `data` and `parameters` are the paper's; `lacks` is what
    of its protocol the suite does not do, beside the data."""

    table: str
    about: str
    suite: str
    metric: str
    unit: str
    data: str
    parameters: str
    lacks: tuple[str, ...]
    #: Whether the suite reads that data.
    reads: bool = False

    @property
    def open(self) -> list[str]:
        """All that keeps the suite from asking the table as published."""
        return [*([] if self.reads else [self.data]), *self.lacks]

    @property
    def name(self) -> str:
        return f"Table {self.table}"


_RULES = (
    Operator("sum", "dpfp-1", "attention"),
    Operator("delta", "dpfp-1", "sum"),
    Operator("fwm", "dpfp-1", "none"),
    Operator("fwm", "tanh", "none"),
)
_MAPS = (Operator("delta", "elu+1", "sum"), Operator("delta", "dpfp-2", "sum"))
_UNASKED = tuple(
    Operator("sum", phi, "attention")
    for phi in ("dpfp-3", "favor-published-64", "favor-published-128", "favor-published-512")
)
FIGURES = (
    Figure("Figure 2", "retrieval, setting 1: loss over S", 1, unasked=_UNASKED),
    Figure("Figure 3", "retrieval, setting 2 at S = 20: update rules", 2, (20,), _RULES),
    Figure("Appendix D.2", "retrieval, setting 2: loss over S", 2, None, (*_RULES, *_MAPS)),
)
_MODELS = ("16 layers", "a window that slides by one token")
_LANGUAGE: dict[str, Any] = {
    "suite": "language-modeling",
    "metric": "perplexity",
    "unit": "perplexity",
    "data": "wikitext-103",
}
TABLES = (
    Table(
        table="1",
        about="translation: feature maps under the sum",
        suite="translation",
        metric="bleu",
        unit="BLEU",
        data="wmt14-en-de",
        parameters="those of 6 + 6 layers of width 1,024",
        lacks=("6 + 6 layers of width 1,024", "beam search"),
    ),
    Table(
        table="2",
        about="language modelling: update rules",
        parameters="44.0 or 89.8 million",
        lacks=_MODELS,
        **_LANGUAGE,
    ),
    Table(
        table="3",
        about="language modelling: positions and normalisation",
        parameters="89.9 million",
        lacks=(*_MODELS, "models without positions"),
        **_LANGUAGE,
    ),
    Table(
        table="4",
        about="language modelling: the whole context in the state",
        parameters="89.8 million",
        lacks=("16 layers", "a state carried from segment to segment", "Transformer-XL"),
        **_LANGUAGE,
    ),
    Table(
        table="5",
        about="language modelling: DPFP beside Performer",
        parameters="44.0 million",
        lacks=_MODELS,
        **_LANGUAGE,
    ),
)


FIGURE_COLUMNS = (
    *("Model", "Published up to S", "Published: stored up to S"),
    *("Run here: S", "Here: stored up to S", "Conform"),
)


@dataclass(frozen=True)
class Item:
    """A table or figure beside what was run of it."""

    name: str
    about: str
    #: One of STANDINGS.
    standing: str
    here: str
    differs: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def group(self) -> str:
        return GROUPS[self.standing]


def paper(evidence: Evidence) -> list[Item]:
    figures = [figure_item(evidence, figure) for figure in FIGURES]
    return [*figures, *(_table(evidence, table) for table in TABLES)]


def standing_of(run: int, agree: int, total: int, lacks: Sequence[str]) -> str:
    if total and agree == total and not lacks:
        return REPRODUCED
    if run:
        return REDUCED
    return NOT_YET if lacks else IMPLEMENTED


# Figures: each point is one published training


def figure_item(evidence: Evidence, figure: Figure) -> Item:
    points = [
        run
        for run in runs().values()
        if run.setting == figure.setting
        if figure.sizes is None or run.S in figure.sizes
        if not figure.models or run.operator in figure.models
    ]
    ran = _ran(evidence, figure.setting)
    here = {place: ran[place] for run in points if (place := (run.operator, run.S)) in ran}
    agree, differ = verdicts_of(here.values())
    said = f"{len(here)} of {plural(len(points), 'training')}"
    if here:
        said += f": {agree} conform, {differ} do not, {len(here) - agree - differ} not judged"
    models: dict[Operator, list[Run]] = {}
    for run in sorted(points, key=lambda run: run.S):
        models.setdefault(run.operator, []).append(run)
    ran_models = {operator for operator, _ in here}
    left = [str(model) for model in models if model not in {*ran_models, *figure.unasked}]
    differs = [("Asked by no suite yet", list(map(str, figure.unasked)))]
    differs += [("Not run", left)] if here else []
    lines = [
        _model(evidence, figure.setting, theirs, {S: v for (m, S), v in here.items() if m == model})
        for model, theirs in models.items()
    ]
    return Item(
        figure.name,
        figure.about,
        standing_of(len(here), agree, len(points), ()),
        said,
        " ".join(f"{what}: {'; '.join(names)}." for what, names in differs if names),
        FIGURE_COLUMNS,
        lines,
    )


def _ran(evidence: Evidence, setting: int) -> dict[tuple[Operator, int], set[str]]:
    """What became of each published training that was run: the verdicts of all implementations."""
    ran: dict[tuple[Operator, int], set[str]] = {}
    for case in evidence.of("retrieval"):
        asked = (setting_of(case), number(case, "trial")) == (setting, 0)
        if asked and case.value("best loss") is not None:
            ran.setdefault((case.operator, size_of(case)), set()).add(conformance(case)[1])
    return ran


def _model(
    evidence: Evidence, setting: int, theirs: Sequence[Run], verdicts: Mapping[int, set[str]]
) -> list[str]:
    """A model's line: `theirs` in the order of S, `verdicts` of what was run, by S."""
    model = theirs[0].operator
    cases = [
        case
        for case in evidence.of("retrieval")
        if (setting_of(case), case.operator) == (setting, model) and size_of(case) in verdicts
        if number(case, "trial") == 0
    ]
    return [
        str(model),
        str(theirs[-1].S),
        _stored(_solved(theirs)),
        ", ".join(map(str, sorted(verdicts))) or "–",
        _stored(largest_solved(cases)) if verdicts else "–",
        _conform(verdicts.values()),
    ]


def _conform(verdicts: Collection[set[str]]) -> str:
    if not verdicts:
        return "–"
    agree, differ = verdicts_of(verdicts)
    left = len(verdicts) - agree - differ
    said = [f"{agree} of {agree + differ}"] if agree + differ else []
    return ", ".join([*said, *([f"{left} not judged"] if left else [])])


def verdicts_of(verdicts: Iterable[set[str]]) -> tuple[int, int]:
    """How many conform on every implementation, and how many do not on some."""
    listed = list(verdicts)
    return sum(one == {"ok"} for one in listed), sum("wrong" in one for one in listed)


def _stored(S: int | None) -> str:
    return str(S) if S else "none"


def _solved(published: Iterable[Run]) -> int:
    """As `largest_solved`: up to the first S that failed."""
    solved = 0
    for run in published:
        if run.best is None or run.best > SOLVED:
            break
        solved = run.S
    return solved


# Tables


def _table(evidence: Evidence, table: Table) -> Item:
    published: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows():
        if row.table == table.table:
            published.setdefault((row.model, row.rule, row.config), []).append(row)
    cases = [case for case in evidence.of(table.suite) if case.value(table.metric) is not None]
    lines, met, here = [], list[Case](), dict[tuple[str, str], bool]()
    for (model, rule, config), split in published.items():
        operator = operator_of(table.table, model, rule)
        same = [case for case in cases if case.operator == operator]
        here[model, rule] = bool(same)
        met += same
        lines.append([model, rule, config, *_splits(split), _reduced(same, table)])
    run = sum(here.values())
    standing = standing_of(run, 0, len(here), table.open)
    said = f"{run} of {plural(len(here), 'model')}" if run else "–"
    columns = ("Model", "Rule", "Size", *_names(published), "Run here, not the same quantity")
    return Item(table.name, table.about, standing, said, _differs(table, met), columns, lines)


def _names(published: Mapping[Any, Sequence[Row]]) -> list[str]:
    splits = dict.fromkeys(row.split for split in published.values() for row in split)
    return [f"Published: {split}" for split in splits]


def _splits(split: Sequence[Row]) -> list[str]:
    """The printed numbers; the log's beside one that it contradicts."""
    shown = []
    for row in split:
        contradicts = row.logged and _rounded(row.logged) != row.printed
        shown.append(f"{row.printed} (log: {row.logged})" if contradicts else row.printed)
    return shown


def _rounded(text: str) -> str:
    return f"{float(text):.1f}"


def _reduced(cases: Sequence[Case], table: Table) -> str:
    """`14.2 on grammar`: the mean over everything that was run of this model."""
    by_data: dict[str, list[float]] = {}
    for case in cases:
        value = case.value(table.metric)
        if value is not None:
            by_data.setdefault(parameter(case, "data"), []).append(value)
    means = {data: mean for data, values in by_data.items() if (mean := mean_of(values))}
    said = [f"{digits(mean.value)} {table.unit} on {data}" for data, mean in means.items()]
    return "; ".join(said) or "–"


def _differs(table: Table, cases: Sequence[Case]) -> str:
    said = []
    if cases:
        data = ", ".join(dict.fromkeys(parameter(case, "data") for case in cases))
        said.append(f"Data: {data}, not {table.data}.")
        sizes = sorted({size for case in cases if (size := case.value("parameters")) is not None})
        if sizes:
            span = " to ".join(dict.fromkeys((count(sizes[0]), count(sizes[-1]))))
            said.append(f"Parameters: {span}, not {table.parameters}.")
        return " ".join([*said, f"Not done here: {', '.join(table.lacks)}."])
    return f"Not done here: {', '.join(table.open)}."


def operator_of(table: str, model: str, rule: str) -> Operator | None:
    """The operator of a row; None where no suite asks for such a model at all."""
    if model.startswith("Transformer-XL") or table == "4" or "pos=no" in model:
        return None
    if re.match(r"(Standard )?Transformer\b", model):
        return SOFTMAX
    if found := re.search(r"Performer m=(\d+)", model):
        phi = f"favor-{found[1]}"
    elif found := re.search(r"DPFP nu=(\d+)", model):
        phi = f"dpfp-{found[1]}"
    else:
        phi = "elu+1"
    norm = "attention" if rule == "sum" else "sum"
    return Operator(rule, phi, "sum+attention" if "attn_norm=yes" in model else norm)
