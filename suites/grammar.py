"""`grammar`: text whose every conditional probability is known, so that perplexity has a floor.

    document  →  <eos> sentence sentence …                cut off after 128 tokens
    sentence  →  NAME-COLOUR                      0.20    a word that binds the name to the colour
              |  now NAME COLOUR                  0.20    three words that do
              |  still NAME COLOUR                0.40    the colour that the name was last bound to
              |  DETERMINER ADJECTIVE* NOUN VERB  0.20    local syntax

What `now` and the one word bind is, with even odds, a name that has no colour yet (any of them, and
any colour) or one that has (any of them, and any colour but its own); `still` asks any name that
has one. Where there is no such name, the other choices share its probability in proportion. In a
description every word depends on the one before, and the verb agrees with the determiner however
many adjectives stand between.

So a document is an associative memory that is written, overwritten and read: whoever answers
`still anna` with the latest colour of anna pays nothing for it, and whoever remembers all her
colours without their order pays for the choice. One word that binds can be stored as it is read;
three need a look at the word before, too.

Every token is drawn from `Grammar.distribution` of the state that the tokens before it lead to,
and nothing is hidden: the state can be read off the text. So that distribution is the exact
conditional probability given all that went before, the mean of −log p over a text is what no model
can beat except by luck (`floor`), and `expected_floor` is its expectation.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Generator

from fwpbench.operators.streams import stream

#: Tokens of a document, its <eos> too.
LENGTH = 128
#: Documents of each part: 307,200, 20,480 and 20,480 tokens.
DOCUMENTS = {"train": 2400, "validation": 160, "test": 160}
#: The data set is one text: its seed is no choice of a run.
SEED = 2021

END = "<eos>"
NOW, STILL = "now", "still"
NAMES = ("anna", "boris", "clara", "david", "emma", "felix", "greta", "hugo")
COLOURS = ("red", "blue", "green", "white", "black", "yellow", "brown", "grey")
DETERMINERS = ("a", "the")
ADJECTIVES = ("old", "small", "quiet")
NOUNS = ("dog", "bird", "horse", "child", "fox")
STEMS = ("sing", "run", "sleep")
#: The ending of the verb after each determiner.
ENDINGS = ("s", "")

#: A sentence is one of these.
WORD, PHRASE, RECALL, DESCRIPTION = range(4)
SENTENCES = {WORD: 0.20, PHRASE: 0.20, RECALL: 0.40, DESCRIPTION: 0.20}
#: What is bound is a name that had no colour yet.
NEW = 0.5
#: After a determiner or an adjective comes (another) adjective.
ADJECTIVE = 0.4
#: By rank: of the nouns after each word, and of the stems after each noun, both rotated by the
#: place of the word before, so that each has favourites of its own.
NOUN_RANKS = (0.5, 0.25, 0.13, 0.08, 0.04)
STEM_RANKS = (0.7, 0.2, 0.1)
ADJECTIVE_RANKS = (0.6, 0.3, 0.1)

UNBOUND = -1


class State(NamedTuple):
    """Where in a sentence the next token stands, and what every name is bound to.

    `word` is the one before, where the next depends on it; `name` the one whose colour comes next;
    `ending` that of the verb to come.
    """

    place: str
    colours: tuple[int, ...]
    word: str = ""
    name: int = -1
    ending: str = ""


@dataclass(frozen=True)
class Grammar:
    """The grammar with this many names, colours and nouns; a tiny one can be written out whole."""

    names: int = len(NAMES)
    colours: int = len(COLOURS)
    nouns: int = len(NOUNS)
    length: int = LENGTH

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The vocabulary; a token is a place in it."""
        names, colours = NAMES[: self.names], COLOURS[: self.colours]
        return (
            *(END, NOW, STILL),
            *DETERMINERS,
            *ADJECTIVES,
            *NOUNS[: self.nouns],
            *(stem + ending for ending in ENDINGS for stem in STEMS),
            *names,
            *colours,
            *(f"{name}-{colour}" for name in names for colour in colours),
        )

    @property
    def start(self) -> State:
        """After <eos>."""
        return State("sentence", (UNBOUND,) * self.names)

    def distribution(self, state: State) -> Mapping[str, float]:
        """What may come next, and how probable each is."""
        match state.place:
            case "sentence":
                return self._openings(state.colours)
            case "name to bind":
                return {NAMES[name]: p for name, p in _bound_next(state.colours)}
            case "name to recall":
                bound = [name for name, colour in enumerate(state.colours) if colour != UNBOUND]
                return {NAMES[name]: 1 / len(bound) for name in bound}
            case "colour to bind":
                others = _others(state.colours[state.name], self.colours)
                return {COLOURS[colour]: 1 / len(others) for colour in others}
            case "colour to recall":
                return {COLOURS[state.colours[state.name]]: 1.0}
            case "noun or adjective":
                before = (*DETERMINERS, *ADJECTIVES).index(state.word)
                nouns = _rotated(NOUNS[: self.nouns], NOUN_RANKS, before, 1 - ADJECTIVE)
                return nouns | _rotated(ADJECTIVES, ADJECTIVE_RANKS, before, ADJECTIVE)
            case "verb":
                stems = _rotated(STEMS, STEM_RANKS, NOUNS.index(state.word), 1.0)
                return {stem + state.ending: p for stem, p in stems.items()}
        raise AssertionError(state.place)

    def _openings(self, colours: tuple[int, ...]) -> Mapping[str, float]:
        kinds = dict(SENTENCES)
        if all(colour == UNBOUND for colour in colours):
            del kinds[RECALL]
        whole = sum(kinds.values())
        word, phrase, recall, description = (kinds.get(kind, 0.0) / whole for kind in range(4))
        opening: dict[str, float] = {}
        for name, p in _bound_next(colours):
            words = _words_that_bind(name, colours[name], self.colours)
            opening |= dict.fromkeys(words, word * p / len(words))
        opening |= {NOW: phrase, STILL: recall} if recall else {NOW: phrase}
        return opening | dict.fromkeys(DETERMINERS, description / len(DETERMINERS))

    def next(self, state: State, word: str) -> State:
        """The state after `word`, which `distribution` of the state before must allow."""
        colours = state.colours
        match state.place:
            case "sentence" if word == NOW:
                return State("name to bind", colours)
            case "sentence" if word == STILL:
                return State("name to recall", colours)
            case "sentence" if word in DETERMINERS:
                ending = ENDINGS[DETERMINERS.index(word)]
                return State("noun or adjective", colours, word, ending=ending)
            case "sentence":
                name, colour = word.split("-")
                return State("sentence", _bound(colours, NAMES.index(name), COLOURS.index(colour)))
            case "name to bind":
                return State("colour to bind", colours, name=NAMES.index(word))
            case "name to recall":
                return State("colour to recall", colours, name=NAMES.index(word))
            case "colour to bind":
                return State("sentence", _bound(colours, state.name, COLOURS.index(word)))
            case "noun or adjective":
                place = "verb" if word in NOUNS else state.place
                return State(place, colours, word, ending=state.ending)
        return State("sentence", colours)

    def document(self, generator: Generator) -> list[int]:
        """`length` tokens, the first of them <eos>."""
        draws = torch.rand(self.length - 1, generator=generator, dtype=torch.float64).tolist()
        tokens, state = [0], self.start
        for draw in draws:
            choices = self.distribution(state)
            sums = list(accumulate(choices.values()))
            sums[-1] = 1.0  # which it may miss by a rounding
            word = list(choices)[bisect_right(sums, draw)]
            tokens.append(self._numbers[word])
            state = self.next(state, word)
        return tokens

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    def surprisals(self, document: Sequence[int]) -> list[float]:
        """−log p in nats of every token of a document, each given all before it.

        <eos> is certain where it stands: documents have one length.
        """
        words = [self.words[token] for token in document]
        if len(words) > self.length or words[:1] != [END]:
            raise ValueError(f"a document begins with {END} and has {self.length} tokens at most")
        state, surprisals = self.start, [0.0]
        for word in words[1:]:
            surprisals.append(-math.log(self.distribution(state)[word]))
            state = self.next(state, word)
        return surprisals

    def expected_floor(self) -> float:
        """The expectation of the mean of `surprisals` over a document.

        The entropies of all states, each by the probability of being in it when a token is drawn.
        States that differ only in what names and colours are called have one entropy and lead to
        the like: their probabilities are added up.
        """
        entropy, there = 0.0, {self.start: 1.0}
        entropies, steps = dict[State, float](), dict[State, dict[State, float]]()
        for _ in range(self.length - 1):
            onward: dict[State, float] = defaultdict(float)
            for state, probability in there.items():
                if state not in steps:
                    choices = self.distribution(state)
                    entropies[state] = -math.fsum(p * math.log(p) for p in choices.values())
                    steps[state] = defaultdict(float)
                    for word, p in choices.items():
                        steps[state][_renamed(self.next(state, word))] += p
                entropy += probability * entropies[state]
                for after, p in steps[state].items():
                    onward[after] += probability * p
            there = onward
        return entropy / self.length


def _bound_next(colours: tuple[int, ...]) -> list[tuple[int, float]]:
    """The names that may be bound next, each with its probability."""
    unbound = colours.count(UNBOUND)
    bound = len(colours) - unbound
    new = NEW if unbound and bound else float(bool(unbound))
    each = {True: new / max(1, unbound), False: (1 - new) / max(1, bound)}
    return [(name, each[colour == UNBOUND]) for name, colour in enumerate(colours)]


@cache
def _others(old: int, known: int) -> tuple[int, ...]:
    """The colours a name may be bound to."""
    return tuple(colour for colour in range(known) if colour != old)


@cache
def _words_that_bind(name: int, old: int, known: int) -> tuple[str, ...]:
    return tuple(f"{NAMES[name]}-{COLOURS[colour]}" for colour in _others(old, known))


def _bound(colours: tuple[int, ...], name: int, colour: int) -> tuple[int, ...]:
    return (*colours[:name], colour, *colours[name + 1 :])


def _rotated(
    words: Sequence[str], ranks: Sequence[float], by: int, whole: float
) -> dict[str, float]:
    """The words with the probabilities of their ranks, the one at place `by` first."""
    total = sum(ranks[: len(words)])
    return {
        words[(by + rank) % len(words)]: whole * ranks[rank] / total for rank in range(len(words))
    }


def _renamed(state: State) -> State:
    """The same with the bound names first, all to colour 0, and the one at hand first of its
    kind."""
    bound = sum(colour != UNBOUND for colour in state.colours)
    colours = (0,) * bound + (UNBOUND,) * (len(state.colours) - bound)
    name = state.name
    if name >= 0:
        name = 0 if state.colours[name] != UNBOUND else bound
    return state._replace(colours=colours, name=name)


GRAMMAR = Grammar()


@cache
def part(name: str) -> tuple[int, ...]:
    """All documents of a part, one after the other."""
    generator = stream(SEED, f"grammar {name}")
    return tuple(
        token for _ in range(DOCUMENTS[name]) for token in GRAMMAR.document(generator)
    )  # fmt: skip


def floor(tokens: Sequence[int], grammar: Grammar = GRAMMAR) -> float:
    """The mean of −log p, in nats a token, of these documents under the process they come from."""
    documents = [tokens[i : i + grammar.length] for i in range(0, len(tokens), grammar.length)]
    return math.fsum(x for document in documents for x in grammar.surprisals(document)) / len(
        tokens
    )
