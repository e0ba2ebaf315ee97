"""Compiles CUDA kernels for GPUs that are not there and prints what the compiler says of each.

    python -m tests.compile_cuda sm_90a "rule=delta phi=elu+1 norm=sum K=64 V=64 dtype=bf16 …"

A row a kernel: registers a thread, bytes spilled, of stack and of shared memory, and how many
matrix instructions (mma) its PTX has. The kernels are those that the implementation itself would
launch, on tensors without memory.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from math import prod
from typing import NamedTuple
from unittest.mock import patch

import torch
from cuda.bindings import nvrtc as raw
from torch import Tensor

from fwpbench.implementations._kernel_operator import Given
from fwpbench.implementations.cuda_kernels import nvrtc, operator, sources
from fwpbench.implementations.cuda_kernels.choice import chosen_plan
from fwpbench.operators.inputs import make_inputs
from fwpbench.operators.problem import Problem


class Launched(NamedTuple):
    kernel: str
    text: str
    threads: int
    shared_bytes: int


class Row(NamedTuple):
    """What is printed of a kernel."""

    arch: str
    kernel: str
    registers: int
    spilled: int
    stack: int
    shared: int
    threads: int
    matrix_instructions: int
    problem: str


def launched(problem: Problem) -> list[Launched]:
    """Every kernel of a problem, in the order of their launches."""
    found: dict[Launched, None] = {}

    def launch(
        kernel: str, dtype: str, constants: sources.Constants,
        grid: object, block: tuple[int, int], size: int, *_: object,
    ) -> None:  # fmt: skip
        text = sources.text(kernel, dtype, constants)
        found.setdefault(Launched(kernel, text, prod(block), size))

    given, named = given_by(problem), (str(problem), chosen_plan(problem, "cpu"))
    with ExitStack() as patches:
        for module in operator.KERNELS.values():
            patches.enter_context(patch.object(module, "launch", launch))
        results = operator.OPERATOR.forward(*named, problem.backward, *given)
        if problem.backward:
            cotangents = torch.empty_like(given.v) if problem.reads else None, None, None
            operator.OPERATOR.backward(*named, *given, results, *cotangents)
    return list(found)


def given_by(problem: Problem) -> Given:
    """Tensors without memory, in the sizes of the problem."""
    p = problem
    like = make_inputs(p.replace(B=1, T=2, H=1), seed=0)  # which there are, and their dtypes

    def empty(x: Tensor | None, *shape: int) -> Tensor | None:
        return None if x is None else torch.empty(shape, dtype=x.dtype, device="meta")

    alpha, beta = (like.gates.get(name) for name in ("alpha", "beta"))
    S, z = (None, None) if like.state is None else like.state
    axes = p.B, p.tokens, p.H
    found = Given(
        q=empty(like.q, *axes, p.K),
        k=torch.empty(*axes, p.K, dtype=like.k.dtype, device="meta"),
        v=torch.empty(*axes, p.V, dtype=like.v.dtype, device="meta"),
        alpha=empty(alpha, *axes, *(() if alpha is None else alpha.shape[3:])),
        beta=empty(beta, *axes),
        projection=None if like.projection is None else like.projection.to("meta"),
        S=empty(S, p.B, p.H, p.D, p.V),
        z=empty(z, p.B, p.H, p.D),
        mask=empty(like.mask, p.B, p.tokens),
    )
    return found


def row(problem: Problem, each: Launched, arch: str) -> Row:
    said = nvrtc.compiled(each.text, arch)
    return Row(
        arch,
        each.kernel,
        said.registers,
        said.spilled_bytes,
        said.stack_bytes,
        each.shared_bytes,
        each.threads,
        ptx(each.text, arch).count(b"mma.sync"),
        str(problem),
    )


def ptx(text: str, arch: str) -> bytes:
    """From NVRTC itself: cuda.core asks the driver first, which there is none of."""
    options = [f"--gpu-architecture={arch}", "--std=c++17"]
    options += [f"--include-path={folder}" for folder in nvrtc.include_path()]
    error, program = raw.nvrtcCreateProgram(text.encode(), b"kernel.cu", 0, [], [])
    assert not error
    (error,) = raw.nvrtcCompileProgram(program, len(options), [each.encode() for each in options])
    assert not error
    error, size = raw.nvrtcGetPTXSize(program)
    found = bytes(size)
    (error,) = raw.nvrtcGetPTX(program, found)
    assert not error
    raw.nvrtcDestroyProgram(program)
    return found


def shown(rows: list[Row]) -> str:
    lines = [Row._fields, *([str(value) for value in each] for each in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(Row._fields))]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def main(archs: str, *problems: str) -> None:
    rows = [
        row(problem, each, arch)
        for problem in map(Problem.parse, problems)
        for each in launched(problem)
        for arch in archs.split(",")
    ]
    print(shown(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
