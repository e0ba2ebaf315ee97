"""Chunk-parallel PyTorch: quadratic inside a chunk, recurrent between chunks.

All chunks are prepared at once in large batched products; what remains sequential is one small
product a chunk (delta-type rules), one scaled addition (decays) or a running sum (sum). The
formulas are those of `fwpbench.operators.chunk_form`, with the delta rule's right-hand sides
solved for together: U = U₀ − W S with [U₀, W] = A diag(β) [V, diag(r∘γ) K]. Autograd keeps one
state a chunk, so memory grows with T, not with T·D·V. Softmax attention goes by blocks of queries.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from fwpbench.implementations._chunk_decay import Decay, FeatureDecay, HeadDecay, NoDecay
from fwpbench.implementations._softmax_blocks import softmax_in_blocks
from fwpbench.implementations.base import Implementation, Output
from fwpbench.operators.features import Prepared, masked, prepare
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.normalizations import EPSILON
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import Problem
from fwpbench.operators.state import State

CHUNK = 64


def cannot(problem: Problem) -> str | None:
    if problem.rule == "fwm":
        return "the norm clip of fwm makes every token wait for the one before it"
    if problem.rule not in RULES:
        return f"its chunk form covers {', '.join(RULES)}, not {problem.rule}"
    return None


RULES = ("sum", "decay", "gla", "gated", "delta", "gated-delta", "kda", "softmax-attention")


def run(problem: Problem, inputs: Inputs) -> Output:
    operator, prepared = problem.operator, prepare(problem, inputs)
    if operator.update_rule.keeps_tokens:
        o, state = softmax_in_blocks(problem, prepared, inputs.mask)
    elif operator.update_rule.order_free and (prepared.q is None or not problem.causal):
        o, state = _write_all_then_read(operator, masked(prepared, inputs.mask))
    else:
        o, state = _causal(operator, masked(prepared, inputs.mask))
    o = None if o is None else o.to(problem.torch_dtype)
    if not problem.state_out:
        return Output(o, None)
    return Output(o, State(state.S.to(problem.state_dtype), state.z))


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
        name: _in_chunks(gate, C, padding=1.0 if name == "alpha" else 0.0)
        for name, gate in prepared.gates.items()
    }
    decay = _decay(operator, gates)
    before = None
    if rule.corrects:
        before = None if z is None else _normalizers_before(k, z)
        starts, U, S = _correct(k, v, gates["beta"], decay, S, before)
    else:
        U = gates["beta"][..., None] * v if "beta" in gates else v
        starts, S = _accumulate(k, U, decay, S)
    o = None
    if q is not None:
        within = decay.scores(q, k).tril()
        o = torch.cat([decay.entering(q), within], dim=-1) @ torch.cat([starts, U], dim=-2)
        if z_is_column:
            o = o[..., :-1] / (o[..., -1:] + EPSILON)
        elif before is not None:
            # Only the delta rule comes here, which does not decay: these are the plain products.
            seen = within.sum(-1, keepdim=True) + q @ before[..., None]
            o = o / (seen + EPSILON)
        o = o.flatten(2, 3)[:, :, :T].transpose(1, 2)
    if z_is_column:
        return o, State(S[..., :-1], S[..., -1])
    return o, State(S, None if z is None else z + prepared.k.sum(1))


def _decay(operator: Operator, gates: dict[str, Tensor]) -> Decay:
    if operator.rule == "gated":
        return HeadDecay(1 - gates["beta"])
    per = operator.update_rule.gates.get("alpha")
    if per is None:
        return NoDecay()
    return FeatureDecay(gates["alpha"]) if per == "feature" else HeadDecay(gates["alpha"])


def _in_chunks(x: Tensor, C: int, padding: float = 0.0) -> Tensor:
    """[B T H …] to [B H N C …]; tokens that fill up the last chunk write nothing."""
    x = x.transpose(1, 2)
    if missing := -x.shape[2] % C:
        shape = list(x.shape)
        shape[2] = missing
        x = torch.cat([x, x.new_full(shape, padding)], dim=2)
    chunks: Tensor = x.unflatten(2, (-1, C))
    return chunks


def _normalizers_before(k: Tensor, z: Tensor) -> Float[Tensor, "B H N D"]:
    """z at the start of each chunk, where z is the sum of all keys."""
    sums = k.sum(-2).cumsum(2)
    return torch.cat([z[:, :, None], z[:, :, None] + sums[:, :, :-1]], dim=2)


def _accumulate(k: Tensor, U: Tensor, decay: Decay, S: Tensor) -> tuple[Tensor, Tensor]:
    """The state at the start of each chunk, [B H N D V], and after the last."""
    added = decay.leaving(k).mT @ U
    if isinstance(decay, NoDecay):
        states = torch.cat([S[:, :, None], added], dim=2).cumsum(2)
        return states[:, :, :-1], states[:, :, -1]
    starts = []
    for n in range(k.shape[2]):
        starts.append(S)
        S = decay.across(S, n) + added[:, :, n]
    return torch.stack(starts, dim=2), S


def _correct(
    k: Tensor, v: Tensor, beta: Tensor, decay: Decay, S: Tensor, z: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Delta-type rules: the states at the starts, what each token writes, and the last state."""
    gram, weight = decay.scores(k, k).tril(-1), beta[..., None]
    retrieved = weight
    if z is not None:
        seen = gram.sum(-1, keepdim=True) + k @ z[..., None]
        retrieved = weight / (seen + EPSILON)
    sides = torch.cat([weight * v, retrieved * decay.entering(k)], dim=-1)
    # unitriangular: only what lies below the diagonal is read, so no identity is added.
    solved = torch.linalg.solve_triangular(retrieved * gram, sides, upper=False, unitriangular=True)
    U0, W = solved.split([v.shape[-1], k.shape[-1]], dim=-1)
    leaving = decay.leaving(k).mT
    starts, written = [], []
    for n in range(k.shape[2]):
        starts.append(S)
        U = U0[:, :, n] - W[:, :, n] @ S
        S = decay.across(S, n) + leaving[:, :, n] @ U
        written.append(U)
    return torch.stack(starts, dim=2), torch.stack(written, dim=2), S


IMPLEMENTATION = Implementation(run, "chunk-parallel PyTorch", cannot=cannot)
