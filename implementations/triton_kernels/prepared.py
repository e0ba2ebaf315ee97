"""The plan `prepared`: A and the scores of all chunks at once, then one chunk after the other.

For rules that correct, where there are too few heads to fill a GPU: what a chunk computes without
its state is off the path from chunk to chunk. Backward nothing is left to prepare: A was kept, and
the queries' kernel takes all chunks at once.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fwpbench.implementations._kernel_operator import Given
from fwpbench.implementations.triton_kernels import chunks
from fwpbench.implementations.triton_kernels.launch import launch
from fwpbench.implementations.triton_kernels.plan import plan
from fwpbench.implementations.triton_kernels.prepare import fwp_chunk_prepare
from fwpbench.implementations.triton_kernels.scan import keys_before
from fwpbench.operators.problem import Problem

shapes, backward = chunks.shapes, chunks.backward


def forward(problem: Problem, given: Given, out: dict[str, Tensor]) -> None:
    q, k, v, alpha, beta, projection, *_ = given
    p, T, H = plan(problem, keeps="S_kept" in out), problem.T, problem.H
    A = out.get("A_kept")
    if A is None:
        A = v.new_empty(problem.B, T, H, p.C, dtype=torch.float32)
    scores = torch.empty_like(A)
    z_begin = None
    if p.DIVIDES:
        shape = problem.B, H, -(-T // p.C), p.D
        z_begin = v.new_empty(shape, dtype=torch.float32)
        keys_before(p, problem, given, p.C, z_begin, None)
    launch(
        fwp_chunk_prepare, replace(p, COLUMNS=1, warps=4), v,
        q, k, alpha, beta, projection, z_begin, A, scores, T, H,
        chunks=-(-T // p.C),
    )  # fmt: skip
    chunks.sweep(replace(p, PREPARED=True), problem, given, out | {"A_kept": A, "scores": scores})
