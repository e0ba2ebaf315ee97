"""Softmax attention in blocks of queries: memory grows with T, not with T²."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fwpbench.operators.features import Prepared
from fwpbench.operators.problem import Problem
from fwpbench.operators.state import State

QUERIES = 128


def softmax_in_blocks(
    problem: Problem, prepared: Prepared, mask: Tensor | None
) -> tuple[Float[Tensor, "B T H V"] | None, State]:
    """Each block is computed again in the backward pass instead of keeping its probabilities."""
    k, v = prepared.k.transpose(1, 2), prepared.v.transpose(1, 2)
    S = torch.cat([prepared.state.S, torch.cat([k, v], dim=-1)], dim=2)
    if prepared.q is None:
        return None, State(S)
    before, T = prepared.state.S.shape[2], k.shape[2]
    keys, values = S.split([problem.K, problem.V], dim=-1)
    q = prepared.q.transpose(1, 2) * problem.K**-0.5
    counts = None
    if mask is not None:
        counts = torch.cat([mask.new_ones(problem.B, before), mask], dim=1)[:, None, None]
    blocks = []
    for start in range(0, T, QUERIES):
        end = min(start + QUERIES, T)
        seen = before + (end if problem.causal else T)
        blocks.append(
            checkpoint(
                _attend,
                q[:, :, start:end],
                keys[:, :, :seen],
                values[:, :, :seen],
                before + start if problem.causal else None,
                None if counts is None else counts[..., :seen],
                use_reentrant=False,
            )
        )
    return torch.cat(blocks, dim=2).transpose(1, 2), State(S)


def _attend(q: Tensor, k: Tensor, v: Tensor, position: int | None, counts: Tensor | None) -> Tensor:
    """The first query stands at `position` among the keys and sees none after it; None: all.

    The mask is made here, not handed in, so that no block's is kept for the backward pass.
    """
    scores = q @ k.mT
    hidden = None if counts is None else ~counts
    if position is not None:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device)
        later = later.triu(position + 1)
        hidden = later if hidden is None else hidden | later
    if hidden is None:
        return scores.softmax(-1) @ v
    # Not −∞: a query that sees no token would be NaN, and its gradient too; it reads 0.
    weights = scores.masked_fill(hidden, torch.finfo(scores.dtype).min).softmax(-1)
    return weights.masked_fill(hidden, 0.0) @ v
