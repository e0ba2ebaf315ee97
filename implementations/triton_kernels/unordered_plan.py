"""Which problems need no order of their tokens, and how their kernels are laid out."""

from __future__ import annotations

from dataclasses import dataclass

from fwpbench.implementations._kernel_terms import NORMS, kind, query_map
from fwpbench.implementations.triton_kernels.plan import DOTS, SOLVES, power_of_two
from fwpbench.operators.problem import Problem

#: By dtype: features a tile, tokens a chunk, value columns a block at most, warps.
BLOCKS = {"fp32": (32, 16, 16, 8), "bf16": (64, 16, 32, 8), "fp16": (64, 16, 32, 8)}


def is_unordered(problem: Problem) -> bool:
    """Whether no token of it reads before all are written; one token is for decoding."""
    p = problem
    if p.rule != "sum" or p.dtype not in DOTS or p.direction == "decode":
        return False
    return not p.causal or not p.reads


@dataclass(frozen=True)
class UnorderedPlan:
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
    MASKED: bool
    #: Whether what z adds is weighted, as in its gradient.
    WEIGHTED: bool
    STATE_IN: bool
    DOT: str
    warps: int

    @property
    def tiles(self) -> int:
        """How many blocks share the value columns of a head."""
        return -(-self.V // self.BV)

    @property
    def feature_tiles(self) -> int:
        return -(-self.D // self.BD)

    @property
    def options(self) -> dict[str, int]:
        """All registers there are: left to itself the compiler spills for one block more."""
        return {"num_warps": self.warps, "num_stages": 1, "maxnreg": 255}


def unordered_plan(problem: Problem, *, queries: bool = False) -> UnorderedPlan:
    """Of the kernels that take keys, or queries: these all read, masked or not."""
    p = problem
    scale, divides = NORMS[p.norm]
    BD, C, most, warps = BLOCKS[p.dtype]
    return UnorderedPlan(
        K=p.K,
        V=p.V,
        D=p.D,
        BK=max(power_of_two(p.K), BD),
        BV=min(power_of_two(p.V), most),
        BD=BD,
        C=C,
        MAP=query_map(p) if queries else kind(p.phi),
        SCALE=scale,
        DIVIDES=divides,
        MASKED=p.masked and not queries,
        WEIGHTED=queries,
        STATE_IN=p.state_in,
        # The state goes out in float32 and is judged as such.
        DOT=SOLVES[p.dtype],
        warps=warps,
    )
