"""The call for people who build models: any operator, by any implementation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, overload

import torch
from torch import Tensor

from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations.base import Implementation
from fwpbench.operators.errors import UserError
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import DTYPES, Problem
from fwpbench.operators.registry import Unloadable
from fwpbench.operators.state import State

#: What tensors of a dtype are taken for: float32 is float32, because nobody asked for tf32.
STORED = {getattr(torch, DTYPES[name]): name for name in DTYPES if name != "tf32"}


@dataclass(frozen=True)
class Choice:
    """Which implementation `auto` takes, and why none of those before and after it in the order.

    `name` is None where every implementation refuses.
    """

    name: str | None
    refusals: Mapping[str, str]


def choose(problem: Problem, device: str = "cpu") -> Choice:
    """The first implementation, in the order of `IMPLEMENTATIONS`, that does not refuse.

    fwpbench.choose(fwpbench.Problem.parse("rule=delta phi=dpfp-1 norm=sum B=1 T=99 …"))
    """
    chosen, refusals = None, {}
    for name in IMPLEMENTATIONS:
        try:
            reason = IMPLEMENTATIONS[name].refuses(problem, device)
        except Unloadable as error:  # of a plugin
            reason = str(error)
        if reason is not None:
            refusals[name] = reason
        elif chosen is None:
            chosen = name
    return Choice(chosen, refusals)


@overload
def fast_weight_attention(
    q: Tensor | None,
    k: Tensor,
    v: Tensor,
    *,
    feature_map: str,
    update_rule: str,
    normalization: str,
    beta: Tensor | None = None,
    alpha: Tensor | None = None,
    projection: Tensor | None = None,
    mask: Tensor | None = None,
    causal: bool = True,
    initial_state: State | None = None,
    return_state: Literal[False] = False,
    implementation: str | Implementation = "auto",
) -> Tensor: ...


@overload
def fast_weight_attention(
    q: Tensor | None,
    k: Tensor,
    v: Tensor,
    *,
    feature_map: str,
    update_rule: str,
    normalization: str,
    beta: Tensor | None = None,
    alpha: Tensor | None = None,
    projection: Tensor | None = None,
    mask: Tensor | None = None,
    causal: bool = True,
    initial_state: State | None = None,
    return_state: Literal[True],
    implementation: str | Implementation = "auto",
) -> tuple[Tensor | None, State]: ...


def fast_weight_attention(
    q: Tensor | None,
    k: Tensor,
    v: Tensor,
    *,
    feature_map: str,
    update_rule: str,
    normalization: str,
    beta: Tensor | None = None,
    alpha: Tensor | None = None,
    projection: Tensor | None = None,
    mask: Tensor | None = None,
    causal: bool = True,
    initial_state: State | None = None,
    return_state: bool = False,
    implementation: str | Implementation = "auto",
) -> Tensor | tuple[Tensor | None, State]:
    """Write every (k, v) into fast weights and read them with every q.

    Args:
        q, k: [B, T, H, K]; v: [B, T, H, V]; fp64, fp32, bf16 or fp16, all alike. With `q=None` and
            `return_state=True` nothing is read: only the state is made.
        feature_map, update_rule, normalization: names, see `fwpbench list`.
        beta: [B, T, H], how much of a pair is written: in [0, 2] for delta, gated-delta and kda,
            in [0, 1] for gated and fwm. Needed by these rules, refused by the others.
        alpha: how much of the state stays, in [0, 1]: [B, T, H] for decay and gated-delta,
            [B, T, H, D] for gla and kda, D the width of the feature map.
        projection: [K, M] for favor-M, e.g. `orthogonal_projection(K, M, generator)`.
        mask: [B, T] of bool; a token that is False writes nothing, into z neither.
        causal: False lets every token read all (encoders; sum and softmax-attention only).
        initial_state: a `State(S, z)` that an earlier call returned.
        return_state: return `(o, State)` instead of o. S: [B, H, D, V] in float32.
        implementation: a name, "auto" for the first that can (see `choose`), or an
            `Implementation` that is in no table.

    Returns o: [B, T, H, V] in the dtype of v. Differentiable in every tensor but the mask.
    Raises UserError, naming the argument, what was expected and what came.

        o, state = fast_weight_attention(q, k, v, feature_map="elu+1", update_rule="sum",
                                         normalization="attention", return_state=True)
    """
    _check_values(q, k, v, return_state)
    operator = Operator(update_rule, feature_map, normalization)
    gates = {name: gate for name, gate in (("alpha", alpha), ("beta", beta)) if gate is not None}
    problem = Problem(
        rule=update_rule,
        phi=feature_map,
        norm=normalization,
        B=k.shape[0],
        T=k.shape[1],
        H=k.shape[2],
        K=k.shape[3],
        V=v.shape[3],
        dtype=STORED[k.dtype],
        direction="forward+backward" if _wants_gradients(q, k, v, *gates.values()) else "forward",
        state={(False, False): "none", (True, False): "in", (False, True): "out"}.get(
            (initial_state is not None, return_state), "in+out"
        ),
        causal=causal,
        masked=mask is not None,
        reads=q is not None,
    )
    _check_gates(operator, problem, gates, k)
    _check_rest(problem, projection, mask, initial_state, k)
    arithmetic = {name: gate.to(problem.arithmetic_dtype) for name, gate in gates.items()}
    inputs = Inputs(q, k, v, arithmetic, projection, initial_state, mask)
    output = _chosen(problem, implementation, k.device.type).run(problem, inputs)
    if return_state:
        assert output.state is not None
        return output.o, output.state
    assert output.o is not None
    return output.o


def _chosen(problem: Problem, asked: str | Implementation, device: str) -> Implementation:
    if asked != "auto":
        chosen = IMPLEMENTATIONS[asked] if isinstance(asked, str) else asked
        if (reason := chosen.refuses(problem, device)) is not None:
            name = repr(asked if isinstance(asked, str) else asked.summary)
            raise UserError(f"implementation={name} cannot do this: {reason} ({problem})")
        return chosen
    choice = choose(problem, device)
    if choice.name is None:
        reasons = "; ".join(f"{who}: {why}" for who, why in choice.refusals.items())
        raise UserError(f"no implementation can do {problem}: {reasons}")
    return IMPLEMENTATIONS[choice.name]


def _wants_gradients(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)


def _check_values(q: Tensor | None, k: Tensor, v: Tensor, return_state: bool) -> None:
    for name, x in (("k", k), ("q", q), ("v", v)):  # k first: the others are held against it
        if x is None and name == "q":
            continue
        if not isinstance(x, Tensor):
            raise UserError(f"{name} must be a tensor, got a {type(x).__name__}")
        if x.dim() != 4:
            size = "V" if name == "v" else "K"
            raise UserError(f"{name} must have the axes [B, T, H, {size}], got {list(x.shape)}")
        if x.dtype != k.dtype or x.device != k.device:
            raise UserError(
                f"q, k and v must be alike: k is {k.dtype} on {k.device}, "
                f"{name} is {x.dtype} on {x.device}"
            )
    if k.dtype not in STORED:
        known = ", ".join(DTYPES[name] for name in STORED.values())
        raise UserError(f"q, k and v must be {known}, got {k.dtype}")
    if 0 in k.shape or 0 in v.shape:
        raise UserError(
            f"there must be at least one of B, T, H, K and V; k is {list(k.shape)}, v "
            f"{list(v.shape)}" + (" (T = 0: a call without tokens)" if k.shape[1] == 0 else "")
        )
    if q is not None and q.shape != k.shape:
        raise UserError(f"q and k must have one shape, got {list(q.shape)} and {list(k.shape)}")
    if v.shape[:3] != k.shape[:3]:
        raise UserError(
            f"v must begin with the [B, T, H] of k, {list(k.shape[:3])}, got {list(v.shape)}"
        )
    if q is None and not return_state:
        raise UserError("with q=None nothing is read: ask for the state with return_state=True")


def _check_gates(
    operator: Operator, problem: Problem, gates: Mapping[str, Tensor], k: Tensor
) -> None:
    wanted = operator.update_rule.gates
    for name, per in wanted.items():
        shape = [*k.shape[:3]] + ([problem.D] if per == "feature" else [])
        axes = "[B, T, H, D]" if per == "feature" else "[B, T, H]"
        if name not in gates:
            raise UserError(f"{operator.rule} needs {name}: {axes} = {shape}")
        gate = gates[name]
        if list(gate.shape) != shape:
            raise UserError(f"{name} must be {axes} = {shape}, got {list(gate.shape)}")
        if not gate.is_floating_point() or gate.device != k.device:
            raise UserError(
                f"{name} must be floating point on {k.device}, got {gate.dtype} on {gate.device}"
            )
    for name in gates:
        if name not in wanted:
            takes = " and ".join(wanted) or "no gate"
            raise UserError(f"{operator.rule} takes {takes}: leave {name} out")


def _check_rest(
    problem: Problem,
    projection: Tensor | None,
    mask: Tensor | None,
    state: State | None,
    k: Tensor,
) -> None:
    M = problem.operator.feature_map.projection_columns
    if M is None and projection is not None:
        raise UserError(f"{problem.phi} takes no projection: leave it out")
    if M is not None and (projection is None or list(projection.shape) != [problem.K, M]):
        got = "none" if projection is None else str(list(projection.shape))
        raise UserError(
            f"{problem.phi} needs a projection [K, M] = [{problem.K}, {M}], got {got}; make one "
            "with fwpbench.orthogonal_projection(K, M, generator)"
        )
    if mask is not None and (
        list(mask.shape) != [problem.B, problem.T] or mask.dtype != torch.bool
    ):
        raise UserError(
            f"mask must be bool [B, T] = [{problem.B}, {problem.T}], got {mask.dtype} "
            f"{list(mask.shape)}"
        )
    if state is not None:
        _check_state(problem, state)
    for name, x in (("projection", projection), ("mask", mask), ("initial_state", state)):
        tensor = x.S if isinstance(x, State) else x
        if tensor is not None and tensor.device != k.device:
            raise UserError(f"{name} must be on {k.device} like k, got {tensor.device}")


def _check_state(problem: Problem, state: State) -> None:
    if not isinstance(state, State):
        raise UserError(f"initial_state must be a fwpbench.State(S, z), got {type(state).__name__}")
    B, H, D, K, V = problem.B, problem.H, problem.D, problem.K, problem.V
    S, z = state
    if problem.operator.update_rule.keeps_tokens:
        if S.dim() != 4 or [*S.shape[:2], S.shape[3]] != [B, H, K + V]:
            raise UserError(
                f"S must be [B, H, tokens, K + V] = [{B}, {H}, …, {K + V}], got {list(S.shape)}"
            )
    elif list(S.shape) != [B, H, D, V]:
        raise UserError(f"S must be [B, H, D, V] = {[B, H, D, V]}, got {list(S.shape)}")
    if problem.operator.divides and (z is None or list(z.shape) != [B, H, D]):
        got = "none" if z is None else str(list(z.shape))
        raise UserError(f"norm={problem.norm} needs z: [B, H, D] = {[B, H, D]}, got {got}")
    if not problem.operator.divides and z is not None:
        raise UserError(f"norm={problem.norm} has no z: pass State(S)")
