"""Blocks by rule, direction, dtype and width of φ; on GPUs of other architectures, other ones."""

from __future__ import annotations

from typing import NamedTuple

import torch

#: Interpreted, and where there is no GPU.
SM_90 = 90


class Blocks(NamedTuple):
    """Tokens a chunk, value columns a block at most, and warps; registers a thread at most.

    Left to itself (None), the compiler spills some of a few kernels, to let more blocks run at a
    time. Told to take 255, it spills some of others.
    """

    C: int
    BV: int
    warps: int
    registers: int | None = None


#: For φ up to a width. Of what was compiled for sm_90, a large one without spilled registers
#: (tests/test_triton_compile.py). What is not here spilled in all that was tried.
Layouts = dict[str, dict[int, Blocks]]
SUM: Layouts = {
    "fp32": {64: Blocks(16, 16, 8)},
    "tf32": {64: Blocks(16, 16, 8), 128: Blocks(16, 16, 8)},
    "bf16": {64: Blocks(64, 64, 8), 128: Blocks(32, 64, 8), 256: Blocks(16, 16, 8)},
    "fp16": {64: Blocks(16, 16, 8, 255), 128: Blocks(16, 16, 8)},
}
SUM_BACKWARD: Layouts = {
    "fp32": {64: Blocks(16, 16, 8)},
    "tf32": {64: Blocks(16, 16, 8), 128: Blocks(16, 16, 8)},
    "bf16": {
        16: Blocks(32, 32, 4, 255),
        64: Blocks(32, 32, 8),
        128: Blocks(16, 32, 8),
        256: Blocks(16, 16, 8),
    },
    "fp16": {64: Blocks(16, 16, 8), 128: Blocks(16, 16, 8)},
}
DECAY: Layouts = {
    "fp32": {64: Blocks(16, 16, 8)},
    "tf32": {64: Blocks(16, 32, 8)},
    "bf16": {64: Blocks(32, 64, 8), 128: Blocks(16, 64, 8)},
    "fp16": {64: Blocks(16, 32, 8)},
}
DECAY_BACKWARD: Layouts = {
    "fp32": {32: Blocks(16, 32, 8), 64: Blocks(16, 32, 8)},
    "tf32": {32: Blocks(16, 16, 8), 64: Blocks(16, 32, 8)},
    "bf16": {64: Blocks(16, 64, 8), 128: Blocks(16, 32, 8)},
    "fp16": {64: Blocks(16, 32, 8)},
}
DELTA: Layouts = {
    "fp32": {32: Blocks(16, 16, 8)},
    "tf32": {64: Blocks(16, 32, 8)},
    "bf16": {64: Blocks(32, 64, 8), 128: Blocks(16, 64, 8)},
    "fp16": {64: Blocks(16, 32, 8)},
}
DELTA_BACKWARD: Layouts = {
    "fp32": {32: Blocks(16, 16, 8)},
    "tf32": {64: Blocks(16, 16, 8)},
    "bf16": {64: Blocks(16, 64, 8), 128: Blocks(16, 16, 8, 255)},
    "fp16": {64: Blocks(16, 16, 8)},
}
#: Forward and backward.
BLOCKS = {
    "sum": (SUM, SUM_BACKWARD),
    "decay": (DECAY, DECAY_BACKWARD),
    "delta": (DELTA, DELTA_BACKWARD),
}
#: These have the same steps and one gate less or more.
LIKE = {"gated": "decay", "gated-delta": "delta"}
#: Where products are those of a warp (mma.sync), not of four (wgmma), whose operands lie in shared
#: memory, layouts for sm_90 spill: instead of them, by rule, direction (1: backward), dtype, width.
MMA_SYNC = {
    ("sum", 0, "bf16", 64): Blocks(32, 64, 8, 255),
    ("sum", 0, "bf16", 128): Blocks(32, 32, 8, 255),
    ("decay", 0, "bf16", 64): Blocks(32, 32, 8, 255),
    ("decay", 1, "fp32", 32): Blocks(16, 32, 8, 255),
    ("decay", 1, "bf16", 64): Blocks(16, 16, 8, 255),
    ("decay", 1, "fp16", 64): Blocks(16, 16, 8, 255),
    ("decay", 1, "tf32", 32): Blocks(16, 16, 8, 255),
    ("decay", 1, "tf32", 64): Blocks(16, 16, 8, 255),
    ("delta", 0, "tf32", 64): Blocks(16, 16, 8, 255),
    ("delta", 0, "bf16", 64): Blocks(16, 32, 8, 255),
    ("delta", 0, "fp16", 64): Blocks(16, 16, 4, 255),
    ("delta", 1, "bf16", 64): Blocks(16, 16, 8, 255),
}
#: By architecture. One that is not here takes those of the next older one.
ELSEWHERE: dict[int, dict[tuple[str, int, str, int], Blocks]] = {
    80: MMA_SYNC,
    SM_90: {("delta", 0, "fp32", 32): Blocks(16, 16, 8, 255)},
    100: {
        ("sum", 0, "fp32", 64): Blocks(16, 16, 8, 255),
        ("sum", 0, "tf32", 64): Blocks(16, 16, 8, 255),
        ("delta", 0, "tf32", 64): Blocks(16, 32, 8, 255),
        ("sum", 1, "bf16", 64): Blocks(16, 32, 8),
        ("decay", 1, "fp16", 64): Blocks(16, 16, 8),
        ("delta", 0, "bf16", 64): Blocks(16, 64, 8),
        ("delta", 1, "bf16", 64): Blocks(16, 32, 8, 255),
    },
    120: {
        **MMA_SYNC,
        ("sum", 0, "bf16", 64): Blocks(32, 32, 8, 255),
        ("decay", 0, "fp32", 64): Blocks(16, 16, 8, 255),
        ("sum", 0, "fp32", 64): Blocks(16, 16, 8, 255),
        ("delta", 0, "fp32", 32): Blocks(16, 16, 8, 255),
    },
}
#: Where products are those of a warp, the widest map, and the widest φ of a family, whose state is
#: kept in registers, by rule and dtype; wider ones of these spilled in all that was tried there.
IN_REGISTERS_OF_MMA_SYNC = {
    **{("sum", dtype): (128, 64) for dtype in ("fp32", "tf32", "bf16", "fp16")},
    ("decay", "bf16"): (64, 32),
    ("decay", "fp16"): (64, 32),
    ("delta", "fp32"): (32, 16),
    ("delta", "tf32"): (16, 16),
    ("delta", "bf16"): (32, 16),
    ("delta", "fp16"): (16, 16),
}
IN_REGISTERS = {
    80: IN_REGISTERS_OF_MMA_SYNC,
    100: {("delta", "fp16"): (16, 16)},
    120: {**IN_REGISTERS_OF_MMA_SYNC, ("decay", "tf32"): (32, 32)},
}

_asked_for: list[int] = []


def arch() -> int:
    """Of the GPU that the process began with, so that all its layouts are of one kind."""
    if not _asked_for:
        from fwpbench.implementations.triton_kernels import INTERPRETED

        found = SM_90
        if not INTERPRETED and torch.cuda.is_available():
            major, minor = torch.cuda.get_device_capability()
            found = 10 * major + minor
        _asked_for.append(found)
    return _asked_for[0]


def lay_out_for(arch: int) -> None:
    """For a GPU that is not here: what a compiler of all architectures asks for."""
    _asked_for[:] = [arch]


def like(arch: int) -> int:
    """The architecture whose layouts it takes."""
    return max((known for known in ELSEWHERE if known <= arch), default=min(ELSEWHERE))


def in_registers(rule: str, dtype: str) -> tuple[int, int] | None:
    """The widest map and the widest φ of a family here, where that is less than BLOCKS have."""
    return IN_REGISTERS.get(like(arch()), {}).get((LIKE.get(rule, rule), dtype))


def widths(rule: str, dtype: str) -> list[int]:
    """The widest φ forward and backward."""
    return [max(by_dtype[dtype]) for by_dtype in BLOCKS[LIKE.get(rule, rule)]]


def blocks(rule: str, dtype: str, BD: int, *, backward: bool) -> Blocks:
    rule = LIKE.get(rule, rule)
    by_width = BLOCKS[rule][backward][dtype]
    width = min(width for width in by_width if width >= BD)
    return ELSEWHERE[like(arch())].get((rule, int(backward), dtype, width), by_width[width])
