"""How a problem is laid out in blocks: fixed per width of φ, dtype and direction."""

from __future__ import annotations

from dataclasses import dataclass

from fwpbench.operators.problem import Problem

#: φ by name, as the kernels know them; of a family, which of it is said by its D.
MAPS = ("identity", "elu+1", "relu", "tanh")
FAMILIES = ("favor", "favor-published", "dpfp")
#: By normalisation: what scales φ, and whether what is read is divided.
NORMS = {
    "none": ("none", False),
    "sum": ("sum", False),
    "attention": ("none", True),
    "sum+attention": ("sum", True),
    "l2": ("l2", False),
}
#: Products by dtype. fp16 has the bits of tf32, whose range cannot be left.
DOTS = {"fp32": "ieee", "bf16": "bf16", "fp16": "tf32"}
#: By dtype, for widths up to BD: tokens a chunk, value columns a block at most, warps. Of what was
#: compiled for sm_90, the largest without spilled registers (tests/test_triton_compile.py).
#: Wider φ spilled in all that was tried for fp32 and fp16; for bf16 nothing wider was tried.
BLOCKS = {
    "fp32": {64: (16, 16, 8)},
    "bf16": {64: (32, 32, 8), 128: (16, 32, 8), 256: (16, 16, 8)},
    "fp16": {64: (16, 16, 8), 128: (16, 16, 8)},
}
#: The widest φ whose state a block holds in registers.
NARROW_D = {dtype: max(blocks) for dtype, blocks in BLOCKS.items()}
#: The same of DPFP and FAVOR, whose features have more to do with a token than one of its entries.
NARROW_FAMILY = 128
#: For a wider φ, by dtype: features a tile, tokens a chunk, value columns a block at most, warps.
WIDE_BLOCKS = {"fp32": (32, 16, 16, 8), "bf16": (64, 32, 64, 8), "fp16": (64, 16, 32, 8)}
LARGEST_D = 1024
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
    STATE_IN: bool
    STATE_OUT: bool
    DOT: str

    @property
    def tiles(self) -> int:
        """How many blocks share the value columns of a head."""
        return -(-self.V // self.BV)

    @property
    def wide(self) -> bool:
        """Whether φ is done in tiles, its state in memory."""
        return self.D > self.BD


def plan(problem: Problem) -> Plan:
    p = problem
    scale, divides = NORMS[p.norm]
    BK = power_of_two(p.K)
    if is_wide(p):
        BD, C, most, _ = WIDE_BLOCKS[p.dtype]
        # The gradient of x is gathered in registers, [C, BK]; narrower than BD, it spilled.
        C, BK = min(C, 4096 // BK), max(BK, BD)
    else:
        BD = power_of_two(p.D)
        C, most, _ = _block(p.dtype, BD)
    MAP = kind(p.phi)
    return Plan(
        K=p.K,
        V=p.V,
        D=p.D,
        # Narrower than a quarter of BD, the product that gathers DPFP's gradient spilled.
        BK=max(BK, BD // 4) if MAP == "dpfp" else BK,
        BV=min(power_of_two(p.V), most),
        BD=BD,
        C=C,
        MAP=MAP,
        QUERY_MAP=query_map(p),
        SCALE=scale,
        DIVIDES=divides,
        STATE_IN=p.state_in,
        STATE_OUT=p.state_out,
        DOT=DOTS[p.dtype],
    )


def is_wide(problem: Problem) -> bool:
    """Whether φ is wider than what a block can hold the state of in registers."""
    p = problem
    most = NARROW_D[p.dtype]
    if kind(p.phi) in FAMILIES:
        most = min(most, NARROW_FAMILY)
    return most < p.D


def kind(phi: str) -> str:
    """The name of a map, or that of its family: favor of favor-16."""
    return phi if phi in MAPS else phi.rpartition("-")[0]


def query_map(problem: Problem) -> str:
    """Of queries whose factor is divided out again, FAVOR takes off the largest exponent."""
    MAP = kind(problem.phi)
    return "favor-queries" if MAP == "favor" and problem.operator.stabilized_queries else MAP


def launch_options(plan: Plan) -> dict[str, int]:
    """Warps of a block, and how many chunks are loaded ahead."""
    dtype = next(dtype for dtype, dot in DOTS.items() if dot == plan.DOT)
    warps = WIDE_BLOCKS[dtype][3] if plan.wide else _block(dtype, plan.BD)[2]
    return {"num_warps": warps, "num_stages": 1}


def _block(dtype: str, BD: int) -> tuple[int, int, int]:
    blocks = BLOCKS[dtype]
    return blocks[min(width for width in blocks if width >= BD)]


def power_of_two(size: int) -> int:
    """At least 16, the smallest side of a product."""
    return max(16, 1 << (size - 1).bit_length())
