"""What the timed suites share: the call, its gate, and the record of its time."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from functools import cache, lru_cache

import torch
from torch import Tensor

from fwpbench.harness.agreement import compare, copied, modified, wrong_form
from fwpbench.harness.borrowed import borrowed
from fwpbench.harness.compilations import compilations
from fwpbench.harness.energy import counter_of, measure, pause
from fwpbench.harness.gate import judge_with_laws
from fwpbench.harness.golden import (
    Tensors,
    Truth,
    Truths,
    find_long_truth,
    make_cotangents,
    named,
)
from fwpbench.harness.laws import overwrite
from fwpbench.harness.records import Measurement
from fwpbench.harness.replay import remembered
from fwpbench.harness.suite import Answer, Setting
from fwpbench.harness.timing import time_call
from fwpbench.implementations.base import Implementation, Output
from fwpbench.operators.inputs import Inputs, make_inputs
from fwpbench.operators.problem import Problem

#: The gate judges at this length: two chunks of 64 and a bit, whatever length is timed.
GATE_TOKENS = 131
#: How many sets of inputs take turns, and of how many timed calls of each the results are judged.
SETS, RECHECKED = 2, 2
#: Gradients are judged up to this many tokens.
LONGEST_GRADIENTS = 2048

truths = Truths()


def wrong(problem: Problem, implementation: Implementation, setting: Setting) -> Answer | None:
    """Why this must not be timed, or None. Judged once an operator, dtype, size and direction."""
    gate = problem.replace(
        B=1, H=min(problem.H, 2), T=min(problem.T, GATE_TOKENS), inputs="realistic"
    )
    return _gated(gate, implementation, setting.device.kind, setting.seed)


@cache
def _gated(
    problem: Problem, implementation: Implementation, device: str, seed: int
) -> Answer | None:
    def cannot(problem: Problem) -> str | None:
        return implementation.refuses(problem, device)

    truth = truths(problem, seed)
    agreement, _ = judge_with_laws(implementation.run, problem, truth, device, cannot)
    if agreement.status == "ok":
        return None
    detail = {"gate": str(problem), "tensors": agreement.as_json()}
    return Answer(agreement.status, f"not timed: {agreement.reason}", detail=detail)


def make_call(
    problem: Problem, implementation: Implementation, setting: Setting
) -> Callable[[], object]:
    """One call as a user makes it; with gradients where the direction says so."""
    inputs = make_inputs(problem, seed=setting.seed, device=setting.device.kind)
    if not problem.backward:

        def forward() -> object:
            with torch.no_grad():
                return implementation.run(problem, inputs)

        return forward
    assert inputs.q is not None, "gradients are timed of problems that read"
    leaves = [inputs.q, inputs.k, inputs.v, *inputs.gates.values()]
    for leaf in leaves:
        leaf.requires_grad_()
    cotangent = make_cotangents(problem, setting.seed, setting.device.kind)["o"]

    def forward_and_backward() -> object:
        o = implementation.run(problem, inputs).o
        assert o is not None
        return torch.autograd.grad(o, leaves, cotangent)

    return forward_and_backward


class Rechecked:
    """Calls whose inputs change between them, and of whose results a few are kept and judged.

    The same buffers hold one of two sets of inputs, which take turns in an order drawn anew for
    each pair of calls: three calls in a row have both. What is remembered by address, or right on
    the first call only, does not survive that, because results of both are judged. Which are kept
    is drawn from all that were timed.
    """

    def __init__(self, problem: Problem, implementation: Implementation, setting: Setting) -> None:
        self._problem, self._run = problem, implementation.run
        self._setting = setting
        self._chance = random.Random(setting.seed)
        self._truths = truths_of(problem, setting.seed)
        self._sets = [copied(truth.inputs, setting.device.kind) for truth in self._truths]
        self._buffers = copied(self._truths[0].inputs, setting.device.kind)
        self._set = 0
        self._turns: list[int] = []
        self._timed = [0] * SETS
        self._kept: list[list[Tensors]] = [[] for _ in range(SETS)]
        self._misshapen: str | None = None
        self._compiled_before = 0
        #: How much was compiled inside timed calls.
        self.compiled = 0
        if problem.backward:
            b = self._buffers
            assert b.q is not None, "gradients are timed of problems that read"
            self._leaves = {"q": b.q, "k": b.k, "v": b.v, **b.gates}
            for leaf in self._leaves.values():
                leaf.requires_grad_()
            self._cotangent = self._truths[0].cotangents["o"].to(setting.device.kind)

    def before(self) -> None:
        """Not timed: the inputs of the next call."""
        if not self._turns:
            self._turns = self._chance.sample(range(SETS), SETS)
        self._set = self._turns.pop()
        self._fill(self._sets[self._set])
        self._compiled_before = compilations()

    def _fill(self, contents: Inputs) -> None:
        with torch.no_grad():
            overwrite(self._buffers, contents)

    def call(self) -> tuple[Output, Sequence[Tensor]]:
        """What is timed: the outputs, and the gradients where the direction says so."""
        if not self._problem.backward:
            with torch.no_grad():
                return self._run(self._problem, self._buffers), ()
        output = self._run(self._problem, self._buffers)
        assert output.o is not None
        leaves = list(self._leaves.values())
        return output, torch.autograd.grad(output.o, leaves, self._cotangent)

    def after(self, result: tuple[Output, Sequence[Tensor]]) -> None:
        """Not timed: of each set RECHECKED results are kept in the end, all with one chance."""
        self.compiled += compilations() - self._compiled_before
        kept_before = self._kept[self._set]
        self._timed[self._set] += 1
        place = len(kept_before)
        if place == RECHECKED:
            place = self._chance.randrange(self._timed[self._set])
        if place < RECHECKED:
            output, gradients = result
            tensors = named(output)
            if self._problem.backward:
                names = [f"d{name}" for name in self._leaves]
                tensors |= dict(zip(names, gradients, strict=True))
            self._misshapen = self._misshapen or self._form_of(tensors)
            kept = {name: tensor.detach().clone() for name, tensor in tensors.items()}
            kept_before[place : place + 1] = [kept]

    def _form_of(self, tensors: Tensors) -> str | None:
        wanted = self._truths[self._set].yardsticks[0]
        judged = {
            name: tensor
            for name, tensor in tensors.items()
            if name in wanted or not name.startswith("d")
        }
        return wrong_form(judged, wanted, self._setting.device.kind)

    def remembers(self) -> float | None:
        """What part of a call's time the same call takes again, where results are looked up."""
        device, problem = self._setting.device, self._problem
        last = 0

        def seconds() -> float:
            # Made anew for the second call too: what comes before both must be the same.
            seed = self._setting.seed + (SETS + last) * 2**20
            self._fill(make_inputs(problem, seed=seed, device=device.kind))
            device.flush_cache()
            device.synchronize()
            start = device.record_event()
            self.call()
            return device.elapsed(start, device.record_event())

        def first(n: int) -> float:
            nonlocal last
            last = n
            return seconds()

        return remembered(first, seconds)

    def complaint(self) -> tuple[str, str] | None:
        """The status and the reason, if a timed call was not right; else None."""
        if self._misshapen is not None:
            return "incorrect", f"the result of a timed call: {self._misshapen}"
        if changed := modified(self._buffers, self._truths[self._set].inputs):
            return "input-modified", f"a timed call changed {' and '.join(changed)}"
        judged = [
            (truth, tensors)
            for truth, kept in zip(self._truths, self._kept, strict=True)
            for tensors in kept
        ]
        for truth, tensors in judged:
            for name in truth.golden:
                found = compare(truth, name, tensors[name].cpu())
                if found.verdict in ("wrong", "not-finite"):
                    worst = f"{name} errs {found.ratio:.3g} times what is allowed"
                    return "incorrect", f"the result of a timed call is wrong: {worst}"
        return None


@lru_cache(maxsize=2)
def truths_of(problem: Problem, seed: int) -> list[Truth]:
    """Beyond LONGEST_GRADIENTS only the outputs are judged: the plain form keeps every chunk."""
    judged = problem if problem.T <= LONGEST_GRADIENTS else problem.replace(direction="forward")
    cotangents = make_cotangents(problem, seed, "cpu")
    return [find_long_truth(judged, seed + n * 2**20, cotangents) for n in range(SETS)]


def energy_of(calls: Rechecked, setting: Setting) -> Answer:
    """Joules a call, as metrics of an answer, or in its detail the reason why there are none."""
    windows, device = setting.profile.energy_windows, setting.device
    if not windows:
        return Answer(detail={"energy": {"missing": "not asked in this profile"}})
    counter = counter_of(device.kind)
    if isinstance(counter, str):
        return Answer(detail={"energy": {"missing": counter}})

    def call() -> None:
        calls.call()
        device.synchronize()

    found = measure(call, counter, windows, device.now, pause)
    net, raw = (statistics.fmean(each) for each in (found.net, found.raw))
    return Answer(
        metrics={
            "energy": Measurement(value=net, unit="J", low=found.low, high=found.high),
            "energy raw": Measurement(value=raw, unit="J"),
        },
        samples={"energy": list(found.net), "energy raw": list(found.raw)},
        detail={"energy": {"counter": counter.name, "idle W": found.idle, "cache": "warm"}},
    )


def timed(
    problem: Problem, implementation: Implementation, setting: Setting, *, energy: bool = False
) -> Answer:
    """The gate, then the time, then some of the results: what is wrong has no time."""
    if (refusal := wrong(problem, implementation, setting)) is not None:
        return refusal
    calls = Rechecked(problem, implementation, setting)
    timing = time_call(calls.call, setting.device, setting.profile, calls.before, calls.after)
    if (complaint := calls.complaint()) is not None:
        return Answer(*complaint)
    if implementation.origin == "third-party" and (others := borrowed(calls.call)):
        return Answer("wrong-kernel", f"it went through {' and '.join(others)}, which it is not")
    time = Measurement(value=timing.median, unit="s", low=timing.low, high=timing.high)
    status, reason = "ok", ""
    if timing.unstable:
        status, reason = "unstable", "the 95 % interval of the median is wider than ± 10 %"
    if (part := calls.remembers()) is not None:
        again = f"the same inputs again take {part:.2g} of the first call's time, or less"
        status, reason = "remembered", f"{again}: results are remembered"
    tags = [*timing.tags, *(["compiled-while-timed"] if calls.compiled else [])]
    joules = energy_of(calls, setting) if energy else Answer()
    return Answer(
        status,
        reason,
        {"time": time, **joules.metrics},
        {"time": timing.samples, **joules.samples},
        tags,
        {
            "stop_reason": timing.stop_reason,
            "domain": "device",
            "cache": "cold",
            **joules.detail,
        },
    )
