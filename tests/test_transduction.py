"""The made-up language pair: a function, with the phenomena it claims, that no dictionary does."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import islice

import pytest

from fwpbench.suites.transduction import (
    ADJECTIVES,
    CASES,
    LIVING,
    LONGEST,
    OBJECTS,
    SPLITS,
    VERBS,
    Meaning,
    Phrase,
    sentences,
    splits,
)
from fwpbench.suites.translation_data import copied, corpus_of, looked_up

EVERY = [sentence for split in splits().values() for sentence in split]
ENGLISH = {noun.english: noun for noun in (*LIVING, *OBJECTS)}
VERB = {verb.english: verb for verb in VERBS}


def test_the_data_are_those_that_were_frozen():
    """Digests from before any model was trained on them. Other data are another data set: they
    would need another name."""
    text = {
        name: "\n".join(f"{s.source}\t{s.target}" for s in split)
        for name, split in splits().items()
    }
    digests = {name: hashlib.sha256(said.encode()).hexdigest() for name, said in text.items()}
    assert digests == {
        "train": "fb7ccc769846167ebf816c4965d560342127997272f4ae4f9bc4393c8b642e10",
        "valid": "40641fd2e42116c879f2438f98f2047ec1a066bdc64dbbe152cf8902b1f77839",
        "test": "118d637a430841b3bfe056a35361cb0b586c0fe1aadf5d5e40e18f5047cfcef7",
    }
    assert {name: len(split) for name, split in splits().items()} == SPLITS


def test_other_seeds_say_other_things():
    assert set(islice(sentences(1), 100)).isdisjoint(islice(sentences(2), 100))


def test_the_translation_is_a_function():
    """Over many more sentences than the data set has, drawn with other seeds."""
    translations = dict[str, str]()
    for seed in range(3):
        for sentence in islice(sentences(seed), 10_000):
            assert translations.setdefault(sentence.source, sentence.target) == sentence.target


def test_no_sentence_is_in_two_splits_or_twice_in_one():
    assert len({sentence.source for sentence in EVERY}) == len(EVERY)
    assert len({sentence.target for sentence in EVERY}) == len(EVERY)


def test_a_sentence_has_at_most_twelve_words():
    for sentence in EVERY:
        assert min(len(sentence.source.split()), len(sentence.target.split())) >= 5
        assert max(len(sentence.source.split()), len(sentence.target.split())) <= LONGEST == 12


@pytest.mark.parametrize("split", SPLITS)
def test_every_phenomenon_occurs_in_a_fifth_of_the_sentences(split):
    here = splits()[split]
    counts = Counter(each for sentence in here for each in sentence.phenomena)
    assert set(counts) == {
        "verb-final", "bracket", "inversion", "separable", "agreement", "compound",
    }  # fmt: skip
    assert min(counts.values()) > 0.2 * len(here)


def test_every_word_of_the_held_out_sentences_was_seen_in_training():
    for side in ("source", "target"):
        seen = {word for s in splits()["train"] for word in getattr(s, side).split()}
        for split in ("valid", "test"):
            assert {word for s in splits()[split] for word in getattr(s, side).split()} <= seen


def phrase(text: str) -> Phrase:
    article, *words = text.split()
    adjective = words.pop(0) if words[0] in ADJECTIVES else ""
    joined = words.pop(0) if len(words) == 2 else ""
    return Phrase(article == "the", adjective, joined, ENGLISH[words[0]])


def meaning(
    before: str, subject: str, modal: str, verb: str, thing: str, rest: str = ""
) -> Meaning:
    preposition, _, beside = rest.partition(" ")
    said = phrase(beside) if beside else None
    return Meaning(
        tuple(before.split()), phrase(subject), modal, VERB[verb], phrase(thing), preposition, said
    )


@pytest.mark.parametrize(
    ("drawn", "source", "target"),
    [
        (
            meaning("", "the dog", "", "see", "the ball"),
            "the dog sees the ball",
            "der Hund sieht den Ball",
        ),
        (
            meaning("Anna hopes", "a dog", "", "see", "the ball"),
            "Anna hopes that a dog sees the ball",
            "Anna hofft dass ein Hund den Ball sieht",
        ),
        (
            meaning("", "the man", "must", "buy", "a cup"),
            "the man must buy a cup",
            "der Mann muss eine Tasse kaufen",
        ),
        (
            meaning("Tom says", "the man", "must", "buy", "a cup", "with a flower"),
            "Tom says that the man must buy a cup with a flower",
            "Tom sagt dass der Mann eine Tasse mit einer Blume kaufen muss",
        ),
        (
            meaning("today", "the cat", "", "find", "an old book"),
            "today the cat finds an old book",
            "heute findet die Katze ein altes Buch",
        ),
        (
            meaning("", "a woman", "", "pick", "the lamp"),
            "a woman picks up the lamp",
            "eine Frau hebt die Lampe auf",
        ),
        (
            meaning("often", "a woman", "can", "pick", "the lamp"),
            "often a woman can pick up the lamp",
            "oft kann eine Frau die Lampe aufheben",
        ),
        (
            meaning("Paul knows", "a woman", "", "pick", "the lamp"),
            "Paul knows that a woman picks up the lamp",
            "Paul weiß dass eine Frau die Lampe aufhebt",
        ),
        (
            meaning("", "the child", "", "see", "a kitchen table", "beside a new garden window"),
            "the child sees a kitchen table beside a new garden window",
            "das Kind sieht einen Küchentisch neben einem neuen Gartenfenster",
        ),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_every_phenomenon_by_example(drawn, source, target):
    assert " ".join(drawn.english()) == source
    assert " ".join(drawn.german()) == target


@pytest.mark.parametrize(
    ("english", "german"),
    [
        ("the red ball", ["der rote Ball", "den roten Ball", "dem roten Ball"]),
        ("a red ball", ["ein roter Ball", "einen roten Ball", "einem roten Ball"]),
        ("the red cup", ["die rote Tasse", "die rote Tasse", "der roten Tasse"]),
        ("a red cup", ["eine rote Tasse", "eine rote Tasse", "einer roten Tasse"]),
        ("the red book", ["das rote Buch", "das rote Buch", "dem roten Buch"]),
        ("a red book", ["ein rotes Buch", "ein rotes Buch", "einem roten Buch"]),
    ],
)
def test_articles_and_adjectives_end_as_gender_and_case_say(english, german):
    assert [" ".join(phrase(english).german(case)) for case in CASES] == german


def test_neither_copying_nor_a_dictionary_translates():
    """Word by word, two in three words are right, and still BLEU is below 30."""
    sacrebleu = pytest.importorskip("sacrebleu")
    corpus = corpus_of("transduction", None)
    references = [[pair.target for pair in corpus.test]]
    bleu = {
        baseline: sacrebleu.BLEU().corpus_score(baseline(corpus), references).score
        for baseline in (copied, looked_up)
    }
    assert bleu[copied] < 1
    assert 10 < bleu[looked_up] < 30
    exact = sacrebleu.BLEU().corpus_score(references[0], references)
    assert exact.score == pytest.approx(100)
