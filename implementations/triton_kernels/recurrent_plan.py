"""Which problems go token by token, how such a kernel is laid out, and what it cannot do."""

from __future__ import annotations

from dataclasses import dataclass

from fwpbench.implementations._kernel_terms import LAWS, NORMS, kind, normalizer, query_map
from fwpbench.implementations.triton_kernels.plan import DOTS, LARGEST_D, RULES, power_of_two
from fwpbench.implementations.triton_kernels.unordered_plan import is_unordered
from fwpbench.operators.problem import Problem

#: Rules that go token by token at any length: the clip of fwm makes every token wait for the one
#: before it; the others have no kernel of whole chunks yet.
TOKEN_BY_TOKEN = ("gla", "kda", "fwm")


def is_recurrent(problem: Problem) -> bool:
    """Whether the recurrent kernels take it: one token, a rule without kernels of whole chunks, and
    what those have no form for: masks and writing alone."""
    p = problem
    if p.direction == "decode" or p.rule in TOKEN_BY_TOKEN:
        return True
    if p.rule not in RULES or p.dtype not in DOTS or is_unordered(p):
        return False
    return p.masked or not p.reads


@dataclass(frozen=True)
class RecurrentPlan:
    """The constants of one problem's kernels: B… a size in powers of two."""

    K: int
    V: int
    D: int
    BK: int
    BV: int
    BD: int
    MAP: str
    QUERY_MAP: str
    SCALE: str
    DECAY: str
    WEIGHS: bool
    CORRECTS: bool
    CLIPS: bool
    #: How z follows: `none`, `same-law` or `sum`.
    NORMALIZER: str
    MASKED: bool
    READS: bool
    #: Whether the forward kernel keeps states for a backward pass.
    KEEPS: bool
    STATE_IN: bool
    STATE_OUT: bool
    #: Of the backward kernel.
    backward: bool = False

    @property
    def tiles(self) -> int:
        """How many blocks share the value columns of a head."""
        return -(-self.V // self.BV)

    @property
    def options(self) -> dict[str, int]:
        """Warps of a block: 32 numbers of a state a thread, backward 16, as long as 8 are enough.

        A thread may use every register there is: left to itself the compiler spills some, so that
        more blocks fit at a time.
        """
        numbers = self.BD * self.BV * (2 if self.backward else 1)
        return {"num_warps": min(max(numbers // 1024, 4), 8), "num_stages": 1, "maxnreg": 255}


#: Numbers of a state tile at most, where value columns may be shared out: 16 at least forward, and
#: backward, where there are two of it, as few as fit.
TILE = 4096
#: Numbers of a state that is clipped, which lies in one block. Of what was compiled for sm_90, the
#: largest without spilled registers (tests/test_triton_compile.py).
LARGEST_CLIPPED = 16384


def largest_state(problem: Problem) -> int:
    """Backward there are two of it, and rows as wide as φ beside it."""
    if not problem.backward:
        return LARGEST_CLIPPED
    wide = problem.D > 128
    return LARGEST_CLIPPED // (4 if wide else 2)


def recurrent_plan(problem: Problem, *, backward: bool = False) -> RecurrentPlan:
    """Of the forward kernel or of the backward one."""
    p = problem
    scale, _ = NORMS[p.norm]
    BD, BV = power_of_two(p.D), power_of_two(p.V)
    law = LAWS[p.rule]
    return RecurrentPlan(
        K=p.K,
        V=p.V,
        D=p.D,
        BK=power_of_two(p.K),
        BV=BV if law.CLIPS else min(BV, max(TILE // BD, 1 if backward else 16)),
        BD=BD,
        MAP=kind(p.phi),
        QUERY_MAP=query_map(p),
        SCALE=scale,
        **vars(law),
        NORMALIZER=normalizer(p),
        MASKED=p.masked,
        READS=p.reads,
        KEEPS=p.backward,
        STATE_IN=p.state_in,
        STATE_OUT=p.state_out,
        backward=backward,
    )


def too_wide(problem: Problem) -> str:
    p = problem
    return f"{p.phi} makes K = {p.K} to D = {p.D}: its kernels are checked up to {LARGEST_D}"


def cannot(problem: Problem) -> str | None:
    """Of a rule, map, normalisation and dtype that it has."""
    p = problem
    if p.D > LARGEST_D:
        return too_wide(p)
    size = power_of_two(p.D) * power_of_two(p.V)
    if LAWS[p.rule].CLIPS and size > (most := largest_state(p)):
        return (
            f"the clip of {p.rule} couples all value columns, so that D × V = {p.D} × {p.V} lie in "
            f"one block, filled up to {size} numbers: {p.direction} has no layout for more than "
            f"{most} that fits"
        )
    return None
