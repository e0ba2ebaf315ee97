"""How much memory does a call need at most, and how large is the state it carries?"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fwpbench.harness.profiles import Profile
from fwpbench.harness.records import Measurement
from fwpbench.harness.suite import Answer, Case, Metric, Setting, Suite
from fwpbench.implementations.base import Implementation
from fwpbench.operators.inputs import make_inputs
from fwpbench.suites.named_operators import named_cases
from fwpbench.suites.timed import SETS, Rechecked, wrong

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
    results = []
    peak = setting.device.memory(lambda: results.append(calls.call()))
    calls.after(results.pop())
    if (complaint := calls.complaint()) is not None:
        return Answer(*complaint)
    inputs = make_inputs(problem, seed=setting.seed)
    given = [inputs.q, inputs.k, inputs.v, *inputs.gates.values(), inputs.projection]
    output = implementation.run(
        problem.replace(direction="forward", state="out"),
        make_inputs(problem, seed=setting.seed, device=setting.device.kind),
    )
    state = output.state
    sizes = {
        "peak": peak,
        "inputs": _bytes(given),
        "outputs": _bytes([output.o]),
        "state": 0 if state is None else _bytes([state.S, state.z]),
    }
    return Answer(metrics={name: Measurement(value=size, unit="B") for name, size in sizes.items()})


def _bytes(tensors: Sequence[Tensor | None]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor is not None)


SUITE = Suite(
    question="How much memory does it need?",
    cases=cases,
    answer=answer,
    metrics={
        "peak": Metric("B", "lower", "most allocated at once during the call, inputs not counted"),
        "inputs": Metric("B", "lower", "q, k, v, gates and projection"),
        "outputs": Metric("B", "lower", "o"),
        "state": Metric("B", "lower", "what must be kept to go on with the next token"),
    },
)
