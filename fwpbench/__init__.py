"""FWPBench: which implementation of which fast-weight operator is right, and how fast is it?

    import fwpbench
    o = fwpbench.fast_weight_attention(
        q, k, v, feature_map="dpfp-1", update_rule="delta", normalization="sum", beta=beta
    )                                   # q, k: [B, T, H, K]; v, o: [B, T, H, V]; beta: [B, T, H]
    frame = fwpbench.load("runs/…")     # one row a record

Names are loaded when they are first used: importing fwpbench does not import torch.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

__version__ = "0.1.0"

for _folder in ("harness", "implementations", "suites", "reports"):
    if (Path(__file__).parent / _folder).is_file():
        raise ImportError(
            f"fwpbench/{_folder} should be a link to ../{_folder}, but this checkout holds it as a "
            "text file. Clone with git on a file system that has symbolic links (on Windows: turn "
            "on developer mode, then git config --global core.symlinks true and clone again)"
        )

if TYPE_CHECKING:
    from fwpbench.checking import check as check
    from fwpbench.frames import load as load
    from fwpbench.harness.attention import choose as choose
    from fwpbench.harness.attention import fast_weight_attention as fast_weight_attention
    from fwpbench.harness.profiles import Profile as Profile
    from fwpbench.harness.records import Measurement as Measurement
    from fwpbench.harness.records import Record as Record
    from fwpbench.harness.suite import Answer as Answer
    from fwpbench.harness.suite import Case as Case
    from fwpbench.harness.suite import Metric as Metric
    from fwpbench.harness.suite import Setting as Setting
    from fwpbench.harness.suite import Suite as Suite
    from fwpbench.implementations import IMPLEMENTATIONS as IMPLEMENTATIONS
    from fwpbench.implementations.base import Implementation as Implementation
    from fwpbench.implementations.base import Output as Output
    from fwpbench.operators import FEATURE_MAPS as FEATURE_MAPS
    from fwpbench.operators import INPUT_FAMILIES as INPUT_FAMILIES
    from fwpbench.operators import NORMALIZATIONS as NORMALIZATIONS
    from fwpbench.operators import UPDATE_RULES as UPDATE_RULES
    from fwpbench.operators.errors import UserError as UserError
    from fwpbench.operators.feature_maps import FeatureMap as FeatureMap
    from fwpbench.operators.feature_maps import orthogonal_projection as orthogonal_projection
    from fwpbench.operators.input_families import InputFamily as InputFamily
    from fwpbench.operators.inputs import Inputs as Inputs
    from fwpbench.operators.inputs import make_inputs as make_inputs
    from fwpbench.operators.normalizations import Normalization as Normalization
    from fwpbench.operators.problem import Problem as Problem
    from fwpbench.operators.registry import Family as Family
    from fwpbench.operators.state import State as State
    from fwpbench.operators.update_rules import UpdateRule as UpdateRule
    from fwpbench.suites import SUITES as SUITES

#: What outside code may import, and where it is.
_PUBLIC = {
    "Answer": "fwpbench.harness.suite",
    "Case": "fwpbench.harness.suite",
    "FEATURE_MAPS": "fwpbench.operators",
    "Family": "fwpbench.operators.registry",
    "FeatureMap": "fwpbench.operators.feature_maps",
    "IMPLEMENTATIONS": "fwpbench.implementations",
    "INPUT_FAMILIES": "fwpbench.operators",
    "Implementation": "fwpbench.implementations.base",
    "InputFamily": "fwpbench.operators.input_families",
    "Inputs": "fwpbench.operators.inputs",
    "Measurement": "fwpbench.harness.records",
    "Metric": "fwpbench.harness.suite",
    "NORMALIZATIONS": "fwpbench.operators",
    "Normalization": "fwpbench.operators.normalizations",
    "Output": "fwpbench.implementations.base",
    "Problem": "fwpbench.operators.problem",
    "Profile": "fwpbench.harness.profiles",
    "Record": "fwpbench.harness.records",
    "SUITES": "fwpbench.suites",
    "Setting": "fwpbench.harness.suite",
    "State": "fwpbench.operators.state",
    "Suite": "fwpbench.harness.suite",
    "UPDATE_RULES": "fwpbench.operators",
    "UpdateRule": "fwpbench.operators.update_rules",
    "UserError": "fwpbench.operators.errors",
    "check": "fwpbench.checking",
    "choose": "fwpbench.harness.attention",
    "fast_weight_attention": "fwpbench.harness.attention",
    "load": "fwpbench.frames",
    "make_inputs": "fwpbench.operators.inputs",
    "orthogonal_projection": "fwpbench.operators.feature_maps",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'fwpbench' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
