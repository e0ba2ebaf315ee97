"""Which bug is it? A failure is compared with what each mutant's failure looks like."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from fwpbench.harness.agreement import Agreement
from fwpbench.harness.fingerprint import Fingerprint, fingerprint, likeness, location
from fwpbench.harness.gate import judge
from fwpbench.harness.golden import Truths
from fwpbench.harness.laws import Laws
from fwpbench.harness.mutants import MUTANTS
from fwpbench.harness.mutants.mutant import CHUNKS
from fwpbench.operators.problem import Problem

#: Less alike than this is another bug; two this close to each other cannot be told apart.
ALIKE, APART = 0.8, 0.03
MOST = 2

truths = Truths(64)


def explained(agreement: Agreement, laws: Laws | None, problem: Problem) -> Agreement:
    """The same with a reason that says where a failure begins, and which mutant it looks like."""
    if agreement.status not in ("incorrect", "not-finite") or not agreement.comparisons:
        return agreement
    found = fingerprint(agreement, laws, problem.tokens)
    sentences = [agreement.reason, location(found)]
    if names := suspects(found, problem):
        sentences.append(f"looks like: {', or '.join(names)}")
    return replace(agreement, reason="; ".join(sentence for sentence in sentences if sentence))


def suspects(found: Fingerprint, problem: Problem) -> list[str]:
    """The mutants that a failure looks like, the likeliest first; none where it is new."""
    if problem.direction == "decode":  # one token says too little
        return []
    scores: dict[str, float] = {}
    for name, mutant in MUTANTS.items():
        if mutant.concerns(problem.operator):
            for chunk in CHUNKS if mutant.chunked else CHUNKS[:1]:
                known = _fingerprint_of(name, chunk, problem.direction)
                scores[name] = max(scores.get(name, 0.0), likeness(found, known))
    best = max(scores.values(), default=0.0)
    likely = [name for name, score in scores.items() if score >= max(ALIKE, best - APART)]
    return sorted(likely, key=lambda name: -scores[name])[:MOST]


@cache
def _fingerprint_of(name: str, chunk: int, direction: str) -> Fingerprint:
    """In float32 and on its own operator: computed once, when a failure asks for it."""
    mutant = MUTANTS[name]
    problem = next(p for p in mutant.problems("fp32") if p.direction == direction)
    agreement, laws = judge(mutant.make(chunk), problem, truths(problem, 0))
    return fingerprint(agreement, laws, problem.tokens)
