"""Whether an implementation is right: every tensor against the golden, by the yardstick.

For each tensor with golden g, yardstick error e and u the unit round-off of its dtype:
    rms(candidate − g) ≤ 3 e + u · rms(g)
    worst row: ‖error row‖ / (‖golden row‖ + rms row norm) ≤ 3 · (the yardstick's worst) + u
No √length, no hand-picked tolerance. The errors are recorded, not only the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from fwpbench.harness.golden import Run, Tensors, Truth, named, tensors_of
from fwpbench.harness.poison import Poisoned, dirty
from fwpbench.implementations.base import Output
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.problem import Problem
from fwpbench.operators.state import State

YARDSTICKS = 3.0
ILL_CONDITIONED = 0.05


@dataclass(frozen=True)
class Comparison:
    """One tensor. `ratio` is the error as a fraction of what is allowed, the larger of both rules.

    `yardstick` and `error` are root mean squares, in the units of the tensor; the worst rows are
    fractions. `verdict` is right, wrong, not-finite or non-discriminating (something trivial, or
    anything at all, would pass: no evidence).
    """

    error: float
    yardstick: float
    allowed: float
    golden_rms: float
    worst_row: float
    worst_row_allowed: float
    ratio: float
    verdict: str
    #: The tokens, counted from 0, whose rows alone are beyond what is allowed of a row: the first
    #: and the last. None where there is none, or the tensor has no tokens.
    first_token: int | None = None
    last_token: int | None = None

    def as_json(self) -> dict[str, object]:
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Agreement:
    """`status` is one of the statuses; `evidence` is false where trivial outputs would pass."""

    status: str
    reason: str
    comparisons: dict[str, Comparison]
    evidence: bool = True

    @property
    def worst_ratio(self) -> float | None:
        ratios = [c.ratio for c in self.comparisons.values() if c.verdict != "non-discriminating"]
        return max(ratios, default=None)

    def as_json(self) -> dict[str, dict[str, object]]:
        return {name: comparison.as_json() for name, comparison in self.comparisons.items()}


class _WrongFormError(Exception):
    """What was returned has another shape, dtype or device than asked for."""


def ill_conditioned(truth: Truth) -> str | None:
    """Why nobody can be judged by this case, or None: the reference itself errs too much.

    Decided from golden and yardstick alone, so alike for every implementation.
    """
    for name, golden in truth.golden.items():
        if not golden.isfinite().all():
            return f"ill-conditioned ({name} of the float64 law is not finite)"
        error, size = yardstick_of(truth, name)[0], rms(golden)
        if not math.isfinite(error):
            return f"ill-conditioned ({name} of the reference in this dtype is not finite)"
        if error > ILL_CONDITIONED * size and not vanishes(truth, name):
            return f"ill-conditioned (the reference errs {100 * error / size:.0f} % in {name})"
    return None


def check(run: Run, problem: Problem, truth: Truth, device: str = "cpu") -> Agreement:
    """Judge `run` on the truth's inputs. Exceptions of `run` are the caller's.

    It gets inputs of its own, memory that nobody wrote to holds NaN while it runs, and its inputs
    are compared with the truth's, number by number, when it is done.
    """
    if (reason := ill_conditioned(truth)) is not None:
        return Agreement("unsupported", reason, {}, evidence=False)
    inputs = copied(truth.inputs, device)
    cotangents = {name: tensor.to(device) for name, tensor in truth.cotangents.items()}
    wanted = {name: truth.yardsticks[0][name] for name in _expected(problem, truth)}
    outputs = {name: like for name, like in wanted.items() if not name.startswith("d")}

    given = inputs

    def run_in_form(problem: Problem, inputs: Inputs) -> Output:
        """Looked at before autograd does, whose complaint would be its own."""
        nonlocal given
        given = inputs
        with Poisoned():
            output = run(problem, inputs)
        if (complaint := wrong_form(named(output), outputs, device)) is not None:
            raise _WrongFormError(complaint)
        return output

    dirty(wanted.values(), device)
    misshapen = None
    try:
        got = tensors_of(run_in_form, problem, inputs, cotangents)
    except _WrongFormError as error:
        misshapen = str(error)
    if changed := modified(given, truth.inputs):
        return Agreement("input-modified", f"the call changed {' and '.join(changed)}", {})
    if misshapen is not None:
        return Agreement("incorrect", misshapen, {})
    if (complaint := wrong_form(got, wanted, device)) is not None:
        return Agreement("incorrect", complaint, {})
    comparisons = {name: compare(truth, name, got[name].to("cpu")) for name in wanted}
    evidence = comparisons["o" if "o" in comparisons else "S"].verdict != "non-discriminating"
    return Agreement(*_summarized(comparisons), comparisons, evidence)


def compare(truth: Truth, name: str, got: Tensor) -> Comparison:
    golden = truth.golden[name]
    u = torch.finfo(got.dtype).eps / 2
    yardstick, yardstick_row = yardstick_of(truth, name)
    allowed = YARDSTICKS * yardstick + u * rms(golden)
    allowed_row = YARDSTICKS * yardstick_row + u
    rows = row_errors(got, golden)
    error, row = rms(got.double() - golden), float(rows.max())
    ratio = max(_fraction(error, allowed), _fraction(row, allowed_row))
    if not got.isfinite().all():
        verdict = "not-finite"
    elif ratio > 1:
        verdict = "wrong"
    elif vanishes(truth, name) or any(
        _passes(trivial, golden, allowed, allowed_row) for trivial in _trivial(truth, name)
    ):
        verdict = "non-discriminating"
    else:
        verdict = "right"
    tokens = _wrong_tokens(name, rows, allowed_row) if verdict in ("wrong", "not-finite") else ()
    return Comparison(
        error, yardstick, allowed, rms(golden), row, allowed_row, ratio, verdict, *tokens
    )


def vanishes(truth: Truth, name: str) -> bool:
    """Whether the golden is 0, or nothing but what float64 leaves where the truth is 0."""
    golden = truth.golden[name]
    others = [rms(tensor) for tensor in truth.golden.values()]
    return rms(golden) <= 2.0**-40 * max(others, default=0.0)


def _expected(problem: Problem, truth: Truth) -> list[str]:
    """A forward problem may be judged by the truth found with gradients."""
    return [name for name in truth.golden if problem.backward or not name.startswith("d")]


def yardstick_of(truth: Truth, name: str) -> tuple[float, float]:
    if name not in truth.errors:
        golden = truth.golden[name]
        errors = [_errors(yardstick[name], golden) for yardstick in truth.yardsticks]
        truth.errors[name] = (_worst(rms for rms, _ in errors), _worst(row for _, row in errors))
    return truth.errors[name]


def _worst(values: object) -> float:
    listed = list(values)  # type: ignore[call-overload]
    return math.nan if any(math.isnan(value) for value in listed) else max(listed)


def row_errors(got: Tensor, golden: Tensor) -> Tensor:
    """‖error row‖ / (‖golden row‖ + rms row norm) for every row along the last axis."""
    error = (got.double() - golden).norm(dim=-1)
    norms = golden.norm(dim=-1)
    scale = norms + norms.square().mean().sqrt()
    return torch.where(scale > 0, error / scale, error)


def _errors(got: Tensor, golden: Tensor) -> tuple[float, float]:
    """The root mean square, and the worst row along the last axis as a fraction."""
    return rms(got.double() - golden), float(row_errors(got, golden).max())


#: Tensors without an axis of tokens.
STATES = ("S", "z", "dS0", "dz0")


def _wrong_tokens(name: str, rows: Tensor, allowed_row: float) -> tuple[int | None, int | None]:
    if name in STATES:
        return None, None
    bad = ~(rows <= allowed_row)  # NaN is bad
    tokens = bad.movedim(1, 0).flatten(1).any(1).nonzero().flatten().tolist()
    return (tokens[0], tokens[-1]) if tokens else (None, None)


def rms(x: Tensor) -> float:
    return float(x.double().square().mean().sqrt())


def _fraction(error: float, allowed: float) -> float:
    if math.isnan(error):
        return math.inf
    return error / allowed if allowed > 0 else (math.inf if error > 0 else 0.0)


def _trivial(truth: Truth, name: str) -> list[Tensor]:
    """Outputs that took no thought: zeros, the mean, and a copy of v for o."""
    golden = truth.golden[name]
    mean = golden.mean(dim=tuple(range(golden.dim() - 1)), keepdim=True).expand_as(golden)
    trivial = [torch.zeros_like(golden), mean]
    if name == "o":
        trivial.append(truth.inputs.v.double())
    return trivial


def _passes(got: Tensor, golden: Tensor, allowed: float, allowed_row: float) -> bool:
    error, row = _errors(got, golden)
    return error <= allowed and row <= allowed_row


def wrong_form(got: Tensors, wanted: Tensors, device: str) -> str | None:
    """What is no plain tensor of the shape, dtype and device that `wanted` has; None if all is."""
    for name, like in wanted.items():
        if name not in got:
            return f"{name} was not returned"
        tensor = got[name]
        if type(tensor) is not Tensor:
            return f"{name} is a {type(tensor).__name__}, not a plain tensor"
        if tensor.layout is not torch.strided:
            return f"{name} has the layout {tensor.layout}, expected torch.strided"
        if tensor.shape != like.shape:
            return f"{name} has the shape {list(tensor.shape)}, expected {list(like.shape)}"
        if tensor.dtype != like.dtype:
            return f"{name} is {tensor.dtype}, expected {like.dtype}"
        if tensor.device.type != device:
            return f"{name} is on {tensor.device.type}, expected {device}"
        # Gradients are autograd's, which may expand them by itself.
        if not name.startswith("d") and (complaint := _not_in_memory(tensor)) is not None:
            return f"{name} {complaint}"
    if extra := [name for name in got if name not in wanted]:
        return f"{', '.join(extra)} was returned though the problem does not ask for it"
    return None


def _not_in_memory(tensor: Tensor) -> str | None:
    """Why not every number of it stands in memory, in a place of its own; None where it does.

    A slice or a transposition of a larger block is fine: its numbers were computed.
    """
    if tensor.is_conj() or tensor.is_neg():
        return "is lazy: its sign or conjugate is not computed yet"
    end = 1  # one past the last number that the axes so far reach
    axes = zip(tensor.stride(), tensor.shape, strict=True)
    for stride, size in sorted((stride, size) for stride, size in axes if size > 1):
        if stride < end:
            return f"is expanded: strides {tensor.stride()} share memory between its numbers"
        end += stride * (size - 1)
    held = tensor.untyped_storage().nbytes() // tensor.element_size() - tensor.storage_offset()
    return f"has memory for {held} of its {end} numbers" if held < end else None


def _summarized(comparisons: Mapping[str, Comparison]) -> tuple[str, str]:
    for verdict, status in (("not-finite", "not-finite"), ("wrong", "incorrect")):
        bad = {name: c for name, c in comparisons.items() if c.verdict == verdict}
        if bad:
            name = max(bad, key=lambda name: bad[name].ratio)
            if verdict == "not-finite":
                return status, f"{', '.join(bad)}: NaN or infinity where the golden is finite"
            worst = bad[name].ratio
            return status, f"{', '.join(bad)}: {name} errs {worst:.3g} times what is allowed"
    return "ok", ""


def copied(inputs: Inputs, device: str) -> Inputs:
    """The same inputs in memory of their own: the truth must survive whoever is judged by it."""

    def copy(x: Tensor | None) -> Any:
        return None if x is None else x.detach().to(device, copy=True)

    state = inputs.state
    return Inputs(
        copy(inputs.q),
        copy(inputs.k),
        copy(inputs.v),
        {name: copy(gate) for name, gate in inputs.gates.items()},
        copy(inputs.projection),
        None if state is None else State(copy(state.S), copy(state.z)),
        copy(inputs.mask),
    )


def modified(after: Inputs, before: Inputs) -> list[str]:
    """Which inputs are not what they were, number by number."""
    return [
        name
        for name, tensor in named_inputs(before).items()
        if not torch.equal(named_inputs(after)[name].detach().to(tensor.device), tensor)
    ]


def named_inputs(inputs: Inputs) -> Tensors:
    state = inputs.state
    listed = {"q": inputs.q, "k": inputs.k, "v": inputs.v, **inputs.gates}
    listed |= {"projection": inputs.projection, "mask": inputs.mask}
    if state is not None:
        listed |= {"S0": state.S, "z0": state.z}
    return {name: tensor for name, tensor in listed.items() if tensor is not None}
