"""Products of tiles on tensor cores, by their twins on a CPU: what operands are rounded to."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from fwpbench.implementations.cuda_kernels import ON_CPU

pytestmark = pytest.mark.skipif(not ON_CPU, reason="FWPBENCH_CUDA_ON_CPU=1 is not set")

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
M, N, SUM = 32, 48, 32
#: −A B + (C + 2 A B), which the same lanes have; the operand is turned as it is read.
KERNEL = """
#include "portable.cuh"
constexpr int WARPS = 2, M = 32, N = 48, SUM = 32;
#include "products.cuh"
extern "C" __global__ void cuda_fwp_product(const float* a, const float* b, const float* c,
                                           float* out) {
  int thread = threadIdx.x;
  Matrix A{shared_memory<float>(0), SUM + 4}, B{shared_memory<float>(4 * M * A.ld), N + 4};
  Matrix C{shared_memory<float>(4 * (M * A.ld + SUM * B.ld)), N};
  for (int i = thread; i < M * SUM; i += 64) A.at[i / SUM * A.ld + i % SUM] = a[i];
  for (int i = thread; i < SUM * N; i += 64) B.at[i / N * B.ld + i % N] = b[i];
  __syncthreads();
  auto negated = [&](int i, int k) { return -A(i, k); };
  product<Precision::PRECISION, M, N, SUM>(
      negated, B, [&](int i, int j, float x) { C.at[i * N + j] = x; });
  product<Precision::PRECISION, M, N, SUM>(
      A, B, [&](int i, int j, float x) { C.at[i * N + j] += c[i * N + j] + 2.f * x; });
  __syncthreads();
  for (int i = thread; i < M * N; i += 64) out[i] = C.at[i];
}
EXPORT(cuda_fwp_product)
"""
BYTES = 4 * (M * (SUM + 4) + SUM * (N + 4) + M * N)
#: A lane hands its neighbour a number through shared memory, with nothing but an mma between.
RACE = """
from fwpbench.implementations.cuda_kernels import on_cpu
on_cpu.launch("race", '''
#include "portable.cuh"
constexpr int WARPS = 1;
#include "products.cuh"
extern "C" __global__ void cuda_fwp_race() {
  Shared<float> room = shared_memory<float>(0);
  float C[4] = {};
  unsigned A[4] = {}, B[2] = {};
  room[threadIdx.x] = 1.f;
  mma_bf16(C, A, B);
  C[0] += room[threadIdx.x ^ 1];
}
EXPORT(cuda_fwp_race)
''', (1, 1), (32, 1), 128, [])
"""


def product(precision: str, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    from fwpbench.implementations.cuda_kernels import on_cpu

    out, text = torch.empty(M, N), KERNEL.replace("PRECISION", precision)
    addresses = [x.data_ptr() for x in (a.contiguous(), b.contiguous(), c, out)]
    on_cpu.launch("product", text, (1, 1), (64, 1), BYTES, addresses)
    return out


def rounded(x: Tensor, precision: str) -> Tensor:
    """To nearest: tf32 away from zero where two are as near, the others to the even one."""
    if precision == "tf32":
        return ((x.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    return x.to(kinds[precision]).float()


def hard_to_round(rows: int, columns: int) -> Tensor:
    """Every bit set at random; a third of them half way between two numbers of 16 bits or tf32."""
    x = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))
    bits = x.view(torch.int32).flatten()
    bits[0::3] = (bits[0::3] & ~0x1FFF) | 0x1000
    bits[1::3] = (bits[1::3] & ~0xFFFF) | 0x8000
    x = bits.view(torch.float32)
    # Beyond the normal numbers of fp16, below and above.
    x[::7] *= 2.0**-18
    x[::11] *= 2.0**13
    return bits.view(torch.float32).view(rows, columns)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_operand_is_rounded_and_nothing_else(precision):
    """A product with columns of the identity picks numbers; so nothing is added up."""
    zeros, values = torch.zeros(M, N), hard_to_round(M, SUM)
    picked = torch.arange(N) % SUM
    found = product(precision, values, torch.eye(SUM)[:, picked], zeros)
    assert torch.equal(found, rounded(values, precision)[:, picked])
    right = hard_to_round(SUM, N)
    found = product(precision, torch.eye(SUM), right, zeros)
    assert torch.equal(found, rounded(right, precision))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_whole_numbers_are_multiplied_exactly(precision):
    """A B + C, every number a small integer: which lane has what shows everywhere."""
    made = torch.Generator().manual_seed(1)
    a, b, c = (
        torch.randint(-8, 9, size, generator=made).float() for size in ((M, SUM), (SUM, N), (M, N))
    )
    assert torch.equal(product(precision, a, b, c), a @ b + c)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_sums_are_those_of_float32(precision):
    """By the bound of a sum in any order; without the rounding of operands it is not held."""
    made = torch.Generator().manual_seed(2)
    a, b = torch.randn(M, SUM, generator=made), torch.randn(SUM, N, generator=made)
    exact = rounded(a, precision).double() @ rounded(b, precision).double()
    size = rounded(a, precision).abs().double() @ rounded(b, precision).abs().double()
    error = (product(precision, a, b, torch.zeros(M, N)) - exact).abs()
    # Of A B three times, and of what is added to it.
    bound = (3 * SUM + 3) * 2.0**-24 * size
    assert (error <= bound).all()
    if precision != "fp32":
        assert ((a.double() @ b.double() - exact).abs() > bound).any()


def test_a_product_orders_nothing_in_memory():
    """What a GPU does not promise is a race here."""
    done = subprocess.run([sys.executable, "-c", RACE], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "a race" in done.stderr
