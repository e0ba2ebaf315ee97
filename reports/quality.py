"""What operators learn: retrieval, language modelling, translation; the paper beside them."""

from __future__ import annotations

from fwpbench.reports.evidence import Evidence
from fwpbench.reports.quality_language import language
from fwpbench.reports.quality_paper import STANDINGS, paper
from fwpbench.reports.quality_retrieval import retrieval
from fwpbench.reports.quality_translation import translation
from fwpbench.reports.quality_trials import SUITES, dress_of, signed
from fwpbench.reports.section import Section


def section(evidence: Evidence) -> Section | None:
    if not any(evidence.of(suite) for suite in SUITES):
        return None
    dress = dress_of(evidence)
    pairs = retrieval(evidence, dress)
    texts, translated = language(evidence, dress), translation(evidence, dress)
    panels = [pairs["losses"], *pairs["learning"]] if pairs else []
    content = {
        "signed": signed,
        "retrieval": pairs,
        "texts": texts,
        "pairs": translated,
        "paper": paper(evidence),
        "standings": STANDINGS,
        "panels": [*panels, *(text.panels for text in texts), *(one.panels for one in translated)],
    }
    return Section(
        "quality", "Quality", "What does each operator learn?", "quality.html.jinja", content
    )
