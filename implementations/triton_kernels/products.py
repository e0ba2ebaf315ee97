"""Products of tiles in the precisions that there are, and rounding."""

from __future__ import annotations

import triton
import triton.language as tl

#: Triton's interpreter adds up bf16 wrongly, so there rounded operands are float32 again; and it
#: (3.7.1) cuts off what does not fit into bf16, where a GPU rounds to the nearest.
INTERPRETED = tl.constexpr(bool(triton.knobs.runtime.interpret))


@triton.jit
def product(a, b, DOT: tl.constexpr):
    """a @ b of float32 tiles, added up in float32. DOT: ieee, tf32 or bf16 (operands rounded)."""
    if DOT == "tf32":
        a = tf32(a)
        b = tf32(b)
    if DOT == "bf16":
        a = cast(a, tl.bfloat16)
        b = cast(b, tl.bfloat16)
        if INTERPRETED:
            a = a.to(tl.float32)
            b = b.to(tl.float32)
        c = tl.dot(a, b)
    else:
        c = tl.dot(a, b, input_precision=DOT)
    return c


@triton.jit
def tf32(x):
    """Rounded to the nearest number of tf32, ties away from zero.

    Triton hands float32 over as it is, and tensor cores read its first 19 bits. Operands cut off
    like that, all towards 0, err up to three times what is allowed, for nothing averages out.
    """
    if INTERPRETED:
        bits = (x.to(tl.uint32, bitcast=True) + 0x1000) >> 13 << 13
        y = tl.where(x == x, bits.to(tl.float32, bitcast=True), x)
    else:
        y = tl.inline_asm_elementwise(
            "cvt.rna.tf32.f32 $0, $1;", "=r,r", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    return y


@triton.jit
def cast(x, dtype: tl.constexpr):
    """Float32 to `dtype`, rounded to the nearest, ties to even."""
    if INTERPRETED and dtype == tl.bfloat16:
        bits = x.to(tl.uint32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16
        x = bits.to(tl.float32, bitcast=True)
    return x.to(dtype)
