"""Fused Triton kernels: φ, the normalisation and the state of a head inside one block.

Whole chunks, for the rules sum, decay, gated, delta and gated-delta: one launch forward and two
backward, or some more where the delta rule has a wide φ or few heads would leave the GPU idle
(choice.py). All at once where the rule is sum and no token reads before all are written
(causal=no), or none reads. Token by token what is left, with gradients: decoding, fwm, gla and kda,
masks, writing alone. Nothing as wide as φ is written to memory except states: the one that goes
out, those that a backward pass needs (one a chunk, for a rule that decays or corrects; one for
every √T tokens where it goes token by token), those between segments, and that of a φ too wide for
registers, whose kernels (wide_….py, unordered_kernels.py) read and write it tile by tile. The same
source runs on a CPU under TRITON_INTERPRET=1, slowly, for tests. No GPU has run it yet: it is
checked by Triton's interpreter, where operands are rounded to tf32 as they are compiled to be (but
tf32x3 is float32 there), and by compiling for sm_80 to sm_120 (`make interpret`), and no speed is
claimed.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

from fwpbench.implementations.base import Implementation, Output, Run
from fwpbench.implementations.triton_kernels.plan import TUNED, as_laid_out
from fwpbench.implementations.triton_kernels.refusal import cannot
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.problem import Problem

#: As Triton reads it, once, when a kernel is defined.
INTERPRETED = os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "on", "yes", "y")


def missing() -> str | None:
    import torch

    if find_spec("triton") is None:
        return "Triton is not installed: python -m pip install 'fwpbench[triton]'"
    if not INTERPRETED and not torch.cuda.is_available():
        return "torch sees no CUDA device here; TRITON_INTERPRET=1 interprets its kernels on a CPU"
    return None


def run(problem: Problem, inputs: Inputs, plan: str | None = None) -> Output:
    # Here, because whoever only asks what it cannot do may have no Triton.
    from fwpbench.implementations.triton_kernels.operator import run

    if TUNED and problem in TUNED:
        as_laid_out(problem)
    return run(problem, inputs, plan)


def chosen(problem: Problem, device: str) -> str:
    from fwpbench.implementations.triton_kernels.choice import described, multiprocessors

    return described(problem, multiprocessors(device))


def plans(problem: Problem, device: str) -> dict[str, Run]:
    from fwpbench.implementations.triton_kernels.choice import by_plan

    return by_plan(run, problem, device)


IMPLEMENTATION = Implementation(
    run,
    "fused Triton kernels, φ and normalisation inside",
    missing=missing,
    cannot=cannot,
    devices=("cpu", "cuda") if INTERPRETED else ("cuda",),
    kernels="^fwp_",
    chosen=chosen,
    tf32=True,
    plans=plans,
)
