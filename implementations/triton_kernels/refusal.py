"""What the kernels cannot do, one sentence each, asked before any launch."""

from __future__ import annotations

from fwpbench.implementations.triton_kernels.plan import (
    DOTS,
    FAMILIES,
    LARGEST_D,
    LARGEST_K,
    LARGEST_V,
    MAPS,
    NORMS,
    RULES,
    kind,
)
from fwpbench.implementations.triton_kernels.recurrent_plan import cannot as cannot_recurrent
from fwpbench.implementations.triton_kernels.recurrent_plan import is_recurrent
from fwpbench.operators.problem import Problem


def cannot(problem: Problem) -> str | None:
    p = problem
    if is_recurrent(p):
        return cannot_recurrent(p)
    if p.rule not in RULES:
        return f"its kernels have the rules {', '.join(RULES)}, not {p.rule}"
    if kind(p.phi) not in MAPS + FAMILIES:
        return f"its kernels have {', '.join(MAPS)}, {'-N, '.join(FAMILIES)}-N, not {p.phi}"
    if p.norm not in NORMS:
        return f"its kernels have the normalisations {', '.join(NORMS)}, not {p.norm}"
    if p.dtype not in DOTS:
        return f"its kernels have {', '.join(DOTS)}, not {p.dtype}: tensor cores add up in float32"
    if not p.causal:
        return "its kernels read what came before each token: causal=no needs one of its own"
    if p.masked:
        return "its kernels take no mask so far"
    if not p.reads:
        return "its kernels read wherever they write: reads=no needs one of its own"
    for axis, size, most in (("K", p.K, LARGEST_K), ("V", p.V, LARGEST_V)):
        if size > most:
            return f"{axis} = {size}: its kernels are checked up to {most}"
    if p.D > LARGEST_D:
        return f"{p.phi} makes K = {p.K} to D = {p.D}: its kernels are checked up to {LARGEST_D}"
    return None
