"""`transduction`: a made-up pair of languages with an exact translation, so 100 BLEU is possible.

A small English into a small German, of whole words and without punctuation. A sentence is drawn as
what it says and spoken in both languages, by rules that need more than a dictionary:
    verb-final  *Anna hopes that a dog sees the ball*: … dass ein Hund den Ball sieht
    bracket     *the man must buy a cup*: der Mann muss eine Tasse kaufen
    inversion   *today the man sees …*: heute sieht der Mann …
    separable   *picks up the ball*: hebt den Ball auf, but … dass ein Mann den Ball aufhebt
    agreement   articles and adjectives end as the noun's gender and case say: ein roter Ball, einen
                roten Ball, mit einem roten Ball, die rote Tasse
    compound    *kitchen table*: Küchentisch, with the gender of its second noun
English says all of what German needs but the genders, which belong to the nouns: the translation is
a function of the sentence. No sentence is in two of the splits, nor twice in one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, TypeVar

import torch

from fwpbench.operators.streams import stream

#: Sentences drawn, in this order.
SPLITS = {"train": 20_000, "valid": 500, "test": 500}
#: Words, in either language.
LONGEST = 12
#: Of the data; what is trained on them has seeds of its own.
SEED = 0


class Sentence(NamedTuple):
    """The same in both languages; `phenomena` are those that its translation shows."""

    source: str
    target: str
    phenomena: frozenset[str]


@dataclass(frozen=True)
class Noun:
    english: str
    german: str
    gender: str


@dataclass(frozen=True)
class Verb:
    """`english` without its -s; a separable one has its prefix and its particle."""

    english: str
    finite: str
    infinitive: str
    particle: str = ""
    prefix: str = ""


LIVING = (
    Noun("man", "Mann", "m"), Noun("dog", "Hund", "m"), Noun("woman", "Frau", "f"),
    Noun("cat", "Katze", "f"), Noun("child", "Kind", "n"), Noun("horse", "Pferd", "n"),
)  # fmt: skip
OBJECTS = (
    Noun("table", "Tisch", "m"), Noun("chair", "Stuhl", "m"), Noun("ball", "Ball", "m"),
    Noun("lamp", "Lampe", "f"), Noun("cup", "Tasse", "f"), Noun("flower", "Blume", "f"),
    Noun("book", "Buch", "n"), Noun("picture", "Bild", "n"), Noun("window", "Fenster", "n"),
)  # fmt: skip
#: What may stand before a thing, and how it is joined to it.
JOINED = {"kitchen": "Küchen", "garden": "Garten", "school": "Schul", "toy": "Spielzeug"}
ADJECTIVES = {"old": "alt", "small": "klein", "red": "rot", "new": "neu", "heavy": "schwer"}
VERBS = (
    Verb("see", "sieht", "sehen"), Verb("buy", "kauft", "kaufen"),
    Verb("paint", "malt", "malen"), Verb("find", "findet", "finden"),
    Verb("pick", "hebt", "heben", "up", "auf"), Verb("put", "räumt", "räumen", "away", "weg"),
    Verb("bring", "bringt", "bringen", "along", "mit"), Verb("look", "sieht", "sehen", "at", "an"),
)  # fmt: skip
MODALS = {"must": "muss", "can": "kann", "may": "darf"}
ADVERBS = {"today": "heute", "often": "oft", "here": "hier", "tomorrow": "morgen"}
PREPOSITIONS = {"with": "mit", "behind": "hinter", "beside": "neben"}
NAMES = ("Anna", "Tom", "Paul", "Maria")
CLAIMS = {"believes": "glaubt", "knows": "weiß", "hopes": "hofft", "says": "sagt"}

#: (nominative, accusative, dative) of each gender: the articles, and how an adjective ends.
CASES = {"nominative": 0, "accusative": 1, "dative": 2}
THE = {"m": ("der", "den", "dem"), "f": ("die", "die", "der"), "n": ("das", "das", "dem")}
AN = {"m": ("ein", "einen", "einem"), "f": ("eine", "eine", "einer"), "n": ("ein", "ein", "einem")}
AFTER_THE = {"m": ("e", "en", "en"), "f": ("e", "e", "en"), "n": ("e", "e", "en")}
AFTER_AN = {"m": ("er", "en", "en"), "f": ("e", "e", "en"), "n": ("es", "es", "en")}


@dataclass(frozen=True)
class Phrase:
    """An article, perhaps an adjective, perhaps a noun joined to the noun."""

    definite: bool
    adjective: str
    joined: str
    noun: Noun

    def english(self) -> list[str]:
        article = "the" if self.definite else "a"
        if not self.definite and (self.adjective or self.joined or self.noun.english)[0] in "aeiou":
            article = "an"
        return [w for w in (article, self.adjective, self.joined, self.noun.english) if w]

    def german(self, case: str) -> list[str]:
        gender, number = self.noun.gender, CASES[case]
        articles, endings = (THE, AFTER_THE) if self.definite else (AN, AFTER_AN)
        words = [articles[gender][number]]
        if self.adjective:
            words.append(ADJECTIVES[self.adjective] + endings[gender][number])
        noun = self.noun.german
        return [*words, JOINED[self.joined] + noun.lower() if self.joined else noun]


@dataclass(frozen=True)
class Meaning:
    """Who does what; `before` is an adverb, or somebody and what they claim, or nothing."""

    before: tuple[str, ...]
    subject: Phrase
    modal: str
    verb: Verb
    thing: Phrase
    preposition: str
    beside: Phrase | None

    def english(self) -> list[str]:
        verb = self.verb.english if self.modal else f"{self.verb.english}s"
        words = [*self.before, "that"] if len(self.before) == 2 else [*self.before]
        words += [*self.subject.english(), self.modal, verb, self.verb.particle]
        words += self.thing.english()
        if self.beside is not None:
            words += [self.preposition, *self.beside.english()]
        return [word for word in words if word]

    def german(self) -> list[str]:
        subject, rest = self.subject.german("nominative"), self.thing.german("accusative")
        if self.beside is not None:
            rest += [PREPOSITIONS[self.preposition], *self.beside.german("dative")]
        verb = self.verb
        if self.modal:
            finite, last = MODALS[self.modal], verb.prefix + verb.infinitive
        else:
            finite, last = verb.finite, verb.prefix
        if len(self.before) == 2:
            name, claim = self.before
            end = [last, finite] if self.modal else [verb.prefix + verb.finite]
            words = [name, CLAIMS[claim], "dass", *subject, *rest, *end]
        elif self.before:
            words = [ADVERBS[self.before[0]], finite, *subject, *rest, last]
        else:
            words = [*subject, finite, *rest, last]
        return [word for word in words if word]

    def phenomena(self) -> frozenset[str]:
        shown = {
            "verb-final": len(self.before) == 2,
            "bracket": bool(self.modal) and len(self.before) < 2,
            "inversion": len(self.before) == 1,
            "separable": bool(self.verb.prefix),
            "agreement": True,
            "compound": any(
                phrase is not None and phrase.joined for phrase in (self.thing, self.beside)
            ),
        }
        return frozenset(name for name, here in shown.items() if here)


Thing = TypeVar("Thing")


class _Chance:
    """Numbers drawn beforehand, and what is chosen by them."""

    #: More than a meaning needs.
    NUMBERS = 24

    def __init__(self, numbers: list[float]):
        self._numbers = iter(numbers)

    def often(self, fraction: float) -> bool:
        return next(self._numbers) < fraction

    def one_of(self, things: tuple[Thing, ...]) -> Thing:
        return things[int(next(self._numbers) * len(things))]


def _phrase(chance: _Chance, nouns: tuple[Noun, ...]) -> Phrase:
    definite = chance.often(0.5)
    adjective = chance.one_of(tuple(ADJECTIVES)) if chance.often(0.5) else ""
    noun = chance.one_of(nouns)
    joined = chance.one_of(tuple(JOINED)) if noun in OBJECTS and chance.often(0.4) else ""
    return Phrase(definite, adjective, joined, noun)


def _meaning(chance: _Chance) -> Meaning:
    before: tuple[str, ...] = ()
    if chance.often(0.45):
        before = (chance.one_of(NAMES), chance.one_of(tuple(CLAIMS)))
    elif chance.often(0.6):
        before = (chance.one_of(tuple(ADVERBS)),)
    subject = _phrase(chance, LIVING)
    modal = chance.one_of(tuple(MODALS)) if chance.often(0.4) else ""
    verb, thing = chance.one_of(VERBS), _phrase(chance, OBJECTS)
    if not chance.often(0.4):
        return Meaning(before, subject, modal, verb, thing, "", None)
    preposition = chance.one_of(tuple(PREPOSITIONS))
    return Meaning(before, subject, modal, verb, thing, preposition, _phrase(chance, OBJECTS))


def sentences(seed: int) -> Iterator[Sentence]:
    """Without end, none twice."""
    generator, seen = stream(seed, "transduction"), set[str]()
    while True:
        numbers = torch.rand(1024, _Chance.NUMBERS, generator=generator, dtype=torch.float64)
        for row in numbers.tolist():
            meaning = _meaning(_Chance(row))
            source, target = meaning.english(), meaning.german()
            if max(len(source), len(target)) <= LONGEST and (said := " ".join(source)) not in seen:
                seen.add(said)
                yield Sentence(said, " ".join(target), meaning.phenomena())


@cache
def splits() -> dict[str, tuple[Sentence, ...]]:
    """The data set: `train`, `valid` and `test`."""
    drawn = sentences(SEED)
    return {name: tuple(next(drawn) for _ in range(size)) for name, size in SPLITS.items()}
