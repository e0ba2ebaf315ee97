"""What the timed suites share: the call, its gate, and the record of its time."""

from __future__ import annotations

import functools
import math
import random
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fwpbench.harness.agreement import compare, copied, modified, named_inputs, wrong_form
from fwpbench.harness.borrowed import borrowed
from fwpbench.harness.compilations import compilations
from fwpbench.harness.device import Device
from fwpbench.harness.domains import Cache, Domain, default_domain
from fwpbench.harness.energy import counter_of, measure, pause
from fwpbench.harness.gate import judge_with_laws, runs
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
from fwpbench.harness.roofline import IMPOSSIBLE, against_roofline, peaks_of_run
from fwpbench.harness.suite import Answer, Metric, Setting
from fwpbench.harness.timing import Timing, time_call
from fwpbench.implementations.base import Implementation, Output
from fwpbench.operators.inputs import Inputs, make_inputs
from fwpbench.operators.problem import Problem

#: The gate judges at this length: two chunks of 64 and a bit, whatever length is timed.
GATE_TOKENS = 131
#: How many sets of inputs take turns, and of how many timed calls of each the results are judged.
SETS, RECHECKED = 2, 2
#: Gradients are judged up to this many tokens.
LONGEST_GRADIENTS = 2048

#: What every timed suite measures.
METRICS = {
    "time": Metric(
        "s",
        "lower",
        "median time of one call: on the device, with a cold cache, where nothing else is said; on "
        "a CPU, which has no other time, the caller's",
    ),
    "roofline": Metric(
        "fraction", "higher", "the least time that bytes and operations allow, of the time taken"
    ),
}
#: A batch of calls has so many, or as many as there are buffers.
BATCH = 16
#: What a record tells of kernels.
LONGEST_NAME, MOST_KERNELS = 200, 40

#: The outputs, and the gradients.
Result = tuple[Output, Sequence[Tensor]]

truths = Truths()


def wrong(problem: Problem, implementation: Implementation, setting: Setting) -> Answer | None:
    """Why this must not be timed, or None. Judged once an operator, dtype, size and direction, by
    the plan that is timed."""
    gate = problem.replace(
        B=1, H=min(problem.H, 2), T=min(problem.T, GATE_TOKENS), inputs="realistic"
    )
    kind = setting.device.kind
    timed = next(iter(runs(implementation, problem, kind)))
    return _gated(gate, implementation, timed, kind, setting.seed)


@functools.cache
def _gated(
    problem: Problem, implementation: Implementation, plan: str, device: str, seed: int
) -> Answer | None:
    def cannot(problem: Problem) -> str | None:
        return implementation.refuses(problem, device)

    truth = truths(problem, seed)
    run = runs(implementation, problem, device)[plan]
    agreement, _ = judge_with_laws(run, problem, truth, device, cannot)
    if agreement.status == "ok":
        return None
    detail = {"gate": str(problem), "tensors": agreement.as_json()}
    if plan:
        detail["plan"] = plan
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
    wanted = list(leaves(inputs).values())
    for leaf in wanted:
        leaf.requires_grad_()
    cotangent = make_cotangents(problem, setting.seed, setting.device.kind)["o"]

    def forward_and_backward() -> object:
        o = implementation.run(problem, inputs).o
        assert o is not None
        return torch.autograd.grad(o, wanted, cotangent)

    return forward_and_backward


def leaves(inputs: Inputs) -> dict[str, Tensor]:
    """What gradients are timed of."""
    assert inputs.q is not None, "gradients are timed of problems that read"
    return {"q": inputs.q, "k": inputs.k, "v": inputs.v, **inputs.gates}


class Rechecked:
    """Calls whose inputs change between them, and of whose results a few are kept and judged.

    The same buffers hold one of two sets of inputs, which take turns in an order drawn anew for
    each pair of calls: three calls in a row have both. What is remembered by address, or right on
    the first call only, does not survive that, because results of both are judged. Which are kept
    is drawn from all that were timed. With several `places` the buffers take turns too.
    """

    def __init__(
        self,
        problem: Problem,
        implementation: Implementation,
        setting: Setting,
        places: int = 1,
        batch: int = 1,
    ) -> None:
        self._problem, self._run = problem, implementation.run
        self._setting = setting
        self._chance = random.Random(setting.seed)
        self._truths = truths_of(problem, setting.seed)
        kind = setting.device.kind
        self._sets = [copied(truth.inputs, kind) for truth in self._truths]
        self._buffers = [copied(self._truths[0].inputs, kind) for _ in range(places)]
        #: Which set each of the buffers holds, and which of them the next call reads.
        self._held, self._place = [0] * places, 0
        self._turns: list[int] = []
        #: Of a batch of calls one result is kept: the same one every time, as a graph has it.
        self._batch, self._drawn = batch, self._chance.randrange(batch)
        self._timed = [0] * SETS
        self._kept: list[list[Tensors]] = [[] for _ in range(SETS)]
        self._misshapen: str | None = None
        self._compiled_before = 0
        #: How much was compiled inside timed calls.
        self.compiled = 0
        if problem.backward:
            for buffer in self._buffers:
                for leaf in leaves(buffer).values():
                    leaf.requires_grad_()
            self._cotangent = self._truths[0].cotangents["o"].to(kind)

    def before(self) -> None:
        """Not timed: the inputs of the next call, or of all calls of a batch."""
        if self._batch == 1:
            self._fill((self._place + 1) % len(self._buffers))
        else:
            for place in range(len(self._buffers)):
                self._fill(place)
            self._place = self._drawn % len(self._buffers)
        self._compiled_before = compilations()

    def _fill(self, place: int) -> None:
        if not self._turns:
            self._turns = self._chance.sample(range(SETS), SETS)
        self._held[place] = self._turns.pop()
        self._overwrite(place, self._sets[self._held[place]])

    def _overwrite(self, place: int, contents: Inputs) -> None:
        self._place = place
        with torch.no_grad():
            overwrite(self._buffers[place], contents)

    def call(self) -> Result:
        """What is timed: the outputs, and the gradients where the direction says so."""
        return self._call(self._buffers[self._place])

    def calls(self) -> Result:
        """A batch of them, each on the next buffer; one of the results."""
        for n in range(self._batch):
            result = self._call(self._buffers[n % len(self._buffers)])
            if n == self._drawn:
                drawn = result
        return drawn

    def _call(self, buffer: Inputs) -> Result:
        if not self._problem.backward:
            with torch.no_grad():
                return self._run(self._problem, buffer), ()
        output = self._run(self._problem, buffer)
        assert output.o is not None
        wanted = list(leaves(buffer).values())
        return output, torch.autograd.grad(output.o, wanted, self._cotangent)

    def after(self, result: Result) -> None:
        """Not timed: of each set RECHECKED results are kept in the end, all with one chance."""
        self.compiled += compilations() - self._compiled_before
        held = self._held[self._place]
        kept_before = self._kept[held]
        self._timed[held] += 1
        place = len(kept_before)
        if place == RECHECKED:
            place = self._chance.randrange(self._timed[held])
        if place < RECHECKED:
            output, gradients = result
            tensors = named(output)
            if self._problem.backward:
                names = [f"d{name}" for name in leaves(self._buffers[0])]
                tensors |= dict(zip(names, gradients, strict=True))
            self._misshapen = self._misshapen or self._form_of(tensors, held)
            kept = {name: tensor.detach().clone() for name, tensor in tensors.items()}
            kept_before[place : place + 1] = [kept]

    def _form_of(self, tensors: Tensors, held: int) -> str | None:
        wanted = self._truths[held].yardsticks[0]
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
            self._overwrite(0, make_inputs(problem, seed=seed, device=device.kind))
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
        for buffer, held in zip(self._buffers, self._held, strict=True):
            if changed := modified(buffer, self._truths[held].inputs):
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


@functools.lru_cache(maxsize=2)
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
    problem: Problem,
    implementation: Implementation,
    setting: Setting,
    domain: Domain | None = None,
    cache: Cache = "cold",
    *,
    energy: bool = False,
) -> Answer:
    """The gate, then the time, then some of the results: what is wrong has no time."""
    device = setting.device
    domain = domain or default_domain(device)
    if (refusal := wrong(problem, implementation, setting)) is not None:
        return refusal
    places = places_for(problem, device, setting.seed) if cache == "cold" else 1
    batch = max(BATCH, places) if domain == "throughput" else 1
    calls = Rechecked(problem, implementation, setting, places, batch)
    detail: dict[str, Any] = {"domain": domain, "cache": cache}
    call: Callable[[], Result] = calls.call
    hide_launches = None
    if domain == "throughput":
        graph = _graph(calls, device)
        hide_launches = not isinstance(graph, str)
        detail["throughput"] = "one graph of launches" if hide_launches else f"one by one: {graph}"
        call = calls.calls if isinstance(graph, str) else graph
    timing = time_call(
        call, device, setting.profile, calls.before, calls.after,
        domain=domain, cache=cache, calls=batch, hide_launches=hide_launches,
    )  # fmt: skip
    detail |= {"stop_reason": timing.stop_reason, "buffers": places}
    tags = timing.tags
    if implementation.kernels or domain == "kernels":
        ran = _kernels(calls, device)
        if (foreign := _foreign(implementation, ran)) is not None:
            return Answer("wrong-kernel", foreign, detail={"kernels": ran})
        if not ran and domain == "kernels":
            return Answer("missing", "the profiler tells of no kernel here: it needs CUPTI")
        detail["kernels"] = ran
        if not ran and "kernels" in device.domains:
            tags = [*tags, "kernels-unseen"]
    if (complaint := calls.complaint()) is not None:
        return Answer(*complaint)
    third = implementation.origin == "third-party"
    if third and (others := borrowed(calls.call, implementation.run)):
        return Answer("wrong-kernel", f"it went through {' and '.join(others)}, which it is not")
    if calls.compiled:
        tags = [*tags, "compiled-while-timed"]
    if timing.clock is not None:
        detail["clock Hz"] = timing.clock
    samples = {"time": timing.samples}
    if timing.flagged:
        samples["time, flagged"] = [seconds for _, _, seconds in timing.flagged]
        detail["flagged"] = [[place, flag] for place, flag, _ in timing.flagged]
    fraction, detail["roofline"] = against_roofline(
        problem, timing.median, device, cache, peaks_of_run
    )
    metrics = {
        "time": Measurement(value=timing.median, unit="s", low=timing.low, high=timing.high),
        "roofline": Measurement(value=fraction, unit="fraction"),
    }
    status, reason = _trusted(timing, fraction)
    if (part := calls.remembers()) is not None:
        again = f"the same inputs again take {part:.2g} of the first call's time, or less"
        status, reason = "remembered", f"{again}: results are remembered"
    joules = energy_of(calls, setting) if energy else Answer()
    metrics |= joules.metrics
    samples |= {name: list(each) for name, each in joules.samples.items()}
    return Answer(status, reason, metrics, samples, tags, {**detail, **joules.detail})


def _trusted(timing: Timing, fraction: float) -> tuple[str, str]:
    if fraction > IMPOSSIBLE:
        said = f"{100 * fraction:.0f} % of what this device can do at most (roofline)"
        return "impossible", f"{said}: the work is not done, or not waited for"
    if timing.throttled:
        return "throttled", "the clock was low from the first sample on, or too few were left"
    if timing.unstable:
        return "unstable", "the 95 % interval of the median is wider than ± 10 %"
    return "ok", ""


def places_for(problem: Problem, device: Device, seed: int) -> int:
    """How many buffers must take turns so that none of the inputs is left in the cache."""
    size = sum(
        x.numel() * x.element_size()
        for x in named_inputs(truths_of(problem, seed)[0].inputs).values()
    )
    return max(1, math.ceil(device.rotates / size))


def _graph(calls: Rechecked, device: Device) -> Callable[[], Result] | str:
    calls.before()
    for _ in range(2):  # what is compiled or allocated once may not be captured
        calls.calls()
    return device.graph(calls.calls)


def _kernels(calls: Rechecked, device: Device) -> dict[str, list[float]]:
    """By name: how often a kernel runs in one call, and its seconds in all. Nothing is timed
    afterwards: the profiler slows down what it watches."""
    calls.before()
    ran, result = device.kernels(calls.call)
    calls.after(result)
    told: dict[str, list[float]] = {}
    for name, seconds in ran:
        before = told.get(name[:LONGEST_NAME], [0.0, 0.0])
        told[name[:LONGEST_NAME]] = [before[0] + 1, before[1] + seconds]
    longest = sorted(told, key=lambda name: -told[name][1])[:MOST_KERNELS]
    return {name: told[name] for name in longest}


def _foreign(implementation: Implementation, ran: Mapping[str, object]) -> str | None:
    """Why what ran is not what the implementation declares, or None."""
    pattern = implementation.kernels
    if not pattern or not ran or any(re.search(pattern, name) for name in ran):
        return None
    return f"no kernel matches {pattern!r}; {len(ran)} others ran, first of all {next(iter(ran))}"
