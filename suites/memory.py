"""How much memory does a call need at most, and how large is the state it carries?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fwpbench.harness.agreement import named_inputs
from fwpbench.harness.golden import named
from fwpbench.harness.profiles import Profile
from fwpbench.harness.records import Measurement
from fwpbench.harness.suite import Answer, Case, Metric, Setting, Suite
from fwpbench.implementations.base import Implementation
from fwpbench.operators.inputs import Inputs, make_inputs
from fwpbench.operators.problem import Problem
from fwpbench.suites.named_operators import named_cases
from fwpbench.suites.timed import SETS, Rechecked, Result, leaves, wrong

LENGTHS = {"quick": (64, 256, 1024), "standard": (64, 256, 1024, 4096), "full": (64, 1024, 16384)}


def cases(profile: Profile) -> Sequence[Case]:
    sizes = {"B": 1, "H": 2, "K": 64, "V": 64}
    return named_cases(
        profile,
        LENGTHS[profile.name],
        {**sizes, "direction": "forward", "state": "out"},
        {**sizes, "direction": "forward+backward"},
    )


def answer(case: Case, implementation: Implementation, setting: Setting) -> Answer:
    problem = case.problem
    if (refusal := wrong(problem, implementation, setting)) is not None:
        return refusal
    calls = Rechecked(problem, implementation, setting)
    for _ in range(SETS - 1):  # what is allocated once and kept is not the measured call's
        calls.before()
        calls.after(calls.call())
    calls.before()
    results: list[Result] = []
    peak = setting.device.memory(lambda: results.append(calls.call()))
    output, gradients = results[0]
    returned = _bytes([*named(output).values(), *gradients])
    calls.after(results.pop())
    if (complaint := calls.complaint()) is not None:
        return Answer(*complaint)
    del output, gradients
    inputs = make_inputs(problem, seed=setting.seed, device=setting.device.kind)
    given = [inputs.q, inputs.k, inputs.v, *inputs.gates.values(), inputs.projection]
    output = implementation.run(problem.replace(direction="forward", state="out"), inputs)
    state = output.state
    sizes = {
        "peak": peak,
        "workspace": max(0, peak - returned),
        "inputs": _bytes(given),
        "outputs": _bytes([output.o]),
        "state": 0 if state is None else _bytes([state.S, state.z]),
    }
    if problem.backward:
        sizes["saved"] = saved_for_backward(implementation, problem, inputs)
    return Answer(metrics={name: Measurement(value=size, unit="B") for name, size in sizes.items()})


def saved_for_backward(implementation: Implementation, problem: Problem, inputs: Inputs) -> int:
    """Bytes that autograd keeps between forward and backward, each storage once, less those that
    are there anyway: inputs and outputs. What a Function keeps as a plain attribute is not seen."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor  # kept alive until the graph goes, so that no address comes twice

    here = leaves(inputs)
    for leaf in here.values():
        leaf.requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = implementation.run(problem, inputs)
    there = [*named_inputs(inputs).values(), *named(output).values()]
    known = {tensor.untyped_storage().data_ptr() for tensor in there}
    return sum(size for place, size in kept.items() if place not in known)


def _bytes(tensors: Sequence[Tensor | None]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor is not None)


SUITE = Suite(
    question="How much memory does it need?",
    cases=cases,
    answer=answer,
    metrics={
        "peak": Metric("B", "lower", "most allocated at once during the call, inputs not counted"),
        "workspace": Metric("B", "lower", "peak, less what the call returns: outputs, gradients"),
        "saved": Metric("B", "lower", "kept for backward, less inputs and outputs"),
        "inputs": Metric("B", "lower", "q, k, v, gates and projection"),
        "outputs": Metric("B", "lower", "o"),
        "state": Metric("B", "lower", "what must be kept to go on with the next token"),
    },
)
