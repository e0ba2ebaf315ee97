"""What Schlag et al. 2021 published: the numbers of their tables, and the logs of their retrieval.

They lie in suites/published: language_modeling_and_translation.csv holds tables 1 to 5 as printed,
with the authors' logged values from the comments in the paper's source (arXiv 2102.11174v3);
retrieval.csv holds every run of figures 2 and 3, and retrieval_curves.csv the learning curves up to
S = 60, from the logs in github.com/ischlag/fast-weight-transformers.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from fwpbench.reports.evidence import Operator

#: A log that ends before any rule ended the training.
INTERRUPTED = "patience(0)"
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
    found = {}
    for row in _read("retrieval.csv"):
        if row["stop_reason"] == INTERRUPTED:
            continue
        place = _place(row)
        found[place] = Run(*place, _finite(row["best_eval_loss"]), int(row["final_step"]))
    return found


@cache
def curves() -> dict[tuple[int, Operator, int], list[tuple[float, float]]]:
    """(step, evaluated loss) of every published training with S ≤ 60."""
    found = defaultdict(list)
    for row in _read("retrieval_curves.csv"):
        loss = _finite(row["eval_loss"])
        if loss is not None:
            found[_place(row)].append((float(row["step"]), loss))
    return found


@cache
def rows() -> list[Row]:
    """Every printed number of tables 1 to 5, in their order."""
    names = ("table", "model", "update_rule", "config", "split", "printed", "author_log", "note")
    return [
        Row(*(row[name] for name in names))
        for row in _read("language_modeling_and_translation.csv")
        if row["printed"]
    ]


def _place(row: dict[str, str]) -> tuple[int, Operator, int]:
    return int(row["setting"]), _operator(row), int(row["n_keys"])


def _operator(row: dict[str, str]) -> Operator:
    """The authors' names of a feature map and a rule as the operator they computed."""
    if row["feature_map"] == "softmax":
        return SOFTMAX
    phi = {"linear": "elu+1", "favor": "favor-published"}.get(row["feature_map"])
    phi = "-".join(filter(None, (phi or row["feature_map"], row["feature_arg"])))
    rule, norm = {"ours": ("delta", "sum"), "fwm": ("fwm", "none")}.get(
        row["update_rule"], ("sum", "attention")
    )
    return Operator(rule, phi, norm)


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _read(name: str) -> list[dict[str, str]]:
    text = files("fwpbench.suites").joinpath("published", name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
