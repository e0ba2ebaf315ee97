"""Mutants of precision: a number format too small in one place."""

from __future__ import annotations

import torch
from torch import Tensor

from fwpbench.harness.mutants.form import Form
from fwpbench.harness.mutants.mutant import Mutant, linear
from fwpbench.harness.yardstick import matmul_of, rounded_matmul
from fwpbench.operators.rounding import TF32_LACKS
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


class ProductsInTf32(Form):
    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        return _in_tf32(a, b)


class ProductsCutOff(Form):
    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        return _cut_off(a, b)


_in_tf32 = rounded_matmul("tf32")
_cut_off = matmul_of(lambda x: (x.view(torch.int32) & -(1 << TF32_LACKS)).view(torch.float32))


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
        dtypes=("fp32", "tf32", "fp16"),  # in bf16 it takes more tokens to show
        chunked=True,
    ),
    Mutant(
        "accumulated in bf16",
        "Sums of products are rounded to bf16 after every term.",
        AccumulatedInBf16,
        "sum elu+1 attention",
        linear,
        dtypes=("fp32", "tf32", "fp16"),  # in bf16 it takes more tokens to show
    ),
    Mutant(
        "products in bf16",
        "What is multiplied is rounded to bf16 first, whatever format was asked for.",
        ProductsInBf16,
        "gated-delta identity l2",
        linear,
        dtypes=("fp32", "tf32", "fp16"),  # in bf16 it is honest
    ),
    Mutant(
        "products in tf32",
        "What is multiplied is rounded to tf32 first, though float32 was asked for.",
        ProductsInTf32,
        "gated-delta identity l2",
        linear,
        dtypes=("fp32",),  # in tf32 it is honest, and fp16 has its bits
    ),
    Mutant(
        "products cut off",
        "What is multiplied is cut off after the bits of tf32, not rounded.",
        ProductsCutOff,
        "decay elu+1 sum",
        linear,
        dtypes=("fp32", "tf32"),  # tensor cores do that to a float32 which nobody rounded
    ),
)
