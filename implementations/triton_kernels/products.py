"""Products of tiles in the three precisions."""

from __future__ import annotations

import triton
import triton.language as tl

#: Triton's interpreter adds up bf16 wrongly, so there rounded operands are float32 again.
INTERPRETED = tl.constexpr(bool(triton.knobs.runtime.interpret))


@triton.jit
def product(a, b, DOT: tl.constexpr):
    """a @ b of float32 tiles, added up in float32. DOT: ieee, tf32 or bf16 (operands rounded)."""
    if DOT == "bf16":
        a = a.to(tl.bfloat16)
        b = b.to(tl.bfloat16)
        if INTERPRETED:
            a = a.to(tl.float32)
            b = b.to(tl.float32)
        c = tl.dot(a, b)
    else:
        c = tl.dot(a, b, input_precision=DOT)
    return c
