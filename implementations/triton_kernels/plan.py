"""How a problem is laid out in blocks: fixed per width of φ, dtype and direction."""

from __future__ import annotations

from dataclasses import dataclass

from fwpbench.operators.problem import Problem

#: φ by name, as the kernels know them; dpfp-N is by its D.
MAPS = ("identity", "elu+1", "relu")
#: By normalisation: what scales φ, and whether what is read is divided.
NORMS = {
    "none": ("none", False),
    "sum": ("sum", False),
    "attention": ("none", True),
    "sum+attention": ("sum", True),
    "l2": ("l2", False),
}
#: What a rule does: decays by α, is gated by β (α = 1 − β), corrects what it finds.
RULES = {
    "sum": (False, False, False),
    "decay": (True, False, False),
    "gated": (False, True, False),
    "delta": (False, False, True),
    "gated-delta": (True, False, True),
}
#: Products by dtype. fp16 has the bits of tf32, whose range cannot be left.
DOTS = {"fp32": "ieee", "bf16": "bf16", "fp16": "tf32"}
#: What solves for the delta rule's A: float32, in three products where there are tensor cores.
SOLVES = {"fp32": "ieee", "bf16": "tf32x3", "fp16": "tf32x3"}
BLOCKS = {
    "fp32": {64: (16, 16, 8)},
    "bf16": {64: (32, 32, 8), 128: (16, 32, 8), 256: (16, 16, 8)},
    "fp16": {64: (16, 16, 8), 128: (16, 16, 8)},
}
LARGEST_D = {dtype: max(blocks) for dtype, blocks in BLOCKS.items()}
#: DPFP's gradient multiplies by two tiles [BD, BK] of ones in shared memory.
LARGEST_DPFP = 128
LARGEST_K = LARGEST_V = 256


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

    @property
    def tiles(self) -> int:
        """How many blocks share the value columns of a head."""
        return -(-self.V // self.BV)


def plan(problem: Problem, *, backward: bool = False, keeps: bool = False) -> Plan:
    """For the forward kernel, or the `backward` ones; `keeps` the state at the chunks of backward.
    """
    p = problem
    scale, divides = NORMS[p.norm]
    decays, gated, corrects = RULES[p.rule]
    BD = _power_of_two(p.D)
    C, most, warps = _block(p.dtype, BD)
    MAP = p.phi if p.phi in MAPS else "dpfp"
    BK = _power_of_two(p.K)
    return Plan(
        K=p.K,
        V=p.V,
        D=p.D,
        # Narrower than a quarter of BD, the product that gathers DPFP's gradient spilled.
        BK=max(BK, BD // 4) if MAP == "dpfp" else BK,
        BV=min(_power_of_two(p.V), most),
        BD=BD,
        C=C,
        MAP=MAP,
        QUERY_MAP=MAP,
        SCALE=scale,
        DIVIDES=divides,
        DECAYS=decays,
        GATED=gated,
        CORRECTS=corrects,
        # Without decay or correction the gradients need no state but the first and the last.
        KEEPS=keeps and p.rule != "sum",
        STATE_IN=p.state_in,
        STATE_OUT=p.state_out,
        DOT=DOTS[p.dtype],
        SOLVE=SOLVES[p.dtype],
        warps=warps,
    )


def _block(dtype: str, BD: int) -> tuple[int, int, int]:
    blocks = BLOCKS[dtype]
    return blocks[min(width for width in blocks if width >= BD)]


def _power_of_two(size: int) -> int:
    """At least 16, the smallest side of a product."""
    return max(16, 1 << (size - 1).bit_length())
