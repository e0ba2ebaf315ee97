"""What was computed before comes back, or shows."""

from __future__ import annotations

import hashlib

import torch

from tests.cheats.honest import made, run, timed

by_pointer, by_contents, states = {}, {}, {}
calls = {"once": 0, "warm": 0}


def remembered_by_pointer(problem, inputs):
    """The same address: the same result."""
    key = (inputs.v.data_ptr(), str(problem))
    if key not in by_pointer:
        by_pointer[key] = run(problem, inputs)
    return by_pointer[key]


def remembered_by_contents(problem, inputs):
    """Always right, and computed once."""
    if torch.is_grad_enabled():
        return run(problem, inputs)
    state = inputs.state or ()
    seen = [x.numpy().tobytes() for x in (inputs.q, inputs.k, inputs.v, *state)]
    key = hashlib.blake2b(b"".join(seen)).hexdigest() + str(problem)
    if key not in by_contents:
        for _ in range(20):  # computing is slow, or nobody would remember
            by_contents[key] = run(problem, inputs)
    return by_contents[key]


def right_once(problem, inputs):
    """Whoever checks the first call alone is content."""
    calls["once"] += 1
    output = run(problem, inputs)
    return output if calls["once"] == 1 else output._replace(o=1.1 * output.o)


def right_until_warm(problem, inputs):
    """After the warm-up nobody looks any more."""
    calls["warm"] += timed(problem)
    output = run(problem, inputs)
    return output if calls["warm"] <= 3 else output._replace(o=1.1 * output.o)


def state_kept(problem, inputs):
    """Begins with what the call before it left in the buffer of the state."""
    output = run(problem, inputs)
    key = inputs.k.shape
    left, states[key] = states.get(key), output.o.detach().mean()
    return output if left is None else output._replace(o=output.o + left)


IMPLEMENTATIONS = {
    "remembered-by-pointer": made(remembered_by_pointer),
    "remembered-by-contents": made(remembered_by_contents),
    "right-once": made(right_once),
    "right-until-warm": made(right_until_warm),
    "state-kept": made(state_kept),
}
