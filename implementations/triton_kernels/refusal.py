"""What the kernels cannot do, one sentence each, asked before any launch."""

from __future__ import annotations

from fwpbench.implementations._kernel_terms import FAMILIES, LAWS, MAPS, NORMS, kind
from fwpbench.implementations.triton_kernels.plan import DOTS, LARGEST_D, LARGEST_K, LARGEST_V
from fwpbench.implementations.triton_kernels.recurrent_plan import cannot as cannot_recurrent
from fwpbench.implementations.triton_kernels.recurrent_plan import is_recurrent, too_wide
from fwpbench.implementations.triton_kernels.unordered_plan import is_unordered
from fwpbench.operators.problem import Problem


def cannot(problem: Problem) -> str | None:
    p = problem
    if p.rule not in LAWS:
        return f"its kernels have the rules {', '.join(LAWS)}, not {p.rule}"
    if kind(p.phi) not in MAPS + FAMILIES:
        return f"its kernels have {', '.join(MAPS)}, {'-N, '.join(FAMILIES)}-N, not {p.phi}"
    if p.norm not in NORMS:
        return f"its kernels have the normalisations {', '.join(NORMS)}, not {p.norm}"
    if p.dtype not in DOTS:
        return f"its kernels have {', '.join(DOTS)}, not {p.dtype}: they add up in float32"
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
