"""Kernels as one differentiable call; and as an operator of torch, for torch.compile.

A problem goes in as its sentence and its plan by name; tensors come out as a list: o, S and z where
the problem has them, then what a backward pass needs. Their shapes follow from the two alone, so
that the fake forms, which torch traces with, and the real ones share them. Compiled code calls the
operator `fwpbench::NAME`. Eager code calls the same two functions without it: torch's dispatcher
would take longer than a short launch, and the gate could not see into it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fwpbench.implementations._copies import contiguous
from fwpbench.implementations._kernel_terms import normalizer
from fwpbench.implementations.base import Output
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.problem import Problem
from fwpbench.operators.state import State

#: By name: shape and dtype.
Shapes = dict[str, tuple[tuple[int, ...], torch.dtype]]
#: Of the operator, as torch writes it.
GIVEN = (
    "Tensor? q, Tensor k, Tensor v, Tensor? alpha, Tensor? beta, Tensor? projection, "
    "Tensor? S, Tensor? z, Tensor? mask"
)
DIFFERENTIABLE = ("q", "k", "v", "alpha", "beta", "S", "z")


class Given(NamedTuple):
    """What a problem gives; None for what it does not have."""

    q: Tensor | None
    k: Tensor
    v: Tensor
    alpha: Tensor | None
    beta: Tensor | None
    projection: Tensor | None
    S: Tensor | None
    z: Tensor | None
    mask: Tensor | None


class Kernels(Protocol):
    """What a plan names: the shapes of all that it gives out or keeps, and both directions."""

    def shapes(self, problem: Problem, keeps: bool) -> Shapes: ...

    def forward(self, problem: Problem, given: Given, out: dict[str, Tensor]) -> None: ...

    def backward(
        self,
        problem: Problem,
        given: Given,
        out: dict[str, Tensor],
        do: Tensor | None,
        dS: Tensor | None,
        dz: Tensor | None,
    ) -> dict[str, Tensor | None]: ...


def called(launches: Callable[..., Any], problem: Problem, *arguments: Any, **_: bool) -> Any:
    """`launches(problem, *arguments)`, and nothing around it."""
    return launches(problem, *arguments)


#: A sentence is read once.
_problem = lru_cache(maxsize=1024)(Problem.parse)


def _constant(function: Any) -> Any:
    """Compiled code cannot look into a cache. This is what torch.compiler.assume_constant_result
    does, without importing torch's compiler: a second of every first call."""
    function._dynamo_marked_constant = True
    return function


class KernelOperator:
    """`kernels_of(plan)` gives the kernels of a plan by name, `plan_of(problem, device)` its name.

    `around` calls `launches(problem, *arguments)`; besides, it is told `keeps=` or `backward=`.
    """

    def __init__(
        self,
        name: str,
        kernels_of: Callable[[str], Kernels],
        plan_of: Callable[[Problem, str], str],
        around: Callable[..., Any] = called,
    ) -> None:
        self.kernels_of, self._around = kernels_of, around
        self.shapes = lru_cache(maxsize=1024)(self._shapes)
        chosen = lru_cache(maxsize=1024)(lambda problem, device: plan_of(_problem(problem), device))
        self._plan_of = _constant(lambda problem, device: chosen(problem, device))
        self._names = _constant(lambda *named: list(self.shapes(*named)))
        self.operator = torch.library.custom_op(
            f"fwpbench::{name}",
            self.forward,
            mutates_args=(),
            schema=f"(str problem, str plan, bool keeps, {GIVEN}) -> Tensor[]",
        )
        self.gradients = torch.library.custom_op(
            f"fwpbench::{name}_gradients",
            self.backward,
            mutates_args=(),
            schema=f"(str problem, str plan, {GIVEN}, Tensor[] results, "
            "Tensor? do, Tensor? dS, Tensor? dz) -> Tensor[]",
        )
        self.operator.register_fake(
            lambda problem, plan, keeps, *given: list(
                self._room(problem, plan, keeps, *given).values()
            )
        )
        self.gradients.register_fake(_like)
        self.operator.register_autograd(
            lambda ctx, cotangents: self._gradients(ctx, cotangents, self.gradients),
            setup_context=_remember,
        )

    def run(self, problem: Problem, inputs: Inputs, plan: str | None = None) -> Output:
        """By the plan chosen for the device, or by the one that is named."""
        S, z = (None, None) if inputs.state is None else inputs.state
        alpha, beta = (inputs.gates.get(name) for name in ("alpha", "beta"))
        given = Given(
            inputs.q, inputs.k, inputs.v, alpha, beta, inputs.projection, S, z, inputs.mask
        )
        keeps = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in given)
        named = str(problem), plan or self._plan_of(str(problem), str(inputs.v.device)), keeps
        if torch.compiler.is_compiling():
            results = self.operator(*named, *given)
        else:
            results = Eager.apply(self, *named, *given)  # type: ignore[no-untyped-call]
        got = dict(zip(self._names(*named), results, strict=True))
        return Output(got.get("o"), State(got["S"], got.get("z")) if problem.state_out else None)

    def _shapes(self, problem: str, plan: str, keeps: bool) -> Shapes:
        return self.kernels_of(plan).shapes(_problem(problem), keeps)

    def _room(self, problem: str, plan: str, keeps: bool, *given: Any) -> dict[str, Tensor]:
        like = Given(*given).v
        return {
            name: like.new_empty(shape, dtype=dtype)
            for name, (shape, dtype) in self.shapes(problem, plan, keeps).items()
        }

    def forward(self, problem: str, plan: str, keeps: bool, *given: Tensor | None) -> list[Tensor]:
        out = self._room(problem, plan, keeps, *given)
        given_ = Given(*map(contiguous, given, Given._fields))
        self._around(self.kernels_of(plan).forward, _problem(problem), given_, out, keeps=keeps)
        return list(out.values())

    def backward(self, problem: str, plan: str, *tensors: Any) -> list[Tensor]:
        """The gradients of those of DIFFERENTIABLE that there are, in this order."""
        *all_given, results, do, dS, dz = tensors
        given = Given(*map(contiguous, all_given, Given._fields))
        out = dict(zip(self.shapes(problem, plan, True), results, strict=True))
        cotangents = {"o": do, "S": dS, "z": dz}
        for name in cotangents.keys() & out.keys():
            if cotangents[name] is None:
                cotangents[name] = torch.zeros_like(out[name])
        launches = self.kernels_of(plan).backward
        gradients = self._around(
            launches, _problem(problem), given, out,
            *(contiguous(x, f"d{name}") for name, x in cotangents.items()), backward=True,
        )  # fmt: skip
        return [gradients[name] for name in _differentiable(given)]

    def _gradients(
        self, ctx: Any, cotangents: Sequence[Tensor | None], gradients_of: Any
    ) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        given, results = Given(*saved[: -ctx.results]), list(saved[-ctx.results :])
        of = dict(zip(self.shapes(*ctx.named, ctx.keeps), cotangents, strict=True))
        found = gradients_of(*ctx.named, *given, results, of.get("o"), of.get("S"), of.get("z"))
        gradients = dict(zip(_differentiable(given), found, strict=True))
        return None, None, None, *(gradients.get(name) for name in Given._fields)


def _differentiable(given: Given) -> list[str]:
    return [name for name in DIFFERENTIABLE if getattr(given, name) is not None]


def _like(problem: str, plan: str, *tensors: Any) -> list[Tensor]:
    given = Given(*tensors[: len(Given._fields)])
    like = (getattr(given, name) for name in _differentiable(given))
    return [x.new_empty(x.shape) for x in like]


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Sequence[Tensor]) -> None:
    problem, plan, keeps, *given = inputs
    ctx.named, ctx.keeps, ctx.results = (problem, plan), keeps, len(output)
    # What a backward pass does not ask for has no gradient, not one of zeros.
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*given, *output)


class Eager(torch.autograd.Function):
    """The same without torch's dispatcher."""

    @staticmethod
    def forward(
        ctx: Any, of: KernelOperator, problem: str, plan: str, keeps: bool, *given: Any
    ) -> tuple[Tensor, ...]:
        results = of.forward(problem, plan, keeps, *given)
        ctx.of = of
        _remember(ctx, (problem, plan, keeps, *given), results)
        return tuple(results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        return None, *ctx.of._gradients(ctx, cotangents, ctx.of.backward)


def parts(x: Tensor | None, number: int) -> Tensor | None:
    """Room for the parts of a gradient that blocks write; one part alone is the gradient itself."""
    if x is None:
        return None
    return x.new_empty(number, *x.shape, dtype=x.dtype if number == 1 else torch.float32)


def results(problem: Problem, keeps: bool, *, chunks: int, clips: bool = False) -> Shapes:
    """o, S and z; then, for the gradients, the state before every chunk and where fwm clipped."""
    p, divides = problem, normalizer(problem) != "none"
    found: Shapes = {}
    if p.reads:
        found["o"] = (p.B, p.tokens, p.H, p.V), p.torch_dtype
    numbers: dict[str, tuple[bool, tuple[int, ...]]] = {
        "S": (p.state_out, (p.B, p.H, p.D, p.V)),
        "z": (p.state_out and divides, (p.B, p.H, p.D)),
        "clips": (keeps and clips, (p.B, p.tokens, p.H)),
        "kept": (keeps, (p.B, p.H, chunks, p.D, p.V)),
        "kept_z": (keeps and divides, (p.B, p.H, chunks, p.D)),
    }
    return found | {name: (shape, torch.float32) for name, (is_, shape) in numbers.items() if is_}


def added(parts: Tensor | None, like: Tensor | None) -> Tensor | None:
    if parts is None or like is None:
        return None
    return parts[0] if len(parts) == 1 else parts.sum(0).to(like.dtype)


def gradients(
    given: Given, *, v: Tensor, S: Tensor | None, **parts: Tensor | None
) -> dict[str, Tensor | None]:
    """Those of v and S, which are whole, and of what blocks give parts of."""
    return {"v": v, "S": S} | {name: added(x, getattr(given, name)) for name, x in parts.items()}
