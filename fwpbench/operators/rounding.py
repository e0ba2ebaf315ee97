"""Numbers as the products of a problem take them: rounded to its dtype, then multiplied exactly."""

from __future__ import annotations

import torch
from torch import Tensor

from fwpbench.operators.problem import DTYPES

#: Of the 23 bits after the point of a float32, tf32 has 10.
TF32_LACKS = 13


def rounded(x: Tensor, dtype: str) -> Tensor:
    """x as an operand of a product in `dtype`, in the dtype that it has."""
    if dtype == "tf32":
        return _rounded_to_tf32(x)
    return x.to(getattr(torch, DTYPES[dtype])).to(x.dtype)


def _rounded_to_tf32(x: Tensor) -> Tensor:
    """The nearest number of tf32, ties away from zero: PTX's cvt.rna.tf32.f32.

    A float32's magnitude grows with its bits, so half of the last bit that stays is added, and what
    it carries into goes up by itself, from one power of two to the next and to infinity too.
    """
    assert x.dtype == torch.float32, f"tf32 is rounded from float32, not from {x.dtype}"
    half = 1 << (TF32_LACKS - 1)
    bits = (x.view(torch.int32) + half) & -(1 << TF32_LACKS)
    return torch.where(x.isfinite(), bits.view(torch.float32), x)
