"""The words in which fused kernels are told what to compute: φ, normalisation, rule."""

from __future__ import annotations

from collections.abc import Collection
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


@dataclass(frozen=True)
class Law:
    """What a rule does to the state. DECAY: by one number a head, one a feature, or by 1 − β."""

    DECAY: str = "none"
    WEIGHS: bool = False
    CORRECTS: bool = False
    CLIPS: bool = False


LAWS = {
    "sum": Law(),
    "decay": Law(DECAY="head"),
    "gla": Law(DECAY="feature"),
    "gated": Law(DECAY="beta", WEIGHS=True),
    "delta": Law(WEIGHS=True, CORRECTS=True),
    "gated-delta": Law(DECAY="head", WEIGHS=True, CORRECTS=True),
    "kda": Law(DECAY="feature", WEIGHS=True, CORRECTS=True),
    "fwm": Law(WEIGHS=True, CORRECTS=True, CLIPS=True),
}


def kind(phi: str) -> str:
    """The name of a map, or that of its family: favor of favor-16."""
    return phi if phi in MAPS else phi.rpartition("-")[0]


def query_map(problem: Problem) -> str:
    """Of queries whose factor is divided out again, FAVOR takes off the largest exponent."""
    MAP = kind(problem.phi)
    return "favor-queries" if MAP == "favor" and problem.operator.stabilized_queries else MAP


def normalizer(problem: Problem) -> str:
    """How z follows: `none`, `same-law` or `sum`."""
    _, divides = NORMS[problem.norm]
    return (problem.operator.update_rule.normalizer or "none") if divides else "none"


def tokens_between(T: int) -> int:
    """Tokens from one kept state to the next: √T, where kept and recomputed states balance."""
    return max(16, 1 << ((T - 1).bit_length() + 1) // 2)


def unknown_word(problem: Problem, dtypes: Collection[str]) -> str | None:
    """Which word of a problem these terms, or the kernels' dtypes, do not have."""
    p = problem
    if p.rule not in LAWS:
        return f"its kernels have the rules {', '.join(LAWS)}, not {p.rule}"
    if kind(p.phi) not in MAPS + FAMILIES:
        return f"its kernels have {', '.join(MAPS)}, {'-N, '.join(FAMILIES)}-N, not {p.phi}"
    if p.norm not in NORMS:
        return f"its kernels have the normalisations {', '.join(NORMS)}, not {p.norm}"
    if p.dtype not in dtypes:
        return f"its kernels have {', '.join(dtypes)}, not {p.dtype}: they add up in float32"
    return None
