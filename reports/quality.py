"""What operators learn: retrieval, language modelling, translation; the paper beside them."""

from __future__ import annotations

from fwpbench.reports.evidence import Evidence
from fwpbench.reports.pareto import fronts
from fwpbench.reports.quality_language import language
from fwpbench.reports.quality_paper import STANDINGS, paper
from fwpbench.reports.quality_retrieval import retrieval
from fwpbench.reports.quality_translation import translation
from fwpbench.reports.quality_trials import SUITES, dress_of, signed
from fwpbench.reports.section import Section


def section(evidence: Evidence) -> Section | None:
    trained = any(evidence.of(suite) for suite in SUITES)
    dress = dress_of(evidence)
    best = fronts(evidence, dress)
    if not trained and not best:
        return None
    pairs = retrieval(evidence, dress)
    texts, translated = language(evidence, dress), translation(evidence, dress)
    panels = [pairs["losses"], *pairs["learning"]] if pairs else []
    content = {
        "signed": signed,
        "retrieval": pairs,
        "texts": texts,
        "pairs": translated,
        "fronts": best,
        "evidence": evidence,
        "paper": paper(evidence) if trained else [],
        "standings": STANDINGS,
        "panels": [
            *panels,
            *(text.panels for text in texts),
            *(one.panels for one in translated),
            *(front.panels for front in best),
        ],
    }
    return Section(
        "quality", "Quality", "What does each operator learn?", "quality.html.jinja", content
    )
