"""A comparison that raises, and says which tensor and by how much."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def relative_error(got: Tensor, wanted: Tensor) -> float:
    """‖got − wanted‖ / ‖wanted‖ over the whole tensor; 0 where they are equal bit for bit."""
    if torch.equal(got, wanted):
        return 0.0
    return float((got.double() - wanted.double()).norm() / wanted.double().norm())


def assert_close(got: Mapping[str, Tensor], wanted: Mapping[str, Tensor], within: float) -> None:
    """Raises unless both have the same tensors, each within a relative error (by norm)."""
    assert got.keys() == wanted.keys()
    for name in wanted:
        assert got[name].shape == wanted[name].shape, name
        # Where the truth is 0, so small that only rounding is left, by the size of the others.
        size = max(float(tensor.double().norm()) for tensor in wanted.values())
        difference = float((got[name].double() - wanted[name].double()).norm())
        error = relative_error(got[name], wanted[name])
        assert error <= within or difference <= within * 1e-6 * size, (
            f"{name} differs by {error:.1e}, allowed is {within:.0e}"
        )
