"""Language modelling: perplexity a trial between the unigram's and the known floor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fwpbench.reports.curves import Curve
from fwpbench.reports.evidence import Evidence, Operator, shared
from fwpbench.reports.palette import Style
from fwpbench.reports.quality_trials import (
    Mean,
    Scored,
    Scores,
    learning_panels,
    mean_of,
    parameter,
    scores_of,
)
from fwpbench.reports.section import Panels

PERPLEXITY = Scored(
    "language-modeling",
    "perplexity",
    "lower",
    {
        "unigram perplexity": "Unigram: every word by its frequency alone",
        "5-gram perplexity": "5-gram: every word by the four before it",
        "floor perplexity": "Floor: the entropy of the source itself",
    },
)


@dataclass(frozen=True)
class Difference:
    """delta − sum with the same feature map, paired by trial."""

    delta: str
    sum: str
    implementation: str
    trials: Sequence[float]
    mean: Mean


@dataclass(frozen=True)
class Text:
    """Everything about one data set."""

    scores: Scores
    common: str
    differences: Sequence[Difference]
    panels: Panels | None


def language(evidence: Evidence, dress: Mapping[Operator, Style]) -> list[Text]:
    return [
        Text(
            scores,
            shared(scores.cases, ("dtype", "B", "T", "H", "K", "V")),
            _differences(scores.curves),
            learning_panels(scores.curves, dress),
        )
        for scores in scores_of(evidence, PERPLEXITY)
    ]


def _differences(curves: Sequence[Curve]) -> list[Difference]:
    pairs = [
        (delta, other)
        for delta in curves
        for other in curves
        if (delta.operator.rule, other.operator.rule) == ("delta", "sum")
        if delta.operator.phi == other.operator.phi
        if (delta.implementation, delta.conditions) == (other.implementation, other.conditions)
    ]
    return [made for pair in pairs if (made := _difference(*pair)) is not None]


def _difference(delta: Curve, other: Curve) -> Difference | None:
    sums = {parameter(case, "trial"): case.value(PERPLEXITY.metric) for case in other.cases}
    differences = [
        first - second
        for case in delta.cases
        if (first := case.value(PERPLEXITY.metric)) is not None
        if (second := sums.get(parameter(case, "trial"))) is not None
    ]
    mean = mean_of(differences)
    if mean is None:
        return None
    return Difference(delta.name, other.name, delta.implementation, differences, mean)
