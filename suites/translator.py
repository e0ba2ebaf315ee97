"""The encoder–decoder Transformer whose self-attention is a registered implementation.

Vaswani et al. 2017 with the layers of model.py. The encoder reads the source in both directions,
the decoder writes the target from left to right, and looks at the source by softmax attention
(Schlag et al. 2021 do not state which attentions they replaced). The target embedding is the
output layer too. Decoding carries the state of every layer, so a token costs the same memory
whatever was written before it (softmax-attention keeps its tokens).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from fwpbench.implementations.base import Implementation
from fwpbench.operators.errors import UserError
from fwpbench.operators.operator import Operator, undefined
from fwpbench.operators.state import State
from fwpbench.suites.model import Layer, TokenMixer, positions
from fwpbench.suites.translation_data import BEGIN, END, PAD, UNKNOWN, Padded

#: Never written, so that every translation is text.
UNSPEAKABLE = [PAD, BEGIN, UNKNOWN]


class Decoded(NamedTuple):
    """`states` holds one state a layer; None unless they were asked for."""

    logits: Float[Tensor, "B T words"]
    states: list[State] | None


def encoder_operator(operator: Operator) -> Operator:
    """What the encoder reads with: the operator itself where the order of the tokens is nothing
    to it, else the sum of its feature map with attention normalisation.

    A delta-type rule or a decay writes a token by what was written before it: read from both sides
    it has no meaning. Raises UserError where the sum has none either.
    """
    if operator.update_rule.order_free:
        return operator
    summed = Operator("sum", operator.phi, "attention")
    if (reason := undefined(summed)) is not None:
        raise UserError(f"{operator} has no encoder: {reason}")
    return summed


class Translator(nn.Module):
    """`words` are the sizes of the source's and the target's vocabulary; `layers` are those of the
    encoder, and as many of the decoder."""

    def __init__(
        self,
        operator: Operator,
        words: tuple[int, int],
        *,
        width: int,
        hidden: int,
        heads: int,
        layers: int,
        implementation: str | Implementation,
        encoder_implementation: str | Implementation | None = None,
    ):
        super().__init__()
        both_ways, encoding = encoder_operator(operator), encoder_implementation or implementation
        self.width = width
        self.source, self.target = (nn.Embedding(size, width) for size in words)
        self.encoder = nn.ModuleList(
            Layer(TokenMixer(both_ways, width, heads, encoding, causal=False), width, hidden)
            for _ in range(layers)
        )
        self.decoder = nn.ModuleList(
            Layer(
                TokenMixer(operator, width, heads, implementation),
                width,
                hidden,
                heads_across=heads,
            )
            for _ in range(layers)
        )

    def encode(self, source: Padded) -> Float[Tensor, "B N width"]:
        x = self._placed(self.source, source.words, 0)
        for layer in self.encoder:
            x = layer(x, mask=source.mask).x
        return x

    def decode(
        self,
        words: Int[Tensor, "B T"],
        memory: Float[Tensor, "B N width"],
        source: Padded,
        *,
        first: int = 0,
        states: Sequence[State] | None = None,
        return_states: bool = False,
    ) -> Decoded:
        """The logits of the word after each. `first` counts the words that `states` hold."""
        x, after = self._placed(self.target, words, first), []
        for number, layer in enumerate(self.decoder):
            x, state = layer(
                x,
                state=None if states is None else states[number],
                return_state=return_states,
                memory=memory,
                memory_mask=source.mask,
            )
            after.append(state)
        return Decoded(F.linear(x, self.target.weight), after if return_states else None)

    def forward(self, source: Padded, words: Int[Tensor, "B T"]) -> Float[Tensor, "B T words"]:
        return self.decode(words, self.encode(source), source).logits

    def _placed(
        self, embedding: nn.Embedding, words: Int[Tensor, "B T"], first: int
    ) -> Float[Tensor, "B T width"]:
        """Embeddings scaled by √width, so that they weigh as much as their positions."""
        place = positions(first, words.shape[1], self.width).to(words.device)
        placed: Tensor = embedding(words) * self.width**0.5 + place
        return placed


@torch.no_grad()
def translate(model: Translator, source: Padded, longest: int) -> list[list[int]]:
    """The likeliest next word, again and again, until END or `longest` words: one list of words a
    sentence, END excluded. One token a call, on the recurrent state."""
    memory, states = model.encode(source), None
    B = source.words.shape[0]
    word = source.words.new_full((B, 1), BEGIN)
    ended = torch.zeros(B, dtype=torch.bool, device=word.device)
    written: list[Tensor] = []
    while len(written) < longest and not ended.all():
        logits, states = model.decode(
            word, memory, source, first=len(written), states=states, return_states=True
        )
        word = likeliest(logits)
        written.append(word)
        ended |= word[:, 0] == END
    rows: list[list[int]] = torch.cat(written, dim=1).tolist()
    return [row[: row.index(END)] if END in row else row for row in rows]


def likeliest(logits: Float[Tensor, "B 1 words"]) -> Int[Tensor, "B 1"]:
    logits[..., UNSPEAKABLE] = -torch.inf
    return logits.argmax(-1)
