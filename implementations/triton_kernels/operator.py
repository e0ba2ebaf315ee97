"""The kernels as one differentiable call; and as an operator of torch, for torch.compile.

A problem goes in as its sentence and its plan (choice.py) by name; tensors come out as a list: o, S
and z where the problem has them, then what a backward pass needs. Their shapes follow from the two
alone, so that the fake forms, which torch traces with, and the real ones share them. Compiled code
calls the operator `fwpbench::triton`. Eager code calls the same two functions without it: torch's
dispatcher would take longer than a short launch, and the gate could not see into it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fwpbench.implementations.base import Output
from fwpbench.implementations.triton_kernels import (
    chunks,
    prepared,
    recurrent,
    unordered,
    wide,
)
from fwpbench.implementations.triton_kernels.choice import chosen_plan, multiprocessors
from fwpbench.implementations.triton_kernels.fit import in_blocks_that_fit
from fwpbench.implementations.triton_kernels.launch import Given, Shapes, contiguous
from fwpbench.implementations.triton_kernels.segmented import Segmented
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.problem import Problem
from fwpbench.operators.state import State

#: Of the operator, as torch writes it.
GIVEN = (
    "Tensor? q, Tensor k, Tensor v, Tensor? alpha, Tensor? beta, Tensor? projection, "
    "Tensor? S, Tensor? z, Tensor? mask"
)
DIFFERENTIABLE = ("q", "k", "v", "alpha", "beta", "S", "z")


#: By the name of a plan, whose part after a dash is a number.
KERNELS = {
    "fused": chunks,
    "prepared": prepared,
    "wide": wide,
    "recurrent": recurrent,
    "unordered": unordered,
}


def run(problem: Problem, inputs: Inputs, plan: str | None = None) -> Output:
    """By the plan chosen for the device, or by the one that is named."""
    S, z = (None, None) if inputs.state is None else inputs.state
    alpha, beta = (inputs.gates.get(name) for name in ("alpha", "beta"))
    given = Given(inputs.q, inputs.k, inputs.v, alpha, beta, inputs.projection, S, z, inputs.mask)
    keeps = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in given)
    call: Any = triton_operator if torch.compiler.is_compiling() else Eager.apply
    plan = plan or _plan_of(str(problem), str(inputs.v.device))
    results = call(str(problem), plan, keeps, *given)
    got = dict(zip(_names(str(problem), plan, keeps), results, strict=True))
    return Output(got.get("o"), State(got["S"], got.get("z")) if problem.state_out else None)


def kernels_of(plan: str) -> Any:
    """What has its shapes, forward and backward."""
    name, _, tokens = plan.partition("-")
    return Segmented(int(tokens)) if name == "segmented" else KERNELS[name]


#: A sentence is read once.
_problem = lru_cache(maxsize=1024)(Problem.parse)


@lru_cache(maxsize=1024)
def shapes(problem: str, plan: str, keeps: bool) -> Shapes:
    found: Shapes = kernels_of(plan).shapes(_problem(problem), keeps)
    return found


@lru_cache(maxsize=1024)
def _chosen(problem: str, device: str) -> str:
    return chosen_plan(_problem(problem), multiprocessors(device))


#: Compiled code cannot look into a cache. (torch has no types for this.)
_constant: Any = torch.compiler.assume_constant_result
_plan_of = _constant(lambda problem, device: _chosen(problem, device))
_names = _constant(lambda problem, plan, keeps: list(shapes(problem, plan, keeps)))


def forward(problem: str, plan: str, keeps: bool, *given: Tensor | None) -> list[Tensor]:
    out = _room(problem, plan, keeps, *given)
    given_ = Given(*map(contiguous, given))
    launches = kernels_of(plan).forward
    in_blocks_that_fit(launches, _problem(problem), given_, out, keeps=keeps)
    return list(out.values())


def _room(problem: str, plan: str, keeps: bool, *given: Any) -> dict[str, Tensor]:
    like = Given(*given).v
    return {
        name: like.new_empty(shape, dtype=dtype)
        for name, (shape, dtype) in shapes(problem, plan, keeps).items()
    }


def backward(problem: str, plan: str, *tensors: Any) -> list[Tensor]:
    """The gradients of those of DIFFERENTIABLE that there are, in this order."""
    *all_given, results, do, dS, dz = tensors
    given = Given(*map(contiguous, all_given))
    out = dict(zip(shapes(problem, plan, True), results, strict=True))
    cotangents = {"o": do, "S": dS, "z": dz}
    for name in cotangents.keys() & out.keys():
        if cotangents[name] is None:
            cotangents[name] = torch.zeros_like(out[name])
    state = map(contiguous, cotangents.values())
    launches = kernels_of(plan).backward
    gradients = in_blocks_that_fit(launches, _problem(problem), given, out, *state, backward=True)
    return [gradients[name] for name in _differentiable(given)]


def _differentiable(given: Given) -> list[str]:
    return [name for name in DIFFERENTIABLE if getattr(given, name) is not None]


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Sequence[Tensor]) -> None:
    problem, plan, keeps, *given = inputs
    ctx.named, ctx.keeps, ctx.results = (problem, plan), keeps, len(output)
    # What a backward pass does not ask for has no gradient, not one of zeros.
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*given, *output)


def _gradients(
    ctx: Any, cotangents: Sequence[Tensor | None], gradients_of: Any
) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    given, results = Given(*saved[: -ctx.results]), list(saved[-ctx.results :])
    of = dict(zip(shapes(*ctx.named, ctx.keeps), cotangents, strict=True))
    found = gradients_of(*ctx.named, *given, results, of.get("o"), of.get("S"), of.get("z"))
    gradients = dict(zip(_differentiable(given), found, strict=True))
    return None, None, None, *(gradients.get(name) for name in Given._fields)


class Eager(torch.autograd.Function):
    """The same without torch's dispatcher."""

    @staticmethod
    def forward(ctx: Any, problem: str, plan: str, keeps: bool, *given: Any) -> tuple[Tensor, ...]:
        results = forward(problem, plan, keeps, *given)
        _remember(ctx, (problem, plan, keeps, *given), results)
        return tuple(results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        return _gradients(ctx, cotangents, backward)


triton_operator = torch.library.custom_op(
    "fwpbench::triton",
    forward,
    mutates_args=(),
    schema=f"(str problem, str plan, bool keeps, {GIVEN}) -> Tensor[]",
)
triton_gradients = torch.library.custom_op(
    "fwpbench::triton_gradients",
    backward,
    mutates_args=(),
    schema=f"(str problem, str plan, {GIVEN}, Tensor[] results, "
    "Tensor? do, Tensor? dS, Tensor? dz) -> Tensor[]",
)


@triton_operator.register_fake
def _(problem: str, plan: str, keeps: bool, *given: Any) -> list[Tensor]:
    return list(_room(problem, plan, keeps, *given).values())


@triton_gradients.register_fake
def _(problem: str, plan: str, *tensors: Any) -> list[Tensor]:
    given = Given(*tensors[: len(Given._fields)])
    like = (getattr(given, name) for name in _differentiable(given))
    return [x.new_empty(x.shape) for x in like]


triton_operator.register_autograd(
    lambda ctx, cotangents: _gradients(ctx, cotangents, triton_gradients),
    setup_context=_remember,
)
