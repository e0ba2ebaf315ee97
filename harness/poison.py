"""What was never written must not look right: memory without a value is filled with NaN.

Memory that a call has just been given may still hold what the call before it left there, and that
is often the very answer looked for: an output that nobody wrote would pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

#: Functions whose result has no value yet.
UNWRITTEN = frozenset(
    {
        torch.empty,
        torch.empty_like,
        torch.empty_strided,
        torch.empty_permuted,
        Tensor.new_empty,
        Tensor.new_empty_strided,
        Tensor.resize_,
        Tensor.resize_as_,
    }
)
#: For whole numbers: as far from any index or count as they go.
SENTINEL = 2**30


class Poisoned(TorchFunctionMode):
    """While it is active, torch.empty and its relatives give NaN (whole numbers: a sentinel).

    A function mode sees the call whatever name it was imported by, and leaves settings of torch
    that change kernels (deterministic algorithms) alone.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        grown = func in (Tensor.resize_, Tensor.resize_as_)
        before = args[0].numel() if grown else 0
        result = func(*args, **(kwargs or {}))
        # What a resize keeps has a value.
        if func in UNWRITTEN and not (grown and result.numel() <= before):
            fill(result.view(-1)[before:] if grown else result)
        return result


def fill(x: Tensor) -> None:
    with torch.no_grad():
        if x.is_floating_point() or x.is_complex():
            x.fill_(torch.nan)
        elif x.dtype is not torch.bool:
            x.fill_(min(SENTINEL, torch.iinfo(x.dtype).max))


def dirty(likes: Iterable[Tensor], device: str, times: int = 3) -> None:
    """Leave NaN in freed blocks of these sizes: the allocator hands them out again first."""
    blocks = [
        torch.full_like(like, torch.nan, device=device) for like in likes for _ in range(times)
    ]
    del blocks
