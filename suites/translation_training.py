"""How a translator is trained: its sizes, its batches, and the program of one training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor

from fwpbench.implementations.base import Implementation
from fwpbench.operators.operator import Operator
from fwpbench.operators.streams import stream
from fwpbench.suites.model import initialize
from fwpbench.suites.translation_data import BEGIN, Corpus, Padded, Vocabulary, corpus_of, pad
from fwpbench.suites.translator import Translator

#: Batches that are drawn together and sorted by length, so that little of them is padding.
POOL = 16
#: Sentences evaluated at once.
TOGETHER = 250


@dataclass(frozen=True)
class Size:
    """Of the models and their training. `longest` counts the words of a sentence and its END."""

    longest: int
    width: int
    hidden: int
    heads: int
    layers: int
    batch: int
    steps: int
    learning_rate: float
    trials: int


def make_model(
    operator: Operator,
    data: Numbered,
    size: Size,
    decoder: Implementation,
    encoder: Implementation | None = None,
) -> Translator:
    return Translator(
        operator,
        (len(data.source), len(data.target)),
        width=size.width,
        hidden=size.hidden,
        heads=size.heads,
        layers=size.layers,
        implementation=decoder,
        encoder_implementation=encoder,
    )


class Numbered(NamedTuple):
    """Pairs of `train` and `valid` as the numbers of their words."""

    corpus: Corpus
    source: Vocabulary
    target: Vocabulary
    train: list[tuple[list[int], list[int]]]
    valid: list[tuple[list[int], list[int]]]


@cache
def numbered(data: str, folder: Path | None, longest: int) -> Numbered:
    """Pairs longer than `longest` are not trained on."""
    corpus = corpus_of(data, folder)
    source = Vocabulary((pair.source for pair in corpus.train), corpus.rare)
    target = Vocabulary((pair.target for pair in corpus.train), corpus.rare)
    train, valid = (
        [(source.encode(s), target.encode(t)) for s, t in pairs]
        for pairs in (corpus.train, corpus.valid)
    )
    short = [pair for pair in train if max(map(len, pair)) <= longest]
    return Numbered(corpus, source, target, short, valid)


class Batch(NamedTuple):
    source: Padded
    target: Padded


def make_batch(pairs: Sequence[tuple[list[int], list[int]]], device: str) -> Batch:
    source, target = (pad([pair[side] for pair in pairs]) for side in (0, 1))
    return Batch(*(Padded(x.words.to(device), x.mask.to(device)) for x in (source, target)))


def draw_batches(
    lengths: Sequence[int], size: int, steps: int, chance: Generator
) -> list[list[int]]:
    """Which sentences each step takes: every sentence once before any twice, with sentences of like
    length together, as far as `POOL` batches allow."""
    order = list[int]()
    while len(order) < steps * size:
        order += torch.randperm(len(lengths), generator=chance).tolist()
    batches = list[list[int]]()
    while len(batches) < steps:
        start = len(batches) * size
        pool = sorted(order[start : start + POOL * size], key=lambda number: lengths[number])
        cut = [pool[first : first + size] for first in range(0, len(pool), size)]
        batches += [cut[number] for number in torch.randperm(len(cut), generator=chance).tolist()]
    return batches[:steps]


class Training:
    """A program for `train`. All that is drawn is drawn here: the model's weights and the order of
    the sentences, each from a stream of its own."""

    def __init__(
        self, model: Translator, data: Numbered, size: Size, seed: int, trial: int, device: str
    ):
        self.model, self.data, self.size, self.device = model.to(device), data, size, device
        initialize(model, stream(seed, f"model {trial}"), std=size.width**-0.5)
        self.optimizer = torch.optim.Adam(
            model.parameters(), lr=size.learning_rate, betas=(0.9, 0.98)
        )
        self.batches = draw_batches(
            [len(s) + len(t) for s, t in data.train],
            size.batch,
            size.steps,
            stream(seed, f"batches {trial}"),
        )
        self.taken = 0

    def step(self) -> float:
        batch = make_batch([self.data.train[n] for n in self.batches[self.taken]], self.device)
        self.taken += 1
        for group in self.optimizer.param_groups:
            group["lr"] = self.size.learning_rate * warmed(self.taken, self.size.steps)
        loss = self._losses(batch).mean()
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return float(loss.detach())

    @torch.no_grad()
    def evaluate(self) -> Mapping[str, float]:
        """The mean negative log likelihood of a word of `valid`."""
        valid, total, words = sorted(self.data.valid, key=lambda pair: len(pair[0])), 0.0, 0
        for start in range(0, len(valid), TOGETHER):
            losses = self._losses(make_batch(valid[start : start + TOGETHER], self.device))
            total, words = total + float(losses.double().sum()), words + len(losses)
        return {"validation loss": total / words}

    def _losses(self, batch: Batch) -> Float[Tensor, " words"]:
        """Of every word that is no padding, given those before it."""
        words = batch.target.words
        before = F.pad(words[:, :-1], (1, 0), value=BEGIN)
        logits = self.model(batch.source, before)
        counts = batch.target.mask
        return F.cross_entropy(logits[counts], words[counts], reduction="none")

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "taken": self.taken,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.taken = state["taken"]


def warmed(step: int, steps: int) -> float:
    """The learning rate at this step, counted from 1, as a fraction of the highest."""
    rising = max(1, steps // 10)
    if step <= rising:
        return step / rising
    return (1 + math.cos(math.pi * (step - rising) / (steps - rising + 1))) / 2
