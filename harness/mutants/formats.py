"""Mutants of precision: a number format too small in one place."""

from __future__ import annotations

from torch import Tensor

from fwpbench.harness.mutants.form import Form
from fwpbench.harness.mutants.mutant import Mutant, linear
from fwpbench.operators.state import State


class StateInFp16(Form):
    def carried(self, state: State) -> State:
        return state._replace(S=state.S.half().to(state.S.dtype))


class StateInBf16(Form):
    def carried(self, state: State) -> State:
        return state._replace(S=state.S.bfloat16().to(state.S.dtype))


class AccumulatedInBf16(Form):
    """Products are added up one by one, each sum rounded."""

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        total = a.new_zeros(())
        for n in range(a.shape[-1]):
            total = (total + a[..., :, n, None] * b[..., n, None, :]).bfloat16().to(a.dtype)
        return total


class ProductsInBf16(Form):
    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        return a.bfloat16().to(a.dtype) @ b.bfloat16().to(b.dtype)


MUTANTS = (
    Mutant(
        "state in fp16",
        "The state is rounded to fp16 between chunks.",
        StateInFp16,
        "delta elu+1 sum",
        linear,
        dtypes=("fp32",),  # elsewhere no worse than operands rounded to the dtype
        chunked=True,
    ),
    Mutant(
        "state in bf16",
        "The state is rounded to bf16 between chunks.",
        StateInBf16,
        "sum elu+1 sum",
        linear,
        dtypes=("fp32", "fp16"),  # in bf16 it takes more tokens to show
        chunked=True,
    ),
    Mutant(
        "accumulated in bf16",
        "Sums of products are rounded to bf16 after every term.",
        AccumulatedInBf16,
        "sum elu+1 attention",
        linear,
        dtypes=("fp32", "fp16"),  # in bf16 it takes more tokens to show
    ),
    Mutant(
        "products in bf16",
        "What is multiplied is rounded to bf16 first, whatever format was asked for.",
        ProductsInBf16,
        "gated-delta identity l2",
        linear,
        dtypes=("fp32", "fp16"),  # in bf16 it is honest
    ),
)
