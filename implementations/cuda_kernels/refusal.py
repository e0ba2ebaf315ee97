"""What the kernels cannot do, one sentence each, asked before any launch."""

from __future__ import annotations

from fwpbench.implementations._kernel_terms import LAWS, unknown_word
from fwpbench.implementations.cuda_kernels.choice import chunk_plans
from fwpbench.implementations.cuda_kernels.recurrent_plan import LARGEST_D, recurrent_plan
from fwpbench.operators.problem import Problem

DTYPES = ("fp32", "tf32", "bf16", "fp16")


def cannot(problem: Problem) -> str | None:
    p = problem
    if (reason := unknown_word(p, DTYPES)) is not None:
        return reason
    if p.dtype == "tf32" and not chunk_plans(p):
        return (
            "its tf32 is for kernels of whole chunks, not of single tokens: those are as exact as "
            "float32, by dtype=fp32 too"
        )
    if p.D > LARGEST_D:
        return f"{p.phi} makes K = {p.K} to D = {p.D}: its kernels are checked up to {LARGEST_D}"
    if chunk_plans(p):
        return None
    for backward in (False, True)[: 1 + p.backward]:
        if recurrent_plan(p, backward=backward) is None:
            way = "backward" if backward else "forward"
            if not LAWS[p.rule].CLIPS:
                return (
                    f"token by token, {way} no layout has registers for the state, its gradient "
                    f"and z at D = {p.D}"
                )
            return (
                f"the clip of {p.rule} couples all value columns, so that D × V = {p.D} × {p.V} = "
                f"{p.D * p.V} numbers lie in one block, and {way} no layout has so many registers "
                f"and so much shared memory"
            )
    return None
