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

from fwpbench.operators.operator import Operator
from fwpbench.suites.training import Curve

#: Evaluations without a new minimum after which a training ends.
PATIENCE = 11


@dataclass(frozen=True)
class PublishedRun:
    """`curve` maps steps to the evaluated loss; empty for S > 60. `stop_reason` is criterion,
    patience or interrupted."""

    best: float
    last: float
    steps: int
    stop_reason: str
    curve: dict[int, float] = field(default_factory=dict)


#: (setting, feature map, its argument, update rule, S), as the logs have it.
_Name = tuple[str, str, str, str, str]


def published_run(setting: int, operator: Operator, S: int) -> PublishedRun | None:
    """None where the authors have none."""
    rule = {"softmax-attention": "cat", "delta": "ours"}.get(operator.rule, operator.rule)
    if rule == "cat":
        phi, argument = "softmax", ""
    else:
        phi, _, argument = operator.phi.replace("elu+1", "linear").partition("-")
    return _runs().get((str(setting), phi, argument, rule, str(S)))


def relative_differences(curve: Curve, run: PublishedRun) -> list[float]:
    """|loss − published| ÷ published at every evaluation that both have."""
    return [
        abs(loss - run.curve[step]) / run.curve[step]
        for step, loss in zip(curve.steps, curve.values["loss"], strict=True)
        if step in run.curve
    ]


@cache
def _runs() -> dict[_Name, PublishedRun]:
    runs = {
        _name(row): PublishedRun(
            float(row["best_eval_loss"]),
            float(row["last_eval_loss"]),
            int(row["final_step"]),
            _reason(row["stop_reason"]),
        )
        for row in _rows("retrieval.csv")
    }
    for row in _rows("retrieval_curves.csv"):
        runs[_name(row)].curve[int(row["step"])] = float(row["eval_loss"])
    return runs


def _reason(logged: str) -> str:
    """patience(n) counts the evaluations without a new minimum at the end of the log."""
    word, _, count = logged.rstrip(")").partition("(")
    return "interrupted" if word == "patience" and int(count) < PATIENCE else word


def _rows(file: str) -> list[dict[str, str]]:
    text = files("fwpbench.suites").joinpath("published", file).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _name(row: Mapping[str, str]) -> _Name:
    names = ("setting", "feature_map", "feature_arg", "update_rule", "n_keys")
    setting, phi, argument, rule, S = (row[name] for name in names)
    return setting, phi, argument, rule, S
