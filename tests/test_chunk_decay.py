"""What `chunked` makes of gates per feature, against the products of gates written out."""

from __future__ import annotations

import pytest
import torch

from fwpbench.implementations._chunk_decay import Decayed, decayed_by_feature
from fwpbench.operators.segment_products import segment_products


def flat(decayed: Decayed) -> tuple[torch.Tensor, ...]:
    assert decayed.factors is not None
    return (*decayed.scores, *decayed.entering, decayed.leaving, *decayed.factors)


@pytest.mark.parametrize("zeros", [[], [0], [2], [1, 3], [7]])
@pytest.mark.parametrize("readers", [0, 1, 2])
def test_decays_by_feature_are_products_of_gates(readers, zeros):
    """And differentiable where gates are 0."""
    generator = torch.Generator().manual_seed(0)
    alpha, k, *a = (
        torch.rand(2, 3, 8, 2, dtype=torch.float64, generator=generator) for _ in range(2 + readers)
    )
    alpha[:, :, zeros] = 0.0
    P = segment_products(alpha.mT)
    expected = Decayed(
        scores=[torch.einsum("gnid,gnjd,gndij->gnij", x, k, P[..., 1:, 1:]) for x in a],
        entering=[P[..., 1:, 0].mT * x for x in a],
        leaving=P[..., -1, 1:].mT * k,
        factors=P[..., -1, :1].unbind(1),
    )
    for made, right in zip(flat(decayed_by_feature(alpha, a, k)), flat(expected), strict=True):
        torch.testing.assert_close(made, right)
    leaves = tuple(x.requires_grad_() for x in (alpha, k, *a))
    assert torch.autograd.gradcheck(
        lambda *x: flat(decayed_by_feature(x[0], list(x[2:]), x[1])), leaves
    )


@pytest.mark.parametrize("C", [1, 2, 4])
def test_a_short_chunk_is_a_chunk(C):
    alpha, k, a = torch.rand(3, 1, 2, C, 3).unbind(0)
    P = segment_products(alpha.mT)
    made = decayed_by_feature(alpha, [a], k)
    right = torch.einsum("gnid,gnjd,gndij->gnij", a, k, P[..., 1:, 1:])
    torch.testing.assert_close(made.scores[0], right)
