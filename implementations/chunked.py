"""Chunk-parallel PyTorch: quadratic inside a chunk, recurrent between chunks.

All chunks are prepared at once in large batched products; what remains sequential is one small
product a chunk (delta-type rules), one scaled addition (decays) or a running sum (sum). The
formulas are those of `fwpbench.operators.chunk_form`, with the delta rule's right-hand sides
solved for together: U = U₀ − W S with [U₀, W] = A diag(β) [V, diag(r∘γ) K]. Autograd keeps one
state a chunk, so memory grows with T, not with T·D·V.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from fwpbench.implementations.base import Implementation, Output
from fwpbench.operators.features import Prepared, masked, prepare
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.normalizations import EPSILON
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import Problem
from fwpbench.operators.segment_products import segment_products
from fwpbench.operators.state import State

RULES = ("sum", "decay", "gated", "delta", "gated-delta")
CHUNK = 64


def cannot(problem: Problem) -> str | None:
    if problem.rule in RULES:
        return None
    if problem.rule == "fwm":
        return "the norm clip of fwm makes every token wait for the one before it"
    return f"its chunk form covers {', '.join(RULES)}, not {problem.rule}"


def run(problem: Problem, inputs: Inputs) -> Output:
    operator = problem.operator
    prepared = masked(prepare(problem, inputs), inputs.mask)
    if operator.rule == "sum" and (prepared.q is None or not problem.causal):
        o, state = _write_all_then_read(operator, prepared)
    else:
        o, state = _causal(operator, prepared)
    o = None if o is None else o.to(problem.torch_dtype)
    return Output(o, state if problem.state_out else None)


def _write_all_then_read(operator: Operator, prepared: Prepared) -> tuple[Tensor | None, State]:
    """One product writes every token; every query reads the same state."""
    q, k, v, _, (S, z) = prepared
    S = S + torch.einsum("bthd,bthv->bhdv", k, v)
    z = None if z is None else z + k.sum(1)
    if q is None:
        return None, State(S, z)
    o = torch.einsum("bthd,bhdv->bthv", q, S)
    if z is not None:
        o = o / (torch.einsum("bthd,bhd->bth", q, z)[..., None] + EPSILON)
    return o, State(S, z)


def _causal(operator: Operator, prepared: Prepared) -> tuple[Tensor | None, State]:
    rule, (S, z) = operator.update_rule, prepared.state
    T = prepared.k.shape[1]
    C = min(CHUNK, T)
    v_in = prepared.v
    z_is_column = z is not None and rule.normalizer == "same-law"
    if z_is_column:
        v_in, S = F.pad(v_in, (0, 1), value=1.0), torch.cat([S, z[..., None]], dim=-1)  # type: ignore[index]
    k, v = _in_chunks(prepared.k, C), _in_chunks(v_in, C)
    q = None if prepared.q is None else _in_chunks(prepared.q, C)
    gates = {
        name: _in_chunks(gate[..., None], C, padding=1.0 if name == "alpha" else 0.0)[..., 0]
        for name, gate in prepared.gates.items()
    }
    alpha = 1 - gates["beta"] if operator.rule == "gated" else gates.get("alpha")
    P = None if alpha is None else segment_products(alpha)
    if rule.corrects:
        before = None if z is None else _normalizers_before(k, z)
        starts, U, S = _correct(k, v, gates["beta"], P, S, before)
    else:
        before = None
        U = v if "beta" not in gates else gates["beta"][..., None] * v
        starts, S = _accumulate(k, U, P, S, rule.order_free)
    o = None
    if q is not None:
        scores = q @ k.mT
        within = scores.tril() if P is None else scores * P[..., 1:, 1:]
        entering = q if P is None else P[..., 1:, :1] * q
        o = torch.cat([entering, within], dim=-1) @ torch.cat([starts, U], dim=-2)
        if z_is_column:
            o = o[..., :-1] / (o[..., -1:] + EPSILON)
        elif before is not None:
            seen = scores.tril().sum(-1, keepdim=True) + q @ before[..., None]
            o = o / (seen + EPSILON)
        o = o.flatten(2, 3)[:, :, :T].transpose(1, 2)
    if z_is_column:
        return o, State(S[..., :-1], S[..., -1])
    return o, State(S, None if z is None else z + prepared.k.sum(1))


def _in_chunks(
    x: Float[Tensor, "B T H X"], C: int, padding: float = 0.0
) -> Float[Tensor, "B H N {C} X"]:
    """Heads before tokens, tokens in chunks of C; tokens that fill up the last write nothing."""
    x = x.transpose(1, 2)
    missing = -x.shape[2] % C
    if missing:
        x = F.pad(x, (0, 0, 0, missing), value=padding)
    chunks: Tensor = x.unflatten(2, (-1, C))
    return chunks


def _normalizers_before(k: Tensor, z: Tensor) -> Float[Tensor, "B H N D"]:
    """z at the start of each chunk, where z is the sum of all keys."""
    sums = k.sum(-2).cumsum(2)
    return torch.cat([z[:, :, None], z[:, :, None] + sums[:, :, :-1]], dim=2)


def _accumulate(
    k: Tensor, U: Tensor, P: Tensor | None, S: Tensor, order_free: bool
) -> tuple[Tensor, Tensor]:
    """The state at the start of each chunk, [B H N D V], and after the last."""
    if P is None:
        states = torch.cat([S[:, :, None], k.mT @ U], dim=2).cumsum(2)
        return states[:, :, :-1], states[:, :, -1]
    added, across = (P[..., -1, 1:, None] * k).mT @ U, P[..., -1:, :1]
    starts = []
    for n in range(k.shape[2]):
        starts.append(S)
        S = across[:, :, n] * S + added[:, :, n]
    return torch.stack(starts, dim=2), S


def _correct(
    k: Tensor, v: Tensor, beta: Tensor, P: Tensor | None, S: Tensor, z: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Delta-type rules: the states at the starts, what each token writes, and the last state."""
    gram, weight = k @ k.mT, beta[..., None]
    retrieved = weight
    if z is not None:
        seen = gram.tril(-1).sum(-1, keepdim=True) + k @ z[..., None]
        retrieved = weight / (seen + EPSILON)
    if P is not None:
        gram = gram * P[..., 1:, 1:]
    entering = k if P is None else P[..., 1:, :1] * k
    sides = torch.cat([weight * v, retrieved * entering], dim=-1)
    # unitriangular: only what lies below the diagonal is read, so no identity is added.
    solved = torch.linalg.solve_triangular(
        (retrieved * gram).tril(-1), sides, upper=False, unitriangular=True
    )
    U0, W = solved.split([v.shape[-1], k.shape[-1]], dim=-1)
    leaving = (k if P is None else P[..., -1, 1:, None] * k).mT
    starts, written = [], []
    for n in range(k.shape[2]):
        starts.append(S)
        U = U0[:, :, n] - W[:, :, n] @ S
        S = (S if P is None else P[:, :, n, -1:, :1] * S) + leaving[:, :, n] @ U
        written.append(U)
    return torch.stack(starts, dim=2), torch.stack(written, dim=2), S


IMPLEMENTATION = Implementation(run, "chunk-parallel PyTorch", cannot=cannot)
