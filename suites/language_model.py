"""The language model: a causal Transformer whose token mixer is any registered implementation.

Schlag et al. 2021, section 6.3 (their medium model has 16 layers, width 256, hidden 2048): the
embedding, scaled by √width, is the output matrix too; sinusoidal positions; post-norm layers; a
bias on the output. With `cutoffs` the output is an adaptive softmax (Grave et al. 2017) whose
clusters have the full width, so that all of it stays tied: frequent words are scored against each
other and the clusters, rare ones within their cluster only, and only where they occur.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from fwpbench.implementations.base import Implementation
from fwpbench.operators.state import State
from fwpbench.suites.model import Layer, TokenMixer, positions


class TiedSoftmax(nn.Module):
    """Probabilities of words from the embedding's own rows.

    Words from `cutoffs[i]` up to the next cutoff are cluster i:
        log p(w | x) = log softmax(head)(cluster) + log softmax(cluster's words)(w)
    """

    def __init__(self, embedding: nn.Embedding, cutoffs: Sequence[int] = ()):
        super().__init__()
        words, width = embedding.weight.shape
        self.embedding = embedding
        self.bias = nn.Parameter(torch.zeros(words))
        self.edges = [0, *cutoffs, words]
        self.clusters = nn.Linear(width, len(cutoffs)) if cutoffs else None

    def log_likelihood(
        self, x: Float[Tensor, "n width"], targets: Int[Tensor, " n"]
    ) -> Float[Tensor, " n"]:
        """log p of each target, in nats."""
        head = self._head(x)
        if self.clusters is None:
            return -F.cross_entropy(head, targets, reduction="none")
        edges = torch.tensor(self.edges[1:-1], device=targets.device)
        cluster = torch.bucketize(targets, edges, right=True)
        frequent = self.edges[1]
        in_head = torch.where(cluster == 0, targets, frequent + cluster - 1)
        found = -F.cross_entropy(head, in_head, reduction="none")
        for i in range(1, len(self.edges) - 1):
            here = (cluster == i).nonzero().squeeze(-1)
            if len(here):
                inner = targets[here] - self.edges[i]
                rest = -F.cross_entropy(self._words(x[here], i), inner, reduction="none")
                found = found.index_add(0, here, rest)
        return found

    def log_probabilities(self, x: Float[Tensor, "n width"]) -> Float[Tensor, "n words"]:
        """log p of every word, in nats."""
        head = self._head(x).log_softmax(-1)
        frequent = self.edges[1]
        parts = [head[:, :frequent]]
        for i in range(1, len(self.edges) - 1):
            inner = self._words(x, i).log_softmax(-1)
            parts.append(head[:, frequent + i - 1, None] + inner)
        return torch.cat(parts, dim=-1)

    def _head(self, x: Float[Tensor, "n width"]) -> Float[Tensor, "n head"]:
        words = self._words(x, 0)
        return words if self.clusters is None else torch.cat([words, self.clusters(x)], dim=-1)

    def _words(self, x: Float[Tensor, "n width"], cluster: int) -> Float[Tensor, "n size"]:
        rows = slice(self.edges[cluster], self.edges[cluster + 1])
        return F.linear(x, self.embedding.weight[rows], self.bias[rows])


class Read(NamedTuple):
    """`states` has one State a layer, or is None where none were asked for."""

    x: Float[Tensor, "B T width"]
    states: list[State] | None


class LanguageModel(nn.Module):
    """`mixer()` makes the token mixer of one layer. Without `sinusoids` no position is told."""

    def __init__(
        self,
        mixer: Callable[[], TokenMixer],
        *,
        words: int,
        layers: int,
        width: int,
        hidden: int,
        cutoffs: Sequence[int] = (),
        sinusoids: bool = True,
    ):
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.layers = nn.ModuleList(Layer(mixer(), width, hidden) for _ in range(layers))
        self.output = TiedSoftmax(self.embedding, cutoffs)
        self.sinusoids = sinusoids

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        *,
        states: Sequence[State] | None = None,
        first: int = 0,
        return_states: bool = False,
    ) -> Read:
        """What `output` makes the next token's probabilities of.

        `states` are those after `first` tokens, as an earlier call returned them.
        """
        T, width = tokens.shape[1], self.embedding.embedding_dim
        x = self.embedding(tokens) * math.sqrt(width)
        if self.sinusoids:
            x = x + positions(first, T, width).to(x)
        after: list[State] = []
        for number, layer in enumerate(self.layers):
            state = None if states is None else states[number]
            x, left = layer(x, state=state, return_state=return_states)
            if left is not None:
                after.append(left)
        return Read(x, after if return_states else None)

    def log_likelihood(
        self, tokens: Int[Tensor, "B T"], targets: Int[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]:
        """log p of each target given the tokens up to its own place, in nats."""
        x = self(tokens).x
        return self.output.log_likelihood(x.flatten(0, 1), targets.flatten()).view_as(targets)

    def use(self, implementation: str | Implementation) -> None:
        """Compute with another implementation from now on."""
        for module in self.modules():
            if isinstance(module, TokenMixer):
                module.implementation = implementation
