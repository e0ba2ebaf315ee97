"""What Schlag et al. 2021 published: the numbers of their tables, and the logs of their retrieval.

They lie in suites/published: language_modeling_and_translation.csv holds tables 1 to 5 as printed,
with the authors' logged values from the comments in the paper's source (arXiv 2102.11174v3);
retrieval.csv holds every run of figures 2 and 3, and retrieval_curves.csv the learning curves up to
S = 60, from the logs in github.com/ischlag/fast-weight-transformers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

from fwpbench.operators.operator import Operator as Named
from fwpbench.reports.evidence import Operator
from fwpbench.suites.published_retrieval import published_rows, published_runs

SOFTMAX = Operator("softmax-attention", "identity", "none")


@dataclass(frozen=True)
class Run:
    """One published training of the retrieval task; `best` is None where every loss was NaN."""

    setting: int
    operator: Operator
    S: int
    best: float | None
    steps: int


@dataclass(frozen=True)
class Row:
    """One printed number of a table, as the paper and the authors' log have it."""

    table: str
    model: str
    rule: str
    config: str
    split: str
    printed: str
    logged: str
    note: str


@cache
def runs() -> dict[tuple[int, Operator, int], Run]:
    """All that came to an end: one log breaks off, and its loss says nothing."""
    return {
        (setting, _known(operator), S): Run(
            setting,
            _known(operator),
            S,
            run.best if math.isfinite(run.best) else None,
            run.steps,
        )
        for (setting, operator, S), run in published_runs().items()
        if run.stop_reason != "interrupted"
    }


@cache
def curves() -> dict[tuple[int, Operator, int], list[tuple[float, float]]]:
    """(step, evaluated loss) of every published training with S ≤ 60."""
    return {
        (setting, _known(operator), S): points
        for (setting, operator, S), run in published_runs().items()
        if (points := [(float(at), loss) for at, loss in run.curve.items() if math.isfinite(loss)])
    }


@cache
def rows() -> list[Row]:
    """Every printed number of tables 1 to 5, in their order."""
    names = ("table", "model", "update_rule", "config", "split", "printed", "author_log", "note")
    return [
        Row(*(row[name] for name in names))
        for row in published_rows("language_modeling_and_translation.csv")
        if row["printed"]
    ]


def _known(operator: Named) -> Operator:
    return Operator(operator.rule, operator.phi, operator.norm)
