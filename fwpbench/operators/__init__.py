"""WHAT is computed: feature maps, update rules and normalisations, and problems made of them.

The four tables below are the whole vocabulary; a row is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fwpbench.operators.registry import Registry

if TYPE_CHECKING:
    from fwpbench.operators.feature_maps import FeatureMap
    from fwpbench.operators.input_families import InputFamily
    from fwpbench.operators.normalizations import Normalization
    from fwpbench.operators.update_rules import UpdateRule

FEATURE_MAPS: Registry[FeatureMap] = Registry(
    "feature_maps",
    {
        "identity": "fwpbench.operators.feature_maps:IDENTITY",
        "elu+1": "fwpbench.operators.feature_maps:ELU_PLUS_ONE",
        "relu": "fwpbench.operators.feature_maps:RELU",
        "tanh": "fwpbench.operators.feature_maps:TANH",
        "favor-M": "fwpbench.operators.feature_maps:FAVOR",
        "favor-published-M": "fwpbench.operators.feature_maps:FAVOR_PUBLISHED",
        "dpfp-NU": "fwpbench.operators.feature_maps:DPFP",
    },
    of="fwpbench.operators.feature_maps:FeatureMap",
)

UPDATE_RULES: Registry[UpdateRule] = Registry(
    "update_rules",
    {
        "sum": "fwpbench.operators.update_rules:SUM",
        "decay": "fwpbench.operators.update_rules:DECAY",
        "gla": "fwpbench.operators.update_rules:GLA",
        "gated": "fwpbench.operators.update_rules:GATED",
        "delta": "fwpbench.operators.update_rules:DELTA",
        "gated-delta": "fwpbench.operators.update_rules:GATED_DELTA",
        "kda": "fwpbench.operators.update_rules:KDA",
        "fwm": "fwpbench.operators.update_rules:FWM",
        "softmax-attention": "fwpbench.operators.update_rules:SOFTMAX_ATTENTION",
    },
    of="fwpbench.operators.update_rules:UpdateRule",
)

NORMALIZATIONS: Registry[Normalization] = Registry(
    "normalizations",
    {
        "none": "fwpbench.operators.normalizations:NONE",
        "sum": "fwpbench.operators.normalizations:SUM",
        "attention": "fwpbench.operators.normalizations:ATTENTION",
        "sum+attention": "fwpbench.operators.normalizations:SUM_AND_ATTENTION",
        "l2": "fwpbench.operators.normalizations:L2",
    },
    of="fwpbench.operators.normalizations:Normalization",
)

INPUT_FAMILIES: Registry[InputFamily] = Registry(
    "input_families",
    {
        "normal": "fwpbench.operators.input_families:NORMAL",
        "realistic": "fwpbench.operators.input_families:REALISTIC",
        "repeated-keys": "fwpbench.operators.input_families:REPEATED_KEYS",
        "one-hot": "fwpbench.operators.input_families:ONE_HOT",
        "tiny": "fwpbench.operators.input_families:TINY",
        "huge": "fwpbench.operators.input_families:HUGE",
        "zero-keys": "fwpbench.operators.input_families:ZERO_KEYS",
        "beta-0": "fwpbench.operators.input_families:BETA_0",
        "beta-1": "fwpbench.operators.input_families:BETA_1",
        "saturated-gates": "fwpbench.operators.input_families:SATURATED_GATES",
        "long-decay": "fwpbench.operators.input_families:LONG_DECAY",
        "all-negative": "fwpbench.operators.input_families:ALL_NEGATIVE",
    },
    of="fwpbench.operators.input_families:InputFamily",
)
