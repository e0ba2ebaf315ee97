"""Language modelling: perplexity a trial between the unigram's and the known floor."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fwpbench.reports.curves import Curve
from fwpbench.reports.evidence import Case, Evidence, Operator, is_number, shared
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


#: log p of every segment of the test text, summed over its tokens, and how many these are.
LIKELIHOOD, TOKENS = "test log-likelihood", "test tokens"
#: Of a normal distribution, at 97.5 %.
Z_975 = 1.96
#: In nats a token: models that differ by more are not compared.
LARGEST = 50.0


@dataclass(frozen=True)
class Difference:
    """delta − sum with the same feature map, paired by trial.

    `mean` is of the perplexities, over trials: what another training would give. `relative` is
    perplexity ÷ perplexity − 1 with its bounds over the segments of the test text: what another
    text would give, of these very trainings.
    """

    delta: str
    sum: str
    implementation: str
    trials: Sequence[float]
    mean: Mean
    relative: tuple[float, float, float] | None


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
    sums = {parameter(case, "trial"): case for case in other.cases}
    pairs = [
        (case, sums[trial]) for case in delta.cases if (trial := parameter(case, "trial")) in sums
    ]
    differences = [
        first - second
        for one, two in pairs
        if (first := one.value(PERPLEXITY.metric)) is not None
        if (second := two.value(PERPLEXITY.metric)) is not None
    ]
    mean = mean_of(differences)
    if mean is None:
        return None
    names = delta.name, other.name, delta.implementation
    return Difference(*names, differences, mean, over_segments(pairs))


def over_segments(pairs: Sequence[tuple[Case, Case]]) -> tuple[float, float, float] | None:
    """exp(Δ) − 1 and its 95 % bounds; Δ is the mean loss of the first of each pair minus that of
    the second, a token. None where segments are missing or not the same."""
    tokens: list[float] | None = None
    lost: list[list[float]] = []
    for one, two in pairs:
        first, second = (_segments(case, LIKELIHOOD) for case in (one, two))
        sizes = [_segments(case, TOKENS) for case in (one, two)]
        tokens = tokens or sizes[0]
        if not first or len(first) != len(second) or not (tokens == sizes[0] == sizes[1]):
            return None
        lost.append([theirs - ours for ours, theirs in zip(first, second, strict=True)])
    if not tokens or len(tokens) < 2 or len(tokens) != len(lost[0]):
        return None
    by_segment = [statistics.fmean(each) for each in zip(*lost, strict=True)]
    middle = math.fsum(by_segment) / math.fsum(tokens)
    half = Z_975 * statistics.stdev(by_segment) * math.sqrt(len(tokens)) / math.fsum(tokens)
    if not abs(middle) + half < LARGEST:
        return None
    return math.expm1(middle), math.expm1(middle - half), math.expm1(middle + half)


def _segments(case: Case, name: str) -> list[float]:
    """Empty where one is missing."""
    values = case.record.samples.get(name, [])
    found = [value for value in values if value is not None and is_number(value)]
    return found if len(found) == len(values) else []
