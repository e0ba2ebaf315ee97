"""A launch, on a GPU or, for tests, on a CPU."""

from __future__ import annotations

from functools import lru_cache

from torch import Tensor

from fwpbench.implementations.cuda_kernels import ON_CPU, sources
from fwpbench.implementations.cuda_kernels.sources import Constants
from fwpbench.operators.errors import UserError


@lru_cache(maxsize=4096)
def _text(kernel: str, dtype: str, constants: tuple[tuple[str, sources.Constant], ...]) -> str:
    return sources.text(kernel, dtype, dict(constants))


def launch(
    kernel: str,
    dtype: str,
    constants: Constants,
    grid: tuple[int, int],
    block: tuple[int, int],
    size: int,
    like: Tensor,
    *arguments: Tensor | int | None,
) -> None:
    """`size` bytes of shared memory; on the device and current stream of `like`.

    A tensor is handed over as its address, None as the null pointer. Raises UserError where not all
    tensors lie on one device, or on a CPU that kernels do not run on.
    """
    for x in arguments:
        if isinstance(x, Tensor) and x.device != like.device:
            raise UserError(f"tensors lie on {like.device} and on {x.device}: move all to one")
    if not like.is_cuda and not ON_CPU:
        raise UserError(
            f"tensors lie on {like.device}, and these kernels run on cuda; FWPBENCH_CUDA_ON_CPU=1 "
            "runs them on a CPU, for tests"
        )
    numbers = [0 if x is None else x.data_ptr() if isinstance(x, Tensor) else x for x in arguments]
    text = _text(kernel, dtype, tuple(constants.items()))
    if like.is_cuda:
        from fwpbench.implementations.cuda_kernels import nvrtc

        nvrtc.launch(kernel, text, grid, block, size, numbers, like.device)
    else:
        from fwpbench.implementations.cuda_kernels import on_cpu

        on_cpu.launch(kernel, text, grid, block, size, numbers)
