"""A launch."""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from fwpbench.implementations.triton_kernels import INTERPRETED
from fwpbench.implementations.triton_kernels.interpreted import quickly


@runtime_checkable
class Layout(Protocol):
    """A plan: its fields are the kernel's constants."""

    @property
    def tiles(self) -> int: ...

    @property
    def options(self) -> dict[str, int]: ...


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
    grid = v.shape[0] * v.shape[2] * chunks, plan.tiles
    launch_it = partial(kernel[grid], *arguments, **constants, **plan.options)
    if INTERPRETED:
        quickly(launch_it)
    else:
        with torch.cuda.device(v.device):
            launch_it()
