"""Operators people know by name: together they cover every kind of φ, rule and normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fwpbench.harness.profiles import Profile
from fwpbench.harness.suite import Case
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import Problem

NAMED_OPERATORS: dict[str, Operator] = {
    "Softmax attention": Operator("softmax-attention", "identity", "none"),
    "Linear Transformer": Operator("sum", "elu+1", "attention"),
    "Performer": Operator("sum", "favor-64", "attention"),
    "DPFP memory": Operator("sum", "dpfp-2", "attention"),
    "Delta Network": Operator("delta", "dpfp-1", "sum"),
    "DeltaNet": Operator("delta", "identity", "l2"),
    "Gated DeltaNet": Operator("gated-delta", "identity", "l2"),
    "Retention": Operator("decay", "identity", "none"),
    "Delta Network, both norms": Operator("delta", "elu+1", "sum+attention"),
    "Gated memory": Operator("gated", "relu", "attention"),
    "Fast weight memory": Operator("fwm", "tanh", "none"),
    "Performer as published": Operator("sum", "favor-published-64", "attention"),
    "GLA": Operator("gla", "identity", "none"),
    "Kimi delta attention": Operator("kda", "identity", "l2"),
}
QUICK = tuple(NAMED_OPERATORS)[:8]


#: The normalisation that goes without saying (Schlag et al. 2021, section 6.3).
_ORDINARY = {"sum": "attention", "delta": "sum"}


def by_name(*operators: Operator) -> dict[str, Operator]:
    """Each under the name it has in every suite: that of the table above, else rule and φ, and the
    normalisation where it is another than usual."""
    known = {operator: name for name, operator in NAMED_OPERATORS.items()}
    return {known.get(operator) or _described(operator): operator for operator in operators}


def _described(operator: Operator) -> str:
    words = [operator.rule, operator.phi]
    if operator.norm not in ("none", _ORDINARY.get(operator.rule)):
        words.append(operator.norm)
    return ", ".join(words)


def named_operators(profile: Profile) -> dict[str, Operator]:
    """Eight in the quick profile, all of them otherwise."""
    return {
        name: operator
        for name, operator in NAMED_OPERATORS.items()
        if profile.name != "quick" or name in QUICK
    }


#: The token loop is a definition, not a contender: longer ones would only cost patience.
LONGEST_REFERENCE = {"quick": 256, "standard": 2048, "full": 2048}


def named_cases(profile: Profile, lengths: Sequence[int], *forms: dict[str, Any]) -> list[Case]:
    """Every named operator at every length in each of these forms (sizes, direction, state …), in
    fp32 where a form says no dtype."""
    longest = LONGEST_REFERENCE[profile.name]
    reason = f"one token at a time: asked up to T = {longest} in {profile.name}"
    return [
        Case(
            Problem.of(operator, T=T, **({"dtype": "fp32"} | form)),
            name=name,
            excluded={"reference": reason} if longest < T else {},
        )
        for name, operator in named_operators(profile).items()
        for T in lengths
        for form in forms
    ]
