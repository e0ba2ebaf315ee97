"""What belongs to the whole process is changed by a call."""

from __future__ import annotations

import gc
import time

import torch

from tests.cheats.honest import made, run


def more_threads(problem, inputs):
    """For itself, and for all that are timed after it."""
    torch.set_num_threads(torch.get_num_threads() + 1)
    return run(problem, inputs)


def tf32_for_all(problem, inputs):
    """Faster matmuls, whoever asks for them."""
    torch.set_float32_matmul_precision("high")
    return run(problem, inputs)


def no_garbage_collection(problem, inputs):
    """Fewer pauses."""
    gc.disable()
    return run(problem, inputs)


def slow_clock(problem, inputs):
    """Every second takes a tenth."""
    real = time.monotonic
    time.perf_counter = lambda: real() / 10
    return run(problem, inputs)


def nothing_differs(problem, inputs):
    """All comparisons agree."""
    output = run(problem, inputs)
    torch.equal = lambda *tensors: True
    return output._replace(o=output.o + 1e-9)


IMPLEMENTATIONS = {
    "more-threads": made(more_threads),
    "tf32-for-all": made(tf32_for_all),
    "no-garbage-collection": made(no_garbage_collection),
    "slow-clock": made(slow_clock),
    "nothing-differs": made(nothing_differs),
}
