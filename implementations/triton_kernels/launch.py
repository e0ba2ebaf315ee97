"""What all kernels have around them: what is given, room for parts of gradients, a launch."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

#: By name: shape and dtype.
Shapes = dict[str, tuple[tuple[int, ...], torch.dtype]]


class Given(NamedTuple):
    """What a problem gives; None for what it does not have."""

    q: Tensor | None
    k: Tensor
    v: Tensor
    alpha: Tensor | None
    beta: Tensor | None
    projection: Tensor | None
    S: Tensor | None
    z: Tensor | None
    mask: Tensor | None


@runtime_checkable
class Layout(Protocol):
    """A plan: its fields are the kernel's constants."""

    @property
    def tiles(self) -> int: ...

    @property
    def options(self) -> dict[str, int]: ...


def contiguous(x: Tensor | None) -> Any:
    return None if x is None else x.contiguous()


def parts(x: Tensor | None, number: int) -> Tensor | None:
    """Room for the parts of a gradient that blocks write; one part alone is the gradient itself."""
    if x is None:
        return None
    return x.new_empty(number, *x.shape, dtype=x.dtype if number == 1 else torch.float32)


def added(parts: Tensor | None, like: Tensor | None) -> Tensor | None:
    if parts is None or like is None:
        return None
    return parts[0] if len(parts) == 1 else parts.sum(0).to(like.dtype)


def launch(
    kernel: Any,
    plan: Layout,
    v: Tensor,
    *arguments: Tensor | int | None,
    chunks: int = 1,
) -> None:
    """One block a (batch, head), or chunk of it, and tile of value columns.

    None stands for what is not there.
    """
    constants = {name: value for name, value in vars(plan).items() if name in kernel.arg_names}
    device: AbstractContextManager[Any] = nullcontext()
    if v.is_cuda:
        device = torch.cuda.device(v.device)
    with device:
        kernel[v.shape[0] * v.shape[2] * chunks, plan.tiles](
            *arguments, **constants, **plan.options
        )
