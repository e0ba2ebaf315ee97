"""Translation: BLEU a trial beside what copying and a dictionary give, and a few sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fwpbench.reports.curves import Curve
from fwpbench.reports.evidence import Case, Evidence, Operator, shared
from fwpbench.reports.palette import Style
from fwpbench.reports.quality_trials import (
    Mean,
    Scored,
    Scores,
    learning_panels,
    mean_of,
    scores_of,
    text_of,
    values_of,
)
from fwpbench.reports.section import Panels
from fwpbench.reports.units import clipped

BLEU = Scored(
    "translation",
    "bleu",
    "higher",
    {"copy bleu": "Copy: the source as it stands", "dictionary bleu": "Dictionary: word by word"},
    most=100.0,
)
#: The other score that is shown.
CHRF = "chrf"
MOST_SENTENCES = 5
MOST_SIGNATURES = 6
NAMES = {"bleu": "BLEU", "chrf": "chrF"}


@dataclass(frozen=True)
class Sentence:
    source: str
    reference: str
    #: (model, what it made of the source, whether that is the reference)
    made: Sequence[tuple[str, str, bool]]


@dataclass(frozen=True)
class Pair:
    """Everything about one data set; `chrf` is of each line of the scores.

    `signatures` name how each score was counted; `encoders` say what read the source, of which
    models.
    """

    scores: Scores
    chrf: Sequence[Mean | None]
    common: str
    signatures: Sequence[tuple[str, str]]
    encoders: Sequence[tuple[str, Sequence[str]]]
    sentences: Sequence[Sentence]
    panels: Panels | None


def translation(evidence: Evidence, dress: Mapping[Operator, Style]) -> list[Pair]:
    return [_pair(scores, dress) for scores in scores_of(evidence, BLEU)]


def _pair(scores: Scores, dress: Mapping[Operator, Style]) -> Pair:
    return Pair(
        scores,
        [mean_of(values_of(curve, CHRF), BLEU.most) for curve in scores.curves],
        shared(scores.cases, ("dtype", "B", "H", "K", "V")),
        _signatures(scores.cases),
        _encoders(scores.curves),
        _sentences(scores.curves),
        learning_panels(scores.curves, dress),
    )


def _signatures(cases: Sequence[Case]) -> list[tuple[str, str]]:
    found: dict[tuple[str, str], None] = {}
    for case in cases:
        listed = case.record.detail.get("signatures")
        for name, signature in (listed if isinstance(listed, dict) else {}).items():
            found[NAMES.get(name, clipped(str(name), 20)), text_of(signature)] = None
    return list(found)[:MOST_SIGNATURES]


def _encoders(curves: Sequence[Curve]) -> list[tuple[str, list[str]]]:
    found: dict[str, list[str]] = {}
    for curve in curves:
        if words := text_of(curve.cases[0].record.detail.get("encoder")):
            found.setdefault(words, []).append(f"{curve.name} ({curve.implementation})")
    return list(found.items())


def _sentences(curves: Sequence[Curve]) -> list[Sentence]:
    """The first sentences, each with what every model's first trial made of it."""
    made: dict[tuple[str, str], dict[str, str]] = {}
    for curve in curves:
        name = f"{curve.name} ({curve.implementation})"
        listed = curve.cases[0].record.detail.get("examples")
        for one in (listed if isinstance(listed, list) else [])[:MOST_SENTENCES]:
            if isinstance(one, dict):
                source, reference, output = (
                    text_of(one.get(word)) for word in ("source", "reference", "translation")
                )
                made.setdefault((source, reference), {}).setdefault(name, output)
    return [
        Sentence(
            source, reference, [(name, out, out == reference) for name, out in outputs.items()]
        )
        for (source, reference), outputs in list(made.items())[:MOST_SENTENCES]
    ]
