"""The text whose every conditional probability is known: that they are the ones it is drawn by."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch

from fwpbench.operators.streams import stream
from fwpbench.suites.grammar import DOCUMENTS, GRAMMAR, LENGTH, Grammar, floor, part

#: Small enough that all its documents can be written out.
TINY = Grammar(names=2, colours=2, nouns=1, length=6)


def every_document(
    grammar: Grammar, tokens: tuple[int, ...] = (0,), probability: float = 1.0
) -> Iterator[tuple[tuple[int, ...], float]]:
    """All documents, each with the product of the probabilities of its tokens."""
    if len(tokens) == grammar.length:
        yield tokens, probability
        return
    state = grammar.start
    for token in tokens[1:]:
        state = grammar.next(state, grammar.words[token])
    for word, p in grammar.distribution(state).items():
        yield from every_document(grammar, (*tokens, grammar.words.index(word)), probability * p)


def documents(name: str) -> list[tuple[int, ...]]:
    tokens = part(name)
    return [tokens[i : i + LENGTH] for i in range(0, len(tokens), LENGTH)]


def test_the_probabilities_of_every_next_token_sum_to_one_and_none_is_zero() -> None:
    for document in documents("test")[:40]:
        state = GRAMMAR.start
        for token in document[1:]:
            choices = GRAMMAR.distribution(state)
            assert sum(choices.values()) == pytest.approx(1.0, abs=1e-12)
            assert min(choices.values()) > 0
            assert set(choices) <= set(GRAMMAR.words)
            state = GRAMMAR.next(state, GRAMMAR.words[token])


def test_a_tiny_grammar_written_out_has_the_probability_and_the_entropy_that_are_told() -> None:
    """The sum over all documents of p and of p · mean surprisal: no renaming, no bookkeeping."""
    pairs = list(every_document(TINY))
    assert len({tokens for tokens, _ in pairs}) == len(pairs)
    assert math.fsum(p for _, p in pairs) == pytest.approx(1.0, abs=1e-12)
    for tokens, p in pairs:
        assert math.fsum(TINY.surprisals(tokens)) == pytest.approx(-math.log(p))
    entropy = -math.fsum(p * math.log(p) for _, p in pairs) / TINY.length
    assert TINY.expected_floor() == pytest.approx(entropy, rel=1e-12)


def test_documents_are_drawn_as_often_as_they_are_probable() -> None:
    """Every one within five standard deviations, and none that should not be there."""
    exact = dict(every_document(small := Grammar(names=2, colours=2, nouns=1, length=4)))
    drawn, generator = 20_000, stream(0, "documents of a tiny grammar")
    seen = Counter(tuple(small.document(generator)) for _ in range(drawn))
    assert set(seen) <= set(exact)
    for document, p in exact.items():
        assert abs(seen[document] - drawn * p) <= 5 * math.sqrt(drawn * p * (1 - p)) + 1


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_floor_of_a_text_is_its_expectation_within_four_standard_errors(name: str) -> None:
    means = torch.tensor([floor(each) for each in documents(name)[:400]], dtype=torch.float64)
    error = float(means.std()) / math.sqrt(len(means))
    assert abs(float(means.mean()) - GRAMMAR.expected_floor()) < 4 * error
    assert 1.5 < GRAMMAR.expected_floor() < 1.7  # e^1.6 is a perplexity of 5


def test_still_is_answered_by_the_latest_colour_of_that_name() -> None:
    """By reading the text alone; and often by one that is not the name's first."""
    overwritten = 0
    for document in documents("test"):
        words, latest, first = [GRAMMAR.words[token] for token in document], {}, {}
        for at, word in enumerate(words):
            opening, rest = word, words[at + 1 : at + 3]
            if "-" in word:
                rest = word.split("-")
            elif opening not in ("now", "still") or len(rest) < 2:
                continue
            name, colour = rest
            if opening == "still":
                assert latest[name] == colour
                overwritten += first[name] != colour
            else:
                assert latest.get(name) != colour, "it is bound to another than it was"
                latest[name] = colour
                first.setdefault(name, colour)
    recalls = sum(document.count(GRAMMAR.words.index("still")) for document in documents("test"))
    assert 0.3 < overwritten / recalls < 0.7


def test_verbs_agree_with_their_determiner_over_any_number_of_adjectives() -> None:
    for document in documents("test"):
        ending = ""
        for word, after in pairwise(GRAMMAR.words[token] for token in document):
            if word in ("a", "the"):
                ending = "s" if word == "a" else ""
            if word in ("dog", "bird", "horse", "child", "fox"):
                assert after in ("sing" + ending, "run" + ending, "sleep" + ending)


def test_parts_share_no_document() -> None:
    whole = [document for name in DOCUMENTS for document in documents(name)]
    assert len(set(whole)) == len(whole) == sum(DOCUMENTS.values())


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("train", "bc7cfa92c79cf756318d4a41b572666ad1d2495171d627a93b367f5acf6e2666"),
        ("validation", "9fabd165dce7efd2d17c31e4f60cae045e0db70d03576f48b6ccdb1c7b5c7560"),
        ("test", "6f36bf9a54a94176ccd6a70d33d5b29c36457041d71c1e9f126a6a9aa5747882"),
    ],
)
def test_the_text_is_the_one_that_was_frozen(name: str, digest: str) -> None:
    """Changing it makes every number measured on it another question."""
    tokens = bytes(part(name))
    assert hashlib.sha256(tokens).hexdigest() == digest
    assert len(tokens) == DOCUMENTS[name] * LENGTH


def test_the_vocabulary_has_no_word_twice_and_all_of_it_is_used() -> None:
    assert len(set(GRAMMAR.words)) == len(GRAMMAR.words) == 99
    assert set(part("train")) == set(range(99))
