"""Wrong where a forward timing does not look: states and gradients."""

from __future__ import annotations

import torch

from fwpbench import State
from tests.cheats.honest import made, run


def final_state_missing(problem, inputs):
    """Nobody looks at the final state."""
    output = run(problem, inputs)
    state = output.state and output.state._replace(S=torch.empty_like(output.state.S))
    return output._replace(state=state)


def state_updated_in_place(problem, inputs):
    """The caller's state is the kernel's."""
    output = run(problem, inputs)
    if inputs.state is not None and output.state is not None:
        inputs.state.S.data.copy_(output.state.S.data)
        return output._replace(state=State(inputs.state.S, output.state.z))
    return output


def no_gradient_of_keys(problem, inputs):
    """Forgot that the keys are read twice."""
    return run(problem, inputs._replace(k=inputs.k.detach() + 0 * inputs.k))


IMPLEMENTATIONS = {
    "no-gradient-of-keys": made(no_gradient_of_keys),
    "final-state-missing": made(final_state_missing),
    "state-updated-in-place": made(state_updated_in_place),
}
