"""What belongs to the caller is changed, or only the expected inputs are right."""

from __future__ import annotations

import torch

from tests.cheats.honest import made, run, timed


def keys_scaled_in_place(problem, inputs):
    """Saves an allocation."""
    with torch.no_grad():
        inputs.k.detach().mul_(0.5)
    return run(problem, inputs)


def values_changed_when_timed(problem, inputs):
    """As above, where the gate does not look."""
    output = run(problem, inputs)
    if timed(problem):
        inputs.v.detach().add_(1)
    return output


def even_lengths_only(problem, inputs):
    """Tuned to the lengths that benchmarks have."""
    output = run(problem, inputs)
    return output if problem.T % 2 == 0 else output._replace(o=output.o.flip(1))


def short_lengths_only(problem, inputs):
    """Right up to what tests ask: the decay of a longer one was never looked at."""
    output = run(problem, inputs)
    return output._replace(o=0.99 * output.o) if timed(problem) else output


IMPLEMENTATIONS = {
    "keys-scaled-in-place": made(keys_scaled_in_place),
    "values-changed-when-timed": made(values_changed_when_timed),
    "even-lengths-only": made(even_lengths_only),
    "short-lengths-only": made(short_lengths_only),
}
