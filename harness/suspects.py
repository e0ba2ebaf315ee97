"""Which bug is it? A failure is compared with how the mutants fail on the very same problem."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from fwpbench.harness.agreement import Agreement, check
from fwpbench.harness.fingerprint import CHUNKS, Fingerprint, fingerprint, likeness, location
from fwpbench.harness.gate import judge
from fwpbench.harness.golden import Truth, Truths
from fwpbench.harness.laws import Laws
from fwpbench.harness.mutants import MUTANTS
from fwpbench.harness.mutants.mutant import linear
from fwpbench.operators.problem import Problem

#: Less alike than this is another bug; two this close to each other cannot be told apart.
ALIKE, APART = 0.8, 0.03
MOST = 2
#: How many mutants are asked all that was asked of the implementation.
ASKED_AGAIN = 8

truths = Truths(64)

#: A mutant's name and its chunk.
Known = tuple[str, int]


@dataclass(frozen=True)
class Seen:
    """How an implementation did on one problem, right or wrong; several say more than one."""

    problem: Problem
    truth: Truth
    found: Fingerprint


def explained(agreement: Agreement, laws: Laws | None, problem: Problem, truth: Truth) -> Agreement:
    """The same with a reason that says where a failure begins, and which mutant it looks like."""
    placed = located(agreement, laws, problem)
    if placed is agreement:
        return agreement
    names = suspects([Seen(problem, truth, fingerprint(agreement, laws, problem.tokens))])
    return replace(placed, reason=f"{placed.reason}; {looks_like(names)}") if names else placed


def located(agreement: Agreement, laws: Laws | None, problem: Problem) -> Agreement:
    """The same with a reason that says where a failure begins."""
    if agreement.status not in ("incorrect", "not-finite") or not agreement.comparisons:
        return agreement
    where = location(fingerprint(agreement, laws, problem.tokens))
    return replace(agreement, reason="; ".join(filter(None, [agreement.reason, where])))


def looks_like(names: Sequence[str]) -> str:
    return f"looks like: {', or '.join(names)}"


def suspects(seen: Sequence[Seen]) -> list[str]:
    """The mutants that failures look like, the likeliest first; none where the bug is new.

    All are asked the first problem; the likeliest then all that was seen, laws too. Decoding is
    left out: one token says too little.
    """
    seen = [one for one in seen if one.problem.direction != "decode"]
    if not seen:
        return []
    if not all(_has_form(one.problem) for one in seen):
        return _likeliest(_compared_on_their_own_operators(seen[0]))
    known = [
        (name, chunk)
        for name, mutant in MUTANTS.items()
        if mutant.concerns(seen[0].problem.operator)
        for chunk in (_chunks_shown(seen) if mutant.chunked else CHUNKS[:1])
    ]
    first = replace(seen[0], found=replace(seen[0].found, laws=None))
    alone = {each: likeness(first.found, _asked(each, first)) for each in known}
    scores: dict[str, float] = {}
    for each in sorted(known, key=lambda each: -alone[each])[:ASKED_AGAIN]:
        alike = [likeness(one.found, _asked(each, one)) for one in seen]
        scores[each[0]] = max(scores.get(each[0], 0.0), sum(alike) / len(alike))
    return _likeliest(scores)


def _likeliest(scores: Mapping[str, float]) -> list[str]:
    best = max(scores.values(), default=0.0)
    likely = [name for name, score in scores.items() if score >= max(ALIKE, best - APART)]
    return sorted(likely, key=lambda name: -scores[name])[:MOST]


def _has_form(problem: Problem) -> bool:
    """Whether the form that mutants are made of computes this problem."""
    return linear(problem.operator) and problem.causal and problem.reads and not problem.masked


def _chunks_shown(seen: Iterable[Seen]) -> list[int]:
    """Sizes of chunks that explain where failures begin and end, and those that kernels have."""
    borders = {
        token
        for one in seen
        for place in one.found.places.values()
        if place.first is not None and place.last is not None
        for token in (place.first, place.last + 1)
        if 8 <= token < place.tokens
    }
    explains = {C: sum(token % C == 0 for token in borders) for C in range(128, 7, -1)}
    shown = sorted((C for C in explains if explains[C]), key=lambda C: -explains[C])
    return list(dict.fromkeys([*shown[:4], *CHUNKS]))


def _asked(known: Known, one: Seen) -> Fingerprint:
    """What the mutant's failure on this problem looks like; laws are asked where they were."""
    run, problem = MUTANTS[known[0]].make(known[1]), one.problem
    try:
        if one.found.laws is not None:
            return fingerprint(*judge(run, problem, one.truth), problem.tokens)
        return fingerprint(check(run, problem, one.truth), None, problem.tokens)
    except RuntimeError:  # a mutant may not be able to do this problem at all
        return Fingerprint("runtime-error", frozenset(), {}, {}, None)


def _compared_on_their_own_operators(one: Seen) -> dict[str, float]:
    """For rules that the mutants' form does not know: what is no arithmetic fails alike."""
    names = [name for name, mutant in MUTANTS.items() if mutant.concerns(one.problem.operator)]
    return {
        name: likeness(one.found, _fingerprint_of(name, one.problem.direction)) for name in names
    }


@cache
def _fingerprint_of(name: str, direction: str) -> Fingerprint:
    """In float32 and on its own operator: computed once, when a failure asks for it."""
    mutant = MUTANTS[name]
    problem = next(p for p in mutant.problems("fp32") if p.direction == direction)
    agreement, laws = judge(mutant.make(CHUNKS[0]), problem, truths(problem, 0))
    return fingerprint(agreement, laws, problem.tokens)
