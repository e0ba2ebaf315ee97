"""What every kernel is told of its problem and its layout, by the names that the sources have."""

from __future__ import annotations

from fwpbench.implementations._kernel_terms import LAWS, NORMS, kind, normalizer, query_map
from fwpbench.implementations.cuda_kernels.block_plan import BlockPlan
from fwpbench.implementations.cuda_kernels.sources import Constant, Constants, Word
from fwpbench.operators.problem import Problem


def constants(problem: Problem, plan: BlockPlan, **more: Constant) -> Constants:
    p = problem
    scale, _ = NORMS[p.norm]
    return {
        "K": p.K,
        "V": p.V,
        "D": p.D,
        "PADDED_D": plan.PADDED_D,
        "KEY_MAP": Word("Map", kind(p.phi)),
        "QUERY_MAP": Word("Map", query_map(p)),
        "SCALE": Word("Scale", scale),
        **vars(LAWS[p.rule]),
        "DECAY": Word("Decay", LAWS[p.rule].DECAY),
        "NORMALIZER": Word("Normalizer", normalizer(p)),
        "READS": p.reads,
        "WARPS": plan.WARPS,
        "HEADS": plan.HEADS,
        "FLOATS": plan.floats,
        **more,
    }
