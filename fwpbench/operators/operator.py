"""An operator: a feature map, an update rule and a normalisation; and which make no sense."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fwpbench.operators import FEATURE_MAPS, NORMALIZATIONS, UPDATE_RULES
from fwpbench.operators.registry import Registry, Unloadable

if TYPE_CHECKING:
    from fwpbench.operators.feature_maps import FeatureMap
    from fwpbench.operators.normalizations import Normalization
    from fwpbench.operators.update_rules import UpdateRule


@dataclass(frozen=True)
class Operator:
    """ "The delta rule with DPFP-3, sum-normalised": `Operator("delta", "dpfp-3", "sum")`."""

    rule: str
    phi: str
    norm: str

    @cached_property
    def update_rule(self) -> UpdateRule:
        return UPDATE_RULES[self.rule]

    @cached_property
    def feature_map(self) -> FeatureMap:
        return FEATURE_MAPS[self.phi]

    @cached_property
    def normalization(self) -> Normalization:
        return NORMALIZATIONS[self.norm]

    @property
    def divides(self) -> bool:
        """Whether reading divides by z·φ(q), so that the state has a z."""
        return self.normalization.divides

    @property
    def stabilized_queries(self) -> bool:
        """Whether φ may take a factor off each query, because the normalisation cancels it."""
        return self.normalization.cancels_query_factor

    def __str__(self) -> str:
        return f"rule={self.rule} phi={self.phi} norm={self.norm}"


def undefined(operator: Operator, K: int | None = None) -> str | None:
    """Why this triple means nothing, in a sentence, or None."""
    rule, norm = operator.update_rule, operator.norm
    if rule.keeps_tokens and operator.phi != "identity":
        return f"{operator.rule} has its own kernel exp(q·k): it takes no feature map but identity"
    if rule.keeps_tokens and norm != "none":
        return f"{operator.rule} normalises by its softmax: it takes no normalisation but none"
    if operator.rule == "fwm" and norm != "none":
        return "fwm bounds its own state and layer-normalises what it reads: it takes only none"
    if "sum" in norm.split("+") and not operator.feature_map.nonnegative:
        return f"{operator.phi} has both signs: its features may sum to 0, so sum is undefined"
    if operator.divides and not operator.feature_map.nonnegative:
        return f"{operator.phi} has both signs: z·φ(q) may be 0, so attention is undefined"
    if operator.divides and rule.normalizer is None:
        return (
            f"{operator.rule} has no z: what its decayed keys should be divided by is defined "
            "nowhere, so attention is undefined"
        )
    if K is not None:
        return operator.feature_map.refuses_size(K)
    return None


def discouraged(operator: Operator) -> str | None:
    """Why this triple, though defined, is left out of every enumeration, or None."""
    if operator.update_rule.corrects and operator.norm == "none":
        return "diverges unless β‖φ(k)‖² ≤ 2; use sum, l2 or attention"
    return None


def _unloadable(operator: Operator) -> str | None:
    """Why a part of it, of a plugin, cannot be had, or None."""
    tables: list[tuple[Registry[Any], str]] = [
        (UPDATE_RULES, operator.rule),
        (FEATURE_MAPS, operator.phi),
        (NORMALIZATIONS, operator.norm),
    ]
    for table, name in tables:
        try:
            table[name]
        except Unloadable as error:
            return str(error)
    return None


def enumerate_operators() -> tuple[list[Operator], list[tuple[Operator, str]]]:
    """Every triple of the three tables: those that make sense, and the others with the reason."""
    sound, senseless = [], []
    for rule in UPDATE_RULES:
        for phi in FEATURE_MAPS:
            for norm in NORMALIZATIONS:
                operator = Operator(rule, phi, norm)
                reason = _unloadable(operator) or undefined(operator) or discouraged(operator)
                if reason is None:
                    sound.append(operator)
                else:
                    senseless.append((operator, reason))
    return sound, senseless
