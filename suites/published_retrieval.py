"""The authors' logs of the retrieval task, one run a case.

published/retrieval.csv: every run; published/retrieval_curves.csv: every logged evaluation of those
with S ≤ 60. Numbers of the logs in github.com/ischlag/fast-weight-transformers, synthetic/logs, at
commit ebe13ea (Schlag et al. 2021, figures 2 and 3).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from fwpbench.operators.operator import Operator

if TYPE_CHECKING:  # reports read this file too, and need no torch
    from fwpbench.suites.training import Curve

#: Evaluations without a new minimum after which a training ends.
PATIENCE = 11


@dataclass(frozen=True)
class PublishedRun:
    """`curve` maps steps to the evaluated loss; empty for S > 60. `stop_reason` is criterion,
    patience or interrupted. `best` is NaN where every loss was."""

    setting: int
    operator: Operator
    S: int
    best: float
    last: float
    steps: int
    stop_reason: str
    curve: dict[int, float] = field(default_factory=dict)


def published_run(setting: int, operator: Operator, S: int) -> PublishedRun | None:
    """None where the authors have none."""
    return published_runs().get((setting, operator, S))


def relative_differences(curve: Curve, run: PublishedRun) -> list[float]:
    """|loss − published| ÷ published at every evaluation that both have."""
    return [
        abs(loss - run.curve[step]) / run.curve[step]
        for step, loss in zip(curve.steps, curve.values["loss"], strict=True)
        if step in run.curve
    ]


@cache
def published_runs() -> dict[tuple[int, Operator, int], PublishedRun]:
    """Every run by (setting, operator, S)."""
    runs = {
        _place(row): PublishedRun(
            *_place(row),
            float(row["best_eval_loss"]),
            float(row["last_eval_loss"]),
            int(row["final_step"]),
            _reason(row["stop_reason"]),
        )
        for row in published_rows("retrieval.csv")
    }
    for row in published_rows("retrieval_curves.csv"):
        runs[_place(row)].curve[int(row["step"])] = float(row["eval_loss"])
    return runs


def _reason(logged: str) -> str:
    """patience(n) counts the evaluations without a new minimum at the end of the log."""
    word, _, count = logged.rstrip(")").partition("(")
    return "interrupted" if word == "patience" and int(count) < PATIENCE else word


def published_rows(file: str) -> list[dict[str, str]]:
    """The rows of a file in suites/published."""
    text = files("fwpbench.suites").joinpath("published", file).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _place(row: Mapping[str, str]) -> tuple[int, Operator, int]:
    return int(row["setting"]), _operator(row), int(row["n_keys"])


def _operator(row: Mapping[str, str]) -> Operator:
    """The authors' names of a feature map and a rule as the operator they computed."""
    if row["feature_map"] == "softmax":
        return Operator("softmax-attention", "identity", "none")
    phi = {"linear": "elu+1", "favor": "favor-published"}.get(
        row["feature_map"], row["feature_map"]
    )
    phi = "-".join(filter(None, (phi, row["feature_arg"])))
    rules = {"ours": ("delta", "sum"), "fwm": ("fwm", "none"), "sum": ("sum", "attention")}
    rule, norm = rules[row["update_rule"]]
    return Operator(rule, phi, norm)
