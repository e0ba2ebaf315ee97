"""What comes back is not what it looks like."""

from __future__ import annotations

import threading

import torch

from tests.cheats.honest import made, run, timed


def writes_nothing(problem, inputs):
    """The output is allocated, and the kernel never launched."""
    return run(problem, inputs)._replace(o=torch.empty_like(inputs.v))


def last_chunk_missing(problem, inputs):
    """Whole chunks of 64 tokens only: what is left over is never written."""
    o, state = run(problem, inputs)
    written = torch.empty_like(inputs.v)
    whole = problem.tokens // 64 * 64
    written[:, :whole] = o[:, :whole]
    return run(problem, inputs)._replace(o=written, state=state)


def one_token_expanded(problem, inputs):
    """One row in memory, shown T times by a stride of 0."""
    output = run(problem, inputs)
    return output._replace(o=output.o[:, :1].expand(output.o.shape))


class Lazy(torch.Tensor):
    """Would be computed by who looks at it."""


def lazy(problem, inputs):
    """A subclass of the tensor that was asked for."""
    output = run(problem, inputs)
    return output._replace(o=output.o.as_subclass(Lazy))


def other_layout(problem, inputs):
    """Heads before time, as many kernels have it."""
    output = run(problem, inputs)
    return output._replace(o=output.o.transpose(1, 2))


def other_dtype(problem, inputs):
    """In half precision, which halves what is written."""
    output = run(problem, inputs)
    return output._replace(o=output.o.half())


def other_dtype_when_timed(problem, inputs):
    """In half precision where nobody compares."""
    return other_dtype(problem, inputs) if timed(problem) else run(problem, inputs)


def computed_later(problem, inputs):
    """A thread goes on after the call has returned."""
    o, output = torch.zeros_like(inputs.v), run(problem, inputs)
    if not timed(problem) or torch.is_grad_enabled():
        return output
    threading.Timer(0.02, lambda: o.copy_(output.o)).start()
    return output._replace(o=o)


def zeros(problem, inputs):
    """Within any absolute tolerance of an output that is small."""
    output = run(problem, inputs)
    return output._replace(o=0 * output.o)


def values_copied(problem, inputs):
    """o = v."""
    return run(problem, inputs)._replace(o=inputs.v + 0)


IMPLEMENTATIONS = {
    "writes-nothing": made(writes_nothing),
    "last-chunk-missing": made(last_chunk_missing),
    "one-token-expanded": made(one_token_expanded),
    "lazy": made(lazy),
    "other-layout": made(other_layout),
    "other-dtype": made(other_dtype),
    "other-dtype-when-timed": made(other_dtype_when_timed),
    "computed-later": made(computed_later),
    "zeros": made(zeros),
    "values-copied": made(values_copied),
}
