"""What the kernels cannot do, one sentence each, asked before any launch."""

from __future__ import annotations

from fwpbench.implementations._kernel_terms import unknown_word
from fwpbench.implementations.triton_kernels.plan import DOTS, LARGEST_D, LARGEST_K, LARGEST_V
from fwpbench.implementations.triton_kernels.recurrent_plan import cannot as cannot_recurrent
from fwpbench.implementations.triton_kernels.recurrent_plan import is_recurrent, too_wide
from fwpbench.implementations.triton_kernels.unordered_plan import is_unordered
from fwpbench.operators.problem import Problem


def cannot(problem: Problem) -> str | None:
    p = problem
    if (reason := unknown_word(p, DOTS)) is not None:
        return reason
    if p.dtype == "tf32" and (is_recurrent(p) or is_unordered(p)):
        return (
            "its tf32 is for kernels of whole chunks, not of single tokens or of tokens in no "
            "order: those are as exact as float32, by dtype=fp32 too"
        )
    if is_recurrent(p):
        return cannot_recurrent(p)
    for axis, size, most in (("K", p.K, LARGEST_K), ("V", p.V, LARGEST_V)):
        if size > most:
            return f"{axis} = {size}: its kernels are checked up to {most}"
    return None if p.D <= LARGEST_D else too_wide(p)
