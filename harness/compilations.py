"""How much was compiled so far, by those that can be asked: torch.compile, Triton and `cuda`.

A call that compiles in the timed part is timed with its compiler: every sample, where what it
compiles is made anew with each call.
"""

from __future__ import annotations

import sys
from typing import Any

_by_triton = 0


def compilations() -> int:
    """Nothing is imported for this: who has not loaded a compiler has compiled nothing."""
    count = 0
    if (dynamo := sys.modules.get("torch._dynamo.utils")) is not None:
        count += int(dynamo.counters["frames"]["total"])
    if (triton := sys.modules.get("triton")) is not None:
        _listen(triton)
    if (cuda := sys.modules.get("fwpbench.implementations.cuda_kernels.cache")) is not None:
        count += cuda.compilations
    return count + _by_triton


def _listen(triton: Any) -> None:
    """Triton calls the hook after each kernel it compiled; an older one has none."""
    runtime = getattr(getattr(triton, "knobs", None), "runtime", None)
    before = getattr(runtime, "jit_post_compile_hook", _counted)
    if before is _counted or getattr(before, "counts", False):
        return

    def hook(*args: Any, **kwargs: Any) -> Any:
        _counted()
        return before(*args, **kwargs) if before is not None else None

    hook.counts = True  # type: ignore[attr-defined]
    runtime.jit_post_compile_hook = hook  # type: ignore[union-attr]


def _counted() -> None:
    global _by_triton
    _by_triton += 1
