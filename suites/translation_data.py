"""What is translated: pairs of sentences, their words, and translations that need no model.

Word level, by one rule for every pair: runs of letters, digits and inner hyphens or apostrophes are
words, any other mark is one of its own, and case is kept. A word that is not parted from the one
before by a space carries `JOINER`, so that text can be put together again exactly: BLEU is of
detokenised text.
"""

from __future__ import annotations

import gzip
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from fwpbench.operators.errors import UserError
from fwpbench.suites import transduction
from fwpbench.suites.data_sets import data_file

#: Stands before a word that follows the one before without a space (as OpenNMT marks it).
JOINER = "￭"
_WORD = re.compile(r"\w+(?:[-'’]\w+)*|[^\w\s]")
#: The first words of every vocabulary.
PAD, BEGIN, END, UNKNOWN = range(4)
SPECIAL = ("<pad>", "<begin>", "<end>", "<unk>")


class Pair(NamedTuple):
    """A sentence and its translation, as text."""

    source: str
    target: str


@dataclass(frozen=True)
class Corpus:
    """`rare` is how often a word must occur in `train` to be known."""

    train: Sequence[Pair]
    valid: Sequence[Pair]
    test: Sequence[Pair]
    rare: int


def split_words(text: str) -> list[str]:
    words, end = [], 0
    for found in _WORD.finditer(text):
        joined = end and found.start() == end
        words.append(JOINER + found.group() if joined else found.group())
        end = found.end()
    return words


def join_words(words: Iterable[str]) -> str:
    """What `split_words` took apart, with single spaces."""
    return " ".join(words).replace(f" {JOINER}", "").removeprefix(JOINER)


class Vocabulary:
    """Words by number, the most frequent first; words of one frequency in alphabetical order."""

    def __init__(self, texts: Iterable[str], rare: int = 1):
        counts = Counter(word for text in texts for word in split_words(text))
        known = sorted((-count, word) for word, count in counts.items() if count >= rare)
        self.words = [*SPECIAL, *(word for _, word in known)]
        self.numbers = {word: number for number, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, text: str) -> list[int]:
        """Numbers of the words, with END behind them."""
        return [*(self.numbers.get(word, UNKNOWN) for word in split_words(text)), END]

    def decode(self, numbers: Iterable[int]) -> str:
        """The text of the words before END."""
        words = []
        for number in numbers:
            if number == END:
                break
            words.append(self.words[number])
        return join_words(words)


class Padded(NamedTuple):
    """Sentences of different lengths as one tensor, filled up with PAD behind."""

    words: Int[Tensor, "B T"]
    mask: Bool[Tensor, "B T"]


def pad(sentences: Sequence[Sequence[int]]) -> Padded:
    longest = max(map(len, sentences))
    words = torch.tensor([[*s, *[PAD] * (longest - len(s))] for s in sentences])
    return Padded(words, words != PAD)


def copied(corpus: Corpus) -> list[str]:
    """The baseline that returns what it was given."""
    return [pair.source for pair in corpus.test]


def looked_up(corpus: Corpus) -> list[str]:
    """The baseline that puts a word for a word, in the order of the source.

    For s the t of the largest Dice coefficient 2 n(s, t) / (n(s) + n(t)), n counting the sentence
    pairs of `train` they occur in; a word never seen stays as it is.
    """
    alone, together = (Counter[str](), Counter[str]()), Counter[tuple[str, str]]()
    for pair in corpus.train:
        source, target = ({*split_words(text)} for text in pair)
        alone[0].update(source)
        alone[1].update(target)
        together.update((s, t) for s in source for t in target)
    best = dict[str, tuple[float, str]]()
    for (s, t), n in together.items():
        # Of two as good, the later in the alphabet: the order of a set is nobody's.
        best[s] = max(best.get(s, (0.0, "")), (2 * n / (alone[0][s] + alone[1][t]), t))
    return [
        join_words(best.get(word, (0.0, word))[1] for word in split_words(pair.source))
        for pair in corpus.test
    ]


def _transduction(folder: Path | None) -> Corpus:
    pairs = {
        name: [Pair(sentence.source, sentence.target) for sentence in split]
        for name, split in transduction.splits().items()
    }
    return Corpus(**pairs, rare=1)


def _multi30k(folder: Path | None) -> Corpus:
    files = {"train": "train", "valid": "val", "test": "test_2016_flickr"}
    return Corpus(
        **{
            name: read_pairs(
                data_file("multi30k", f"raw/{file}.en.gz", folder),
                data_file("multi30k", f"raw/{file}.de.gz", folder),
            )
            for name, file in files.items()
        },
        rare=3,
    )


def read_pairs(source: Path, target: Path) -> list[Pair]:
    """Two gzipped files of UTF-8 whose lines belong together; pairs with an empty side are left
    out. Raises UserError where the files have not as many lines."""
    sides = []
    for path in (source, target):
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as lines:
            sides.append([line.strip() for line in lines])
    if len(sides[0]) != len(sides[1]):
        raise UserError(
            f"{source} has {len(sides[0]):,} lines and {target} {len(sides[1]):,}: "
            "the lines of a pair of files belong together, so they are as many"
        )
    return [Pair(s, t) for s, t in zip(*sides, strict=True) if s and t]


#: The data sets of the suite; the first is embedded.
CORPORA: Mapping[str, Callable[[Path | None], Corpus]] = {
    "transduction": _transduction,
    "multi30k": _multi30k,
}


@cache
def corpus_of(name: str, folder: Path | None) -> Corpus:
    return CORPORA[name](folder)
