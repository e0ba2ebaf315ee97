"""Texts for language models: one stream of tokens a part, cut into segments.

`grammar` is made here (grammar.py); `wikitext-2` is read from `--data-dir`, word by word as it was
published: case kept, split at white space, one <eos> a line, the vocabulary that of the training
text, <eos> first and then by frequency (Merity et al. 2016; Schlag et al. 2021, section 6.3).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from fwpbench.suites import grammar
from fwpbench.suites.data_sets import data_file

END, UNKNOWN = "<eos>", "<unk>"


@dataclass(frozen=True, eq=False)
class Text:
    """Three parts of one text, as numbers of `words`; <eos> is 0.

    `floor` is the mean of −log p, in nats, of the tokens of the test part that are scored, under
    the process that the text was drawn from; None where nobody knows it.
    """

    words: tuple[str, ...]
    train: Int[Tensor, " N"]
    validation: Int[Tensor, " N"]
    test: Int[Tensor, " N"]
    floor: float | None = None


class Segments(NamedTuple):
    """Every token but the first of a stream is a target, once; `inputs` are the tokens before."""

    inputs: Int[Tensor, "n T"]
    targets: Int[Tensor, "n T"]


def segments(stream: Int[Tensor, " N"], T: int) -> Segments:
    """The whole segments of T tokens, in order; what is left at the end is not among them."""
    n = (len(stream) - 1) // T
    return Segments(stream[: n * T].view(n, T), stream[1 : n * T + 1].view(n, T))


def batches(stream: Int[Tensor, " N"], T: int, B: int) -> Iterator[Segments]:
    """All of a stream in order: whole segments, up to B at once, then the rest as one shorter."""
    whole = segments(stream, T)
    for inputs, targets in zip(whole.inputs.split(B), whole.targets.split(B), strict=True):
        if len(inputs):
            yield Segments(inputs, targets)
    first = whole.inputs.numel()
    if first < len(stream) - 1:
        yield Segments(stream[None, first:-1], stream[None, first + 1 :])


def load(name: str, folder: Path | None) -> Text:
    """The text of this name. Raises UserError where its files are not in `folder`, or others."""
    return LOADERS[name](folder)


@cache
def _grammar(folder: Path | None) -> Text:
    train, validation, test = (torch.tensor(grammar.part(part)) for part in grammar.DOCUMENTS)
    # The <eos> that the text begins with is certain and not scored.
    floor = grammar.floor(grammar.part("test")) * len(test) / (len(test) - 1)
    return Text(grammar.GRAMMAR.words, train, validation, test, floor)


@cache
def _wikitext_2(folder: Path | None) -> Text:
    files = [
        data_file("wikitext-2", file, folder) for file in ("train.txt", "valid.txt", "test.txt")
    ]
    words = vocabulary(_words(files[0]))
    numbers = {word: number for number, word in enumerate(words)}
    train, validation, test = (_numbered(path, numbers) for path in files)
    return Text(words, train, validation, test)


def vocabulary(words: Iterable[str]) -> tuple[str, ...]:
    """<eos>, then the most frequent first; of two equally frequent ones that which came first."""
    counts = Counter(words)
    del counts[END]
    return (END, *(word for word, _ in counts.most_common()))


def _words(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield from line.split()
            yield END


def _numbered(path: Path, numbers: Mapping[str, int]) -> Int[Tensor, " N"]:
    """A word that the training text does not have is <unk>, as it is in the published files."""
    unknown = numbers.get(UNKNOWN)
    return torch.tensor([numbers.get(word, unknown) for word in _words(path)])


LOADERS: Mapping[str, Callable[[Path | None], Text]] = {
    "grammar": _grammar,
    "wikitext-2": _wikitext_2,
}
