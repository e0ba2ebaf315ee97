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
#: Products by dtype. fp16 has the bits of tf32, whose range cannot be left.
DOTS = {"fp32": "ieee", "bf16": "bf16", "fp16": "tf32"}
#: The largest D per dtype: a state D × 16 and what a chunk needs besides stay in registers.
LARGEST_D = {"fp32": 256, "bf16": 256, "fp16": 256}
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
    SCALE: str
    DIVIDES: bool
    STATE_IN: bool
    STATE_OUT: bool
    DOT: str

    @property
    def tiles(self) -> int:
        """How many blocks share the value columns of a head."""
        return -(-self.V // self.BV)


def plan(problem: Problem) -> Plan:
    p = problem
    scale, divides = NORMS[p.norm]
    BD = _power_of_two(p.D)
    return Plan(
        K=p.K,
        V=p.V,
        D=p.D,
        BK=_power_of_two(p.K),
        BV=min(_power_of_two(p.V), 64 if p.dtype == "bf16" and BD <= 128 else 16),
        BD=BD,
        C=32 if p.dtype == "bf16" else 16,
        MAP=p.phi if p.phi in MAPS else "dpfp",
        SCALE=scale,
        DIVIDES=divides,
        STATE_IN=p.state_in,
        STATE_OUT=p.state_out,
        DOT=DOTS[p.dtype],
    )


def launch_options(plan: Plan) -> dict[str, int]:
    """Warps of a block, and how many chunks are loaded ahead."""
    return {"num_warps": 4 if plan.BD <= 128 else 8, "num_stages": 1}


def _power_of_two(size: int) -> int:
    """At least 16, the smallest side of a product."""
    return max(16, 1 << (size - 1).bit_length())
