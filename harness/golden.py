"""The truth of a problem and the rounding that an honest implementation may show.

Golden: the law, one token at a time, in float64, on inputs already rounded to the problem's dtype.
Yardstick: the largest error, tensor by tensor, of (a) the law with arithmetic and state in float32
and outputs rounded, (b) the plain chunk form at the sizes of chunks that kernels have, with every
operand of every matmul, forward and backward, rounded to the dtype, accumulation and state in
float32, and (c) the same with operands nudged at random before they are rounded; where there is no
chunk form, the law on inputs so nudged.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fwpbench.harness.yardstick import (
    CHUNKS,
    NUDGES,
    chunks_of,
    nudged,
    nudged_chunks,
    rounded_attention,
    rounded_chunks,
    turned,
)
from fwpbench.implementations.base import Output
from fwpbench.implementations.base import Run as Run
from fwpbench.implementations.reference import run as run_law
from fwpbench.operators.chunk_form import FORMS
from fwpbench.operators.inputs import TOKENS_BEFORE, Inputs, make_inputs
from fwpbench.operators.problem import Problem
from fwpbench.operators.state import State
from fwpbench.operators.streams import stream

#: So many times each of two chunk forms has operands nudged at random before they are rounded.
ROUNDINGS = 8
#: In so many other orders a map with a projection is computed in float32.
TURNS = 6

#: o, S, z, then the gradients dq, dk, dv, d<gate>, dS0, dz0.
Tensors = dict[str, Tensor]


def tensors_of(run: Run, problem: Problem, inputs: Inputs, cotangents: Tensors) -> Tensors:
    """Everything `run` returns and, where the direction asks for it, every gradient.

    The gradients are those of Σ ⟨output, cotangent⟩ over all outputs.
    """
    leaves = _leaves(inputs)
    if problem.backward:
        leaves = {name: leaf.detach().clone().requires_grad_() for name, leaf in leaves.items()}
        inputs = _with_leaves(inputs, leaves)
    with torch.set_grad_enabled(problem.backward):
        output = run(problem, inputs)
    tensors = named(output)
    if not problem.backward:
        return tensors
    reached = {name: tensor for name, tensor in tensors.items() if tensor.requires_grad}
    gradients = torch.autograd.grad(
        list(reached.values()),
        list(leaves.values()),
        [cotangents[name].to(tensor.dtype) for name, tensor in reached.items()],
        allow_unused=True,
    )
    tensors = {name: tensor.detach() for name, tensor in tensors.items()}
    for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True):
        tensors[f"d{name}"] = torch.zeros_like(leaf) if gradient is None else gradient
    return tensors


def named(output: Output) -> Tensors:
    tensors = {} if output.o is None else {"o": output.o}
    if output.state is not None:
        tensors["S"] = output.state.S
        if output.state.z is not None:
            tensors["z"] = output.state.z
    return tensors


def _leaves(inputs: Inputs) -> Tensors:
    leaves = {} if inputs.q is None else {"q": inputs.q}
    leaves |= {"k": inputs.k, "v": inputs.v, **inputs.gates}
    if inputs.state is not None:
        leaves["S0"] = inputs.state.S
        if inputs.state.z is not None:
            leaves["z0"] = inputs.state.z
    return leaves


def _with_leaves(inputs: Inputs, leaves: Tensors) -> Inputs:
    state = State(leaves["S0"], leaves.get("z0")) if "S0" in leaves else None
    gates = {name: leaves[name] for name in inputs.gates}
    return inputs._replace(
        q=leaves.get("q"), k=leaves["k"], v=leaves["v"], gates=gates, state=state
    )


def make_cotangents(problem: Problem, seed: int, device: str) -> Tensors:
    """Standard normal, in the dtype of the output they belong to."""
    generator = torch.Generator().manual_seed(seed + 2**32)
    p = problem
    shapes = {"o": (p.B, p.tokens, p.H, p.V), "S": (p.B, p.H, p.D, p.V), "z": (p.B, p.H, p.D)}
    if p.operator.update_rule.keeps_tokens and p.state_out:
        before = 0 if not p.state_in else p.T if p.direction == "decode" else TOKENS_BEFORE
        shapes["S"] = (p.B, p.H, before + p.tokens, p.K + p.V)
    return {
        name: torch.randn(shape, generator=generator)
        .to(p.torch_dtype if name == "o" else p.state_dtype)
        .to(device)
        for name, shape in shapes.items()
    }


@dataclass(frozen=True)
class Truth:
    """One problem's inputs for one seed, its golden, and each tensor's yardstick error."""

    inputs: Inputs
    cotangents: Tensors
    golden: Tensors
    yardsticks: tuple[Tensors, ...]
    #: The yardstick's errors, kept where they were once computed: several are judged by them.
    errors: dict[str, tuple[float, float]] = field(default_factory=dict, repr=False)


def find_truth(problem: Problem, seed: int) -> Truth:
    """Computed on the CPU: the golden must not depend on the device that is judged."""
    return truth_of(problem, make_inputs(problem, seed=seed), seed)


def truth_of(problem: Problem, inputs: Inputs, seed: int) -> Truth:
    """The truth on inputs of one's own, of the form that `make_inputs` gives; on the CPU."""
    cotangents = make_cotangents(problem, seed, "cpu")
    golden = tensors_of(run_law, problem.replace(dtype="fp64"), _doubled(inputs), cotangents)
    law = tensors_of(run_law, problem, inputs, cotangents)
    if problem.operator.update_rule.keeps_tokens and problem.reads:
        kernel = tensors_of(rounded_attention, problem, inputs, cotangents)
        return Truth(inputs, cotangents, golden, (law, kernel))
    whole = problem.causal and problem.reads and not problem.masked
    if not whole or problem.rule not in FORMS:
        laws = _nudged_law(problem, inputs, cotangents)
        laws += _turned(run_law, problem, inputs, cotangents)
        return Truth(inputs, cotangents, golden, (law, *laws))
    chunks = [
        tensors_of(rounded_chunks(C), problem, inputs, cotangents) for C in chunks_of(problem)
    ]
    chunks += _nudged_elsewhere(problem, inputs, cotangents)
    chunks += _turned(rounded_chunks(CHUNKS[0]), problem, inputs, cotangents)
    return Truth(inputs, cotangents, golden, (law, *chunks))


def _nudged_elsewhere(problem: Problem, inputs: Inputs, cotangents: Tensors) -> list[Tensors]:
    """ROUNDINGS of each of two sizes of chunks.

    Where a gradient is that of one token, and cancels, its error is one draw of chance: forms that
    round alike draw alike, and an honest kernel that rounds elsewhere errs several times as much.
    (Monte Carlo arithmetic: Parker 1997.)
    """
    if problem.dtype not in NUDGES:
        return []
    leaves = {name: _copies(leaf) for name, leaf in _leaves(inputs).items()}
    found: list[Tensors] = []
    for n, chunk in enumerate(chunks_of(problem)[:2]):
        found += _apart(nudged_chunks(chunk, problem.dtype, n), problem, inputs, leaves, cotangents)
    return found


def _nudged_law(problem: Problem, inputs: Inputs, cotangents: Tensors) -> list[Tensors]:
    """ROUNDINGS of the law on inputs that a float32 does not hold as they came."""
    if problem.dtype not in NUDGES or problem.operator.update_rule.keeps_tokens:
        return []
    by = stream(0, "roundings")
    leaves = {
        name: nudged(_copies(leaf).float(), NUDGES["fp32"], by)
        for name, leaf in _leaves(inputs).items()
    }
    return _apart(run_law, problem, inputs, leaves, cotangents)


def _apart(
    run: Run, problem: Problem, inputs: Inputs, leaves: Tensors, cotangents: Tensors
) -> list[Tensors]:
    """What `run` makes of ROUNDINGS copies. Side by side they take little longer than one."""
    many = inputs._replace(mask=None if inputs.mask is None else _copies(inputs.mask))
    tensors = tensors_of(
        run,
        problem.replace(B=ROUNDINGS * problem.B),
        _with_leaves(many, leaves),
        {name: _copies(cotangent) for name, cotangent in cotangents.items()},
    )
    each = {name: x.chunk(ROUNDINGS) for name, x in tensors.items()}
    return [{name: xs[m] for name, xs in each.items()} for m in range(ROUNDINGS)]


def _copies(x: Tensor) -> Tensor:
    return torch.cat([x] * ROUNDINGS)


def _turned(run: Run, problem: Problem, inputs: Inputs, cotangents: Tensors) -> list[Tensors]:
    """In float32 alone: operands rounded to fewer bits err far more than that."""
    if problem.dtype != "fp32" or problem.operator.feature_map.projection_columns is None:
        return []
    return [tensors_of(turned(run, n), problem, inputs, cotangents) for n in range(TURNS)]


def find_long_truth(problem: Problem, seed: int, cotangents: Tensors) -> Truth:
    """The truth of a causal problem that reads, of any length: by the second golden alone.

    The token law in float64 takes longer than the timing that is to be checked; the plain chunk
    form in float64 agrees with it to 1e-10.
    """
    inputs = make_inputs(problem, seed=seed)
    exact = problem.replace(dtype="fp64")
    golden = tensors_of(rounded_chunks(CHUNKS[0]), exact, _doubled(inputs), cotangents)
    rounded = rounded_chunks(CHUNKS[0])
    if problem.operator.update_rule.keeps_tokens:
        rounded = rounded_attention
    return Truth(inputs, cotangents, golden, (tensors_of(rounded, problem, inputs, cotangents),))


class Truths:
    """The truths last asked for: several implementations are judged by the same one.

    A forward problem's truth is part of that of the same problem with gradients, so that one is
    found for both, where the plan puts them next to each other.
    """

    def __init__(self, most: int = 8) -> None:
        self._most = most
        self._found: OrderedDict[tuple[Problem, int], Truth] = OrderedDict()

    def __call__(self, problem: Problem, seed: int) -> Truth:
        asked = (problem, seed)
        if asked not in self._found:
            with_gradients = None
            if problem.direction == "forward":
                backward = problem.replace(direction="forward+backward")
                with_gradients = self._found.get((backward, seed))
            self._found[asked] = with_gradients or find_truth(problem, seed)
            if len(self._found) > self._most:
                self._found.popitem(last=False)
        return self._found[asked]


def _doubled(inputs: Inputs) -> Inputs:
    def double(x: Tensor | None) -> Any:
        return None if x is None else x.double()

    state = None
    if inputs.state is not None:
        state = State(double(inputs.state.S), double(inputs.state.z))
    return Inputs(
        double(inputs.q),
        double(inputs.k),
        double(inputs.v),
        {name: double(gate) for name, gate in inputs.gates.items()},
        double(inputs.projection),
        state,
        inputs.mask,
    )
