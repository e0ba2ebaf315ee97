"""A problem's kernels: their constants, and how they are laid out in blocks (layouts.py)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from fwpbench.implementations._kernel_terms import MAPS, NORMS, kind, query_map
from fwpbench.implementations.triton_kernels.layouts import (
    SM_90,
    arch,
    blocks,
    in_registers,
    like,
    widths,
)
from fwpbench.operators.problem import Problem

#: What a rule does: decays by α, is gated by β (α = 1 − β), corrects what it finds.
RULES = {
    "sum": (False, False, False),
    "decay": (True, False, False),
    "gated": (False, True, False),
    "delta": (False, False, True),
    "gated-delta": (True, False, True),
}
#: Products by dtype, tf32 with operands rounded. fp16 has its bits, and its range cannot be left.
DOTS = {"fp32": "ieee", "tf32": "tf32", "bf16": "bf16", "fp16": "tf32"}
#: What solves for the delta rule's A: float32, in three products where there are tensor cores.
SOLVES = {"fp32": "ieee", "tf32": "tf32x3", "bf16": "tf32x3", "fp16": "tf32x3"}
#: The widest φ of DPFP and FAVOR, whose features have more to do with a token than one of its
#: entries: DPFP's gradient multiplies by two tiles [BD, BK] of ones.
LARGEST_FAMILY = 128
#: Of these less fits where products are in float32; and of one where operands are rounded to tf32.
LARGEST_FAMILY_OF = {
    ("fp32", "decay", "favor"): 32,
    ("fp32", "gated", "favor"): 32,
    ("fp32", "delta", "favor"): 16,
    ("fp32", "gated-delta", "favor"): 16,
    ("fp32", "gated-delta", "dpfp"): 16,
    ("fp16", "gated-delta", "favor"): 32,
}
#: Of FAVOR where a rule decays or corrects, and K or V is narrower than this, no wider φ than this:
#: narrow backward kernels of twice its features spilled 56 to 856 bytes there, and none otherwise.
NARROW_FAVOR = 64
#: For a φ wider than that, by dtype, forward and backward: features a tile, tokens a chunk, value
#: columns a block at most, warps.
WideBlocks = dict[str, tuple[tuple[int, int, int, int], tuple[int, int, int, int]]]
WIDE_SUM: WideBlocks = {
    "fp32": ((32, 16, 16, 8), (32, 16, 16, 8)),
    "tf32": ((64, 16, 32, 8), (64, 16, 32, 8)),
    "bf16": ((64, 32, 64, 8), (64, 32, 64, 8)),
    "fp16": ((64, 16, 32, 8), (64, 16, 32, 8)),
}
#: Of the rules that decay or correct.
WIDE: WideBlocks = {
    "fp32": ((32, 16, 16, 8), (32, 16, 16, 8)),
    "tf32": ((64, 16, 32, 8), (32, 16, 32, 8)),
    "bf16": ((64, 32, 64, 8), (64, 32, 32, 8)),
    "fp16": ((64, 16, 32, 8), (32, 16, 32, 8)),
}
#: Of these FAVOR, whose projection is summed up beside what else a tile needs.
WIDE_FAVOR: WideBlocks = {
    "fp32": ((32, 16, 16, 8), (16, 16, 16, 8)),
    "tf32": ((64, 16, 32, 8), (32, 16, 32, 8)),
    "bf16": ((64, 16, 64, 8), (16, 16, 32, 8)),
    "fp16": ((64, 16, 32, 8), (32, 16, 32, 8)),
}
#: Of all rules, for GPUs of other architectures, where larger ones spilled.
WIDE_80: WideBlocks = {
    "fp32": ((32, 16, 16, 8), (16, 16, 16, 8)),
    "tf32": ((32, 16, 32, 8), (32, 16, 16, 8)),
    "bf16": ((64, 16, 32, 8), (32, 16, 32, 8)),
    "fp16": ((32, 16, 32, 8), (32, 16, 16, 8)),
}
WIDE_100: WideBlocks = {
    "fp32": WIDE_80["fp32"],
    "tf32": ((32, 16, 32, 8), (16, 16, 32, 8)),
    "bf16": ((32, 16, 32, 8), (32, 16, 32, 8)),
    "fp16": ((32, 16, 32, 8), (16, 16, 32, 8)),
}
WIDE_FAVOR_100: WideBlocks = {
    "fp32": WIDE_80["fp32"],
    "tf32": ((16, 16, 32, 8), (16, 16, 32, 8)),
    "bf16": ((16, 16, 32, 8), (16, 16, 32, 8)),
    "fp16": ((16, 16, 32, 8), (16, 16, 32, 8)),
}
LARGEST_D = 1024
LARGEST_K = LARGEST_V = 256


def largest_narrow(problem: Problem) -> int:
    """The widest φ whose state a block can hold in registers both ways, for what goes forward may
    have to go back."""
    p = problem
    widest = min(widths(p.rule, p.dtype))
    if (here := in_registers(p.rule, p.dtype)) is not None:
        widest = min(widest, here[p.phi not in MAPS])
    if p.phi in MAPS:
        return widest
    family = kind(p.phi).removesuffix("-published")
    if family == "favor" and p.rule != "sum" and min(p.K, p.V) < NARROW_FAVOR:
        widest = min(widest, NARROW_FAVOR)
    return min(widest, LARGEST_FAMILY_OF.get((p.dtype, p.rule, family), LARGEST_FAMILY))


def is_wide(problem: Problem) -> bool:
    """Whether φ is done in tiles, its state in memory."""
    return largest_narrow(problem) < problem.D


def wide_blocks(problem: Problem) -> WideBlocks:
    favor = problem.phi.startswith("favor")
    if like(arch()) == 80:
        return WIDE_80
    if like(arch()) != SM_90:
        return WIDE_FAVOR_100 if favor else WIDE_100
    if problem.rule == "sum":
        return WIDE_SUM
    return WIDE_FAVOR if favor else WIDE


@dataclass(frozen=True)
class Plan:
    """The constants of one problem's kernels: C tokens a chunk, B… a size in powers of two."""

    K: int
    V: int
    D: int
    BK: int
    BV: int
    BD: int
    C: int
    MAP: str
    QUERY_MAP: str
    SCALE: str
    DIVIDES: bool
    DECAYS: bool
    GATED: bool
    CORRECTS: bool
    KEEPS: bool
    STATE_IN: bool
    STATE_OUT: bool
    DOT: str
    SOLVE: str
    warps: int
    registers: int | None
    #: What forward.py says of segments, and of what another kernel prepares for it.
    COLUMNS: int
    ALONE: bool = False
    PREPARED: bool = False

    @property
    def tiles(self) -> int:
        """How many blocks share the columns of a state."""
        return -(-self.COLUMNS // self.BV)

    @property
    def options(self) -> dict[str, int]:
        """Chunks loaded ahead would need as many registers again."""
        options = {"num_warps": self.warps, "num_stages": 1}
        return options if self.registers is None else options | {"maxnreg": self.registers}


#: What of a problem's plan is another size than in its layout, and which (fit.py, tuning.py).
REPLACED: dict[tuple[Problem, bool, bool], dict[str, Any]] = {}
#: Problems whose sizes are those of tuning.py.
TUNED: set[Problem] = set()


def as_laid_out(problem: Problem) -> None:
    for backward, keeps in ((False, False), (False, True), (True, False)):
        REPLACED.pop(key(problem, backward, keeps), None)
    TUNED.discard(problem)


def key(problem: Problem, backward: bool, keeps: bool) -> tuple[Problem, bool, bool]:
    # Without decay or correction the gradients need no state but the first and the last.
    return problem, backward, keeps and problem.rule != "sum"


def plan(problem: Problem, *, backward: bool = False, keeps: bool = False) -> Plan:
    """Of the forward kernel or, with `backward`, of both backward ones.

    A forward kernel that `keeps` what the backward ones need has chunks as long as theirs.
    """
    p = problem
    which = key(p, backward, keeps)
    *_, keeps = which
    scale, divides = NORMS[p.norm]
    decays, gated, corrects = RULES[p.rule]
    MAP, BK, BD = kind(p.phi), power_of_two(p.K), power_of_two(p.D)
    if is_wide(p):
        wide_forward, wide_backward = wide_blocks(p)[p.dtype]
        largest_BD, C, most, warps = wide_backward if backward else wide_forward
        BD = min(BD, largest_BD)
        # Left to itself the compiler spilled some, for one more block at a time.
        registers = 255 if p.D > BD else None
        if keeps:
            C = wide_backward[1]
        # The gradient of x is gathered in registers, [C, BK]; narrower than BD, it spilled.
        gathered = 4096
        if p.phi not in MAPS and (decays or gated) and not corrects:
            gathered = 2048  # larger ones spilled
        C, BK = min(C, max(16, gathered // BK)), max(BK, BD)
        if corrects and divides:
            C = 16  # with 32, the running sum of keys spilled for some K and V
    else:
        C, most, warps, registers = blocks(p.rule, p.dtype, BD, backward=backward)
        if keeps:
            C = blocks(p.rule, p.dtype, BD, backward=True).C
        if MAP == "dpfp":
            BK = max(BK, _narrowest_K(p, BD))
    found = Plan(
        K=p.K,
        V=p.V,
        D=p.D,
        BK=BK,
        # Narrower, the delta rule's products in bf16 and fp16 spilled (forward.py has the reason).
        BV=min(max(power_of_two(p.V), 2 * C if corrects and p.dtype != "fp32" else 16), most),
        BD=BD,
        C=C,
        MAP=MAP,
        QUERY_MAP=query_map(p),
        SCALE=scale,
        DIVIDES=divides,
        DECAYS=decays,
        GATED=gated,
        CORRECTS=corrects,
        KEEPS=keeps,
        STATE_IN=p.state_in,
        STATE_OUT=p.state_out,
        DOT=DOTS[p.dtype],
        SOLVE=SOLVES[p.dtype],
        warps=warps,
        registers=registers,
        COLUMNS=p.V,
    )
    return replace(found, **REPLACED[which]) if which in REPLACED else found


def kept_dtype(problem: Problem) -> torch.dtype:
    """Of the states that a backward pass reads: what its products round them to anyway. Those of
    fp16 do too, but its range is left by sums of many tokens."""
    return torch.bfloat16 if DOTS[problem.dtype] == "bf16" else torch.float32


def _narrowest_K(problem: Problem, BD: int) -> int:
    """Narrower, the product that gathers DPFP's gradient spilled: all warps held all of it."""
    if problem.rule == "sum":
        return BD // 4
    return min(BD, 64) if problem.dtype == "fp32" else 64


def power_of_two(size: int) -> int:
    """At least 16, the smallest side of a product."""
    return max(16, 1 << (size - 1).bit_length())
