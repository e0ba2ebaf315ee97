"""The model of the retrieval task: pairs are written into fast weights, then one key is asked for.

Schlag et al. 2021, section 6.1 and the code published with it. With E the embedding of keys and
[v; e] the one-hot value above the embedded key of a pair:
    k = W_k [v; e] + b_k,  β = sigmoid(w_β [v; e] + b_β),  q = W_q e + b_q,  o = read(S_T, φ(q))
The value written is the one-hot v itself; the loss is ½ ‖v − o‖².
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from fwpbench.harness.attention import fast_weight_attention
from fwpbench.implementations.base import Implementation
from fwpbench.operators import law
from fwpbench.operators.features import features
from fwpbench.operators.operator import Operator
from fwpbench.operators.state import State
from fwpbench.suites.retrieval_data import Pairs

#: The size of a key before φ.
K = 64


class Affine(nn.Module):
    """weight x + bias; of x = [v; e] the column of v is looked up instead of multiplied for."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs))

    def draw(self, generator: Generator) -> None:
        """As torch.nn.Linear draws its weight and bias for itself."""
        bound = self.weight.shape[1] ** -0.5
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5), generator=generator)
        nn.init.uniform_(self.bias, -bound, bound, generator=generator)

    def of_pairs(
        self, embedding: Float[Tensor, "S e"], pairs: Pairs
    ) -> Float[Tensor, "B T outputs"]:
        """weight [v; e] + bias. There are only S keys: each is multiplied once."""
        S = embedding.shape[0]
        of_value, of_key = self.weight[:, :S].T, self.weight[:, S:]
        return F.embedding(pairs.values, of_value) + F.embedding(
            pairs.keys, F.linear(embedding, of_key, self.bias)
        )

    def of_keys(
        self, embedding: Float[Tensor, "S e"], queries: Int[Tensor, "B Q"]
    ) -> Float[Tensor, "B Q outputs"]:
        """weight e + bias"""
        return F.embedding(queries, F.linear(embedding, self.weight, self.bias))


class Retrieval(nn.Module):
    """S keys and values; the fast weights are written by `implementation`, which is asked for their
    final state only, and read by the law.

    Every weight is drawn from `generator` in the order in which the published code's modules draw
    theirs, those that are drawn twice or never used too: torch's seed 1 gives the published model.
    """

    def __init__(
        self,
        operator: Operator,
        S: int,
        implementation: str | Implementation,
        generator: Generator,
    ):
        super().__init__()
        self.operator, self.S, self.implementation = operator, S, implementation
        e = int(2 * S * 1.1)
        self.embedding = nn.Parameter(torch.empty(S, e))
        self.write, self.ask = Affine(S + e, K), Affine(e, K)
        self.strength = Affine(S + e, 1) if "beta" in operator.update_rule.gates else None
        with torch.no_grad():
            self._draw(generator)

    def _draw(self, g: Generator) -> None:
        S, e = self.embedding.shape
        unused = Affine(S + e, K)
        torch.empty(S, S).normal_(generator=g)  # an embedding of values: the identity in the end
        torch.empty(2 * S, e).normal_(generator=g)
        for affine in (self.write, unused, self.ask):
            affine.draw(g)
        softmax = self.operator.update_rule.keeps_tokens
        if not softmax:
            unused.draw(g)
            (self.strength or Affine(S + e, 1)).draw(g)
        # The published table has 2S rows, of which only the S of keys are ever looked up.
        self.embedding.copy_(torch.empty(2 * S, e).normal_(generator=g)[:S])
        nn.init.xavier_uniform_(unused.weight, generator=g)
        for affine in (self.write, self.ask):
            if softmax:
                nn.init.xavier_uniform_(affine.weight, generator=g)
            else:
                nn.init.uniform_(affine.weight, -(K**-0.5), K**-0.5, generator=g)

    def forward(self, pairs: Pairs, queries: Int[Tensor, "B Q"]) -> Float[Tensor, "B Q S"]:
        """What the fast weights answer after all pairs."""
        state = self.written(pairs)
        q = self.ask.of_keys(self.embedding, queries)[:, :, None]
        asked = features(self.operator, q, query=True)
        answers = [law.read(self.operator, state, each) for each in asked.unbind(1)]
        return torch.stack(answers, dim=1)[:, :, 0]

    def written(self, pairs: Pairs) -> State:
        k = self.write.of_pairs(self.embedding, pairs)[:, :, None]
        v = F.one_hot(pairs.values, self.S).to(k.dtype)[:, :, None]
        beta = None
        if self.strength is not None:
            beta = self.strength.of_pairs(self.embedding, pairs).sigmoid()
        _, state = fast_weight_attention(
            None,
            k,
            v,
            feature_map=self.operator.phi,
            update_rule=self.operator.rule,
            normalization=self.operator.norm,
            beta=beta,
            return_state=True,
            implementation=self.implementation,
        )
        return state
