"""Tensors that had to be copied: kernels want numbers that lie one behind the other."""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch import Tensor

_copied: Counter[str] = Counter()


def contiguous(x: Tensor | None, name: str) -> Any:
    """`x`, or a copy of it without gaps, which is counted: it costs time and memory of its own."""
    if x is None or x.is_contiguous():
        return x
    _copied[name] += 1
    return x.contiguous()


def taken() -> dict[str, int]:
    """How often which tensor was copied in this process since this was last asked."""
    found = dict(_copied)
    _copied.clear()
    return found
