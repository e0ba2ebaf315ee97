"""Honest ways to compute a problem that round where kernels do: their errors are the yardstick."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor

from fwpbench.implementations.base import Output, Run
from fwpbench.operators.attention_form import attention_form
from fwpbench.operators.chunk_form import chunk_form
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.problem import Problem
from fwpbench.operators.rounding import rounded
from fwpbench.operators.streams import stream

#: Sizes of chunks that kernels have. One size alone judged honest kernels of another by luck: where
#: a gradient cancels, sums in another order err five times as much (docs/yardstick.md).
CHUNKS = (64, 16, 128)
#: Nobody inverts more than this: the triangular inverse of a longer chunk errs more.
LONGEST_INVERSE = 64
#: By so much of themselves at most: 28 % of float32's become the next number, 9 % of the others are
#: rounded the other way.
NUDGES = {"fp32": 2.0**-24, "tf32": 2.0**-13, "bf16": 2.0**-10, "fp16": 2.0**-13}


def chunks_of(problem: Problem) -> list[int]:
    """The sizes of chunks in which an honest kernel computes this problem."""
    corrects = problem.operator.update_rule.corrects
    return [C for C in CHUNKS if C <= LONGEST_INVERSE or not corrects]


def rounded_chunks(chunk: int) -> Run:
    """The plain chunk form, operands of every product rounded to the dtype, as kernels do it."""

    def run(problem: Problem, inputs: Inputs) -> Output:
        return chunks_with(chunk, rounded_matmul(problem.dtype))(problem, inputs)

    return run


def chunks_with(chunk: int, matmul: Callable[[Tensor, Tensor], Tensor]) -> Run:
    """The plain chunk form with this product."""

    def run(problem: Problem, inputs: Inputs) -> Output:
        o, state = chunk_form(problem, inputs, chunk=chunk, matmul=matmul)
        return Output(o, state if problem.state_out else None)

    return run


def nudged_chunks(chunk: int, dtype: str, seed: int) -> Run:
    """The plain chunk form with operands that are nudged at random before they are rounded."""
    by = stream(seed, "roundings")
    return chunks_with(chunk, matmul_of(lambda x: rounded(nudged(x, NUDGES[dtype], by), dtype)))


def nudged(x: Tensor, most: float, by: Generator) -> Tensor:
    """`x` with a relative error of up to `most`, rounded."""
    noise = 2 * torch.rand(x.shape, generator=by, dtype=x.dtype) - 1
    return x + x * (noise * most)


def rounded_attention(problem: Problem, inputs: Inputs) -> Output:
    """Softmax attention as its kernels compute it, operands of every product rounded."""
    o, state = attention_form(problem, inputs, matmul=rounded_matmul(problem.dtype))
    return Output(o, state if problem.state_out else None)


def rounded_matmul(dtype: str) -> Callable[[Tensor, Tensor], Tensor]:
    """A matmul with operands rounded to `dtype`, in its gradients too; it adds up in float32."""
    return matmul_of(partial(rounded, dtype=dtype))


def matmul_of(operand: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """A matmul whose operands are made by `operand` first, in its gradients too."""

    class Rounded(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
            a, b = operand(a), operand(b)
            ctx.save_for_backward(a, b)
            return a @ b

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
            a, b = ctx.saved_tensors
            g = operand(gradients[0])
            return (g @ b.mT).sum_to_size(a.shape), (a.mT @ g).sum_to_size(b.shape)

    def matmul(a: Tensor, b: Tensor) -> Tensor:
        product: Tensor = Rounded.apply(a, b)  # type: ignore[no-untyped-call]
        return product

    return matmul


def turned(run: Run, seed: int) -> Run:
    """The same with the entries of queries and keys, and so of the projection, in another order.

    A projected map puts sums into exponents, and the order of those sums is an implementation's
    own: the law and the chunk forms share torch's, and one alone is right by luck now and then.
    """

    def run_turned(problem: Problem, inputs: Inputs) -> Output:
        assert inputs.projection is not None
        order = torch.randperm(problem.K, generator=stream(seed, "order of a projection"))
        q = None if inputs.q is None else inputs.q[..., order]
        return run(
            problem,
            inputs._replace(q=q, k=inputs.k[..., order], projection=inputs.projection[order]),
        )

    return run_turned
