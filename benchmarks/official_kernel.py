"""The CUDA kernel that Schlag, Irie and Schmidhuber (2021) published, as a peer: a plugin.

    git clone https://github.com/IDSIA/lmtool-fwp
    export FWPBENCH_OFFICIAL_KERNEL=$PWD/lmtool-fwp
    fwpbench run targets --plugin benchmarks/targets.py --plugin benchmarks/official_kernel.py …

torch compiles it from that folder into its own cache (TORCH_EXTENSIONS_DIR). It computes the delta
rule in float32 on views [B, H, T, ·], winds the state that it was given on in place, and back again
in its backward pass. φ is compiled in front and timed with it, as for the other peers.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fwpbench.implementations.base import Implementation, Output
from fwpbench.implementations.peers.flash_linear_attention import mapped
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.problem import Problem
from fwpbench.operators.state import State

VARIABLE = "FWPBENCH_OFFICIAL_KERNEL"
SOURCE = "src/utils/fast_fast_weight/fast_weight_cuda.cu"
#: Numbers in the 48 KiB of shared memory of a block, and threads.
SHARED, THREADS = 12 * 1024, 1024


def source() -> Path:
    return Path(os.environ.get(VARIABLE, "")).expanduser() / SOURCE


def missing() -> str | None:
    from torch.utils.cpp_extension import CUDA_HOME

    if not os.environ.get(VARIABLE):
        return f"{VARIABLE} does not name a clone of https://github.com/IDSIA/lmtool-fwp"
    if not source().is_file():
        return f"{source()}, which {VARIABLE} leads to, is not there"
    if not torch.cuda.is_available():
        return "torch sees no CUDA device here, and its kernel needs one"
    return None if CUDA_HOME else "torch finds no nvcc to compile it with: set CUDA_HOME"


def cannot(problem: Problem) -> str | None:
    p = problem
    for asked, words in (
        (p.rule != "delta", f"the rule {p.rule}: it has delta"),
        (p.operator.divides, f"norm={p.norm}: it divides nothing"),
        (p.dtype == "fp64", "fp64: it computes in float32"),
        (p.masked, "a mask"),
        (not p.reads, "reads=no"),
        (p.backward and p.state != "none", "gradients of a state, or back from one"),
    ):
        if asked:
            return f"the kernel does not do {words}"
    # As it shares them out; with room for no token it would launch for ever.
    if p.D > THREADS or p.V > THREADS or min(tokens_at_a_time(p)) < 1:
        return f"D × V = {p.D} × {p.V} leave no room for a token in its 48 KiB of shared memory"
    return None


def tokens_at_a_time(problem: Problem) -> list[int]:
    """Of the forward kernel, then of those for dv and dβ and for dq and dk."""
    D, V = problem.D, problem.V
    rows, columns = min(THREADS // V, D), min(THREADS // D, V)
    filled = -(-D // rows) * rows
    wanted = [((filled + 3) * V, V + 2 * filled + 1)]
    if problem.backward:
        wanted.append(((filled + 1) * V + 1, 3 * V + 2 * filled + 1))
        wanted.append((2 * D * (1 + columns), 2 * D + 5 * columns + 1))
    return [(SHARED - once) // each for once, each in wanted]


@cache
def kernel() -> Any:
    from torch.utils.cpp_extension import load

    return load("fwpbench_official_kernel", [str(source())])


class FastWeights(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, beta: Tensor, S: Tensor) -> Tensor:
        o, found, written = (torch.zeros_like(v) for _ in range(3))
        kernel().fast_weight_forward(q, k, v, beta, found, written, S, o)
        ctx.save_for_backward(q, k, v, beta, found, written, S)
        return o

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, do: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, beta, found, written, S = ctx.saved_tensors
        gradients = tuple(torch.zeros_like(x) for x in (q, k, v, beta))
        kernel().fast_weight_backward(q, k, v, beta, found, written, do, S, *gradients)
        return *gradients, None


def run(problem: Problem, inputs: Inputs) -> Output:
    x = mapped(problem, inputs)
    turned = (each.float().transpose(1, 2) for each in (x.q, x.k, x.v, x.gates["beta"][..., None]))
    S = x.k.new_zeros(problem.B, problem.H, problem.D, problem.V, dtype=torch.float32)
    if inputs.state is not None:
        S.copy_(inputs.state.S)
    o = FastWeights.apply(*turned, S).transpose(1, 2).to(problem.torch_dtype)
    return Output(o, State(S) if problem.state_out else None)


IMPLEMENTATIONS = {
    "official-cuda": Implementation(
        run,
        "lmtool-fwp's CUDA kernel of the delta rule, φ compiled in front",
        missing=missing,
        cannot=cannot,
        devices=("cuda",),
        origin="third-party",
    )
}
