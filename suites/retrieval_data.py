"""Associative retrieval: sequences of (key, value) pairs, and keys that are asked for afterwards.

Schlag et al. 2021, section 6.1. There are S keys and S values. In setting 1 a sequence is S pairs,
keys and values drawn without replacement, so each key comes once; in setting 2 it is 2S pairs drawn
with replacement, and the answer is the value that the key had last. Evaluation follows the code
published with the paper: sequences of S pairs in both settings, every key in them asked for, at
most the 200 smallest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

#: Sequences of one evaluation, and the most keys asked for in each.
SEQUENCES, MOST_QUERIES = 20, 200


@dataclass(frozen=True)
class Task:
    """`setting` 1 or 2 of the paper with S keys and S values."""

    setting: int
    S: int

    @property
    def T(self) -> int:
        """Pairs of a training sequence."""
        return self.S if self.setting == 1 else 2 * self.S

    @property
    def replaces(self) -> bool:
        """Whether keys and values are drawn with replacement."""
        return self.setting == 2


class Pairs(NamedTuple):
    """Keys and values are numbers from 0 to S − 1."""

    keys: Int[Tensor, "B T"]
    values: Int[Tensor, "B T"]


class Source(Protocol):
    """A source of random pairs; whoever has its state goes on where it was."""

    def training(self, B: int) -> tuple[Pairs, Int[Tensor, B]]:
        """Training sequences, and the key that each is asked for: that of a random pair."""

    def evaluation(self, B: int) -> Pairs:
        """Sequences of an evaluation, S pairs each."""

    def state(self) -> Any: ...

    def load(self, state: Any) -> None: ...


class Vectorised:
    """All sequences of a batch in a few calls."""

    def __init__(self, task: Task, generator: Generator):
        self._task, self._generator = task, generator

    def training(self, B: int) -> tuple[Pairs, Int[Tensor, B]]:
        pairs = self._pairs(B, self._task.T)
        place = torch.randint(self._task.T, (B, 1), generator=self._generator)
        return pairs, pairs.keys.gather(1, place)[:, 0]

    def evaluation(self, B: int) -> Pairs:
        return self._pairs(B, self._task.S)

    def _pairs(self, B: int, T: int) -> Pairs:
        S, g = self._task.S, self._generator
        if self._task.replaces:
            return Pairs(*torch.randint(S, (2, B, T), generator=g))
        # Equal numbers would only make one order a little likelier: float64 has 2⁵³ of them.
        order = torch.rand(2, B, S, generator=g, dtype=torch.float64).argsort(-1)
        return Pairs(*order[..., :T])

    def state(self) -> Tensor:
        return self._generator.get_state()

    def load(self, state: Tensor) -> None:
        self._generator.set_state(state)


class Published:
    """The very sequences of the published runs: NumPy's generator as `numpy.random.seed` seeds it,
    called sequence by sequence for the keys, the values and the pair that is asked for."""

    def __init__(self, task: Task, seed: int):
        self._task, self._random = task, numpy.random.RandomState(seed)

    def training(self, B: int) -> tuple[Pairs, Int[Tensor, B]]:
        drawn, queries = [], []
        for _ in range(B):
            keys, values = self._draw(self._task.T), self._draw(self._task.T)
            drawn.append((keys, values))
            queries.append(self._random.choice(keys))
        return self._stacked(drawn), torch.tensor(queries)

    def evaluation(self, B: int) -> Pairs:
        return self._stacked(
            [(self._draw(self._task.S), self._draw(self._task.S)) for _ in range(B)]
        )

    def _draw(self, T: int) -> Any:
        return self._random.choice(self._task.S, size=T, replace=self._task.replaces)

    def _stacked(self, drawn: list[tuple[Any, Any]]) -> Pairs:
        keys, values = torch.from_numpy(numpy.array(drawn)).unbind(1)
        return Pairs(keys, values)

    def state(self) -> dict[str, Any]:
        """uint32 words as int64, which every torch can keep."""
        state: Any = self._random.get_state(legacy=False)
        words, place = state["state"]["key"], state["state"]["pos"]
        return {"words": torch.from_numpy(words.astype("int64")), "place": int(place)}

    def load(self, state: dict[str, Any]) -> None:
        words = state["words"].numpy().astype("uint32")
        self._random.set_state(("MT19937", words, state["place"], 0, 0.0))


def last_values(pairs: Pairs, queries: Int[Tensor, "B Q"]) -> Int[Tensor, "B Q"]:
    """The value that each key asked for had last in its sequence."""
    is_it = queries[:, :, None] == pairs.keys[:, None]
    from_the_end = is_it.flip(-1).int().argmax(-1)
    return pairs.values.gather(1, pairs.keys.shape[1] - 1 - from_the_end)


def weights(pairs: Pairs, S: int, chunk: int) -> Float[Tensor, "B S"]:
    """How much each key counts in an evaluation; 0 for those that are not asked for.

    The published loss is the mean over chunks of at most `chunk` queries of one sequence of the
    chunk's own mean, so a query in a short last chunk counts more.
    """
    present = torch.zeros(pairs.keys.shape[0], S, dtype=torch.bool).scatter_(1, pairs.keys, True)
    place = present.cumsum(1) - 1  # among the keys of its sequence
    asked = present & (place < MOST_QUERIES)
    count = asked.sum(1, keepdim=True)
    size = (count - place // chunk * chunk).clamp(max=chunk)
    chunks = ((count + chunk - 1) // chunk).sum()
    return asked / (size.clamp(min=1) * chunks)
