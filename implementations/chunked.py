"""Chunk-parallel PyTorch: quadratic inside a chunk, recurrent between chunks.

The formulas are those of `fwpbench.operators.chunk_form`. All chunks are prepared at once in large
batched products, the delta rule's A too; what remains sequential is one addition a chunk, or three
small products (delta-type rules). Autograd keeps one state a chunk, so memory grows with T, not
with T·D·V. Softmax attention goes by blocks of queries.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from fwpbench.implementations._chunk_decay import (
    Decayed,
    decayed_by_feature,
    decayed_by_head,
    without_decay,
)
from fwpbench.implementations._softmax_blocks import softmax_in_blocks
from fwpbench.implementations.base import Implementation, Output
from fwpbench.operators.features import Prepared, masked, prepare
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.normalizations import EPSILON
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import Problem
from fwpbench.operators.state import State


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
        o, state = _causal(problem, masked(prepared, inputs.mask))
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


def _causal(problem: Problem, prepared: Prepared) -> tuple[Tensor | None, State]:
    operator, rule = problem.operator, problem.operator.update_rule
    (B, T, H), C = prepared.k.shape[:3], chunk_size(problem)
    v_in, (S, z) = prepared.v, prepared.state
    z_is_column = z is not None and rule.normalizer == "same-law"
    if z_is_column:
        v_in, S = F.pad(v_in, (0, 1), value=1.0), torch.cat([S, z[..., None]], dim=-1)  # type: ignore[index]
    k, v, S = _in_chunks(prepared.k, C), _in_chunks(v_in, C), S.flatten(0, 1)
    gates = {
        name: _in_chunks(gate, C, padding=1.0 if name == "alpha" else 0.0)
        for name, gate in prepared.gates.items()
    }
    readers = [k] if rule.corrects else []
    if prepared.q is not None:
        readers.append(_in_chunks(prepared.q, C))
    decayed = _decay(operator, gates, readers, k)
    before = None
    if rule.corrects:
        before = None if z is None else _normalizers_before(k, z.flatten(0, 1))
        starts, U, S = _correct(k, v, gates["beta"], decayed, S, before)
    else:
        U = gates["beta"][..., None] * v if "beta" in gates else v
        starts, S = _accumulate(U, decayed, S)
    o = None
    if prepared.q is not None:
        within, entering, S_before = (
            decayed.scores[-1],
            decayed.entering[-1],
            torch.stack(starts, 1),
        )
        # baddbmm, which knows one batch axis only, saves a pass over o: 4 % at K = V = 16.
        o = torch.baddbmm(*(x.flatten(0, 1) for x in (within @ U, entering, S_before)))
        o = o.unflatten(0, within.shape[:2])
        if z_is_column:
            o = o[..., :-1] / (o[..., -1:] + EPSILON)
        elif before is not None:
            # Only the delta rule comes here, which does not decay: these are the plain products.
            seen = within.sum(-1, keepdim=True) + readers[-1] @ before[..., None]
            o = o / (seen + EPSILON)
        o = o.flatten(1, 2)[:, :T].unflatten(0, (B, H)).transpose(1, 2)
    S = S.unflatten(0, (B, H))
    if z_is_column:
        return o, State(S[..., :-1], S[..., -1])
    return o, State(S, None if z is None else z + prepared.k.sum(1))


def chunk_size(problem: Problem) -> int:
    """Half the smaller of D and V, from 16 to 64; for few tokens no more than holds them.

    A token costs C (D + V) for the pairs of its chunk, and D V and a C-th of a state in memory for
    what lies before. In trials with C = 8 to 128 the best was at most 13 % faster than this choice
    (forward and backward, D and V from 16 to 256, one core: docs/performance.md). Always a power
    of two, for `decayed_by_feature`.
    """
    half = min(max(min(problem.D, problem.V) // 2, 16), 64)
    return min(1 << half.bit_length() - 1, 1 << (problem.tokens - 1).bit_length())


def _decay(
    operator: Operator, gates: dict[str, Tensor], readers: list[Tensor], k: Tensor
) -> Decayed:
    if operator.rule == "gated":
        return decayed_by_head(1 - gates["beta"], readers, k)
    per = operator.update_rule.gates.get("alpha")
    if per is None:
        return without_decay(readers, k)
    decayed = decayed_by_feature if per == "feature" else decayed_by_head
    return decayed(gates["alpha"], readers, k)


def _in_chunks(x: Tensor, C: int, padding: float = 0.0) -> Tensor:
    """[B T H …] to [G N C …]; tokens that fill up the last chunk write nothing."""
    x = x.transpose(1, 2).flatten(0, 1)
    if missing := -x.shape[1] % C:
        x = torch.cat([x, x.new_full((x.shape[0], missing, *x.shape[2:]), padding)], dim=1)
    # Copied once here, or every product would copy it again.
    chunks: Tensor = x.unflatten(1, (-1, C)).contiguous()
    return chunks


def _normalizers_before(k: Tensor, z: Tensor) -> Float[Tensor, "G N D"]:
    """z at the start of each chunk, where z is the sum of all keys."""
    sums = k.sum(-2).cumsum(1)
    return torch.cat([z[:, None], z[:, None] + sums[:, :-1]], dim=1)


def _accumulate(U: Tensor, decayed: Decayed, S: Tensor) -> tuple[list[Tensor], Tensor]:
    """The state at the start of each chunk, [G D V], and after the last."""
    starts = []
    # Not `[:, n]` in the loop: the gradient of each such piece is as large as the whole. And not
    # cumsum where nothing decays: along this axis it took 1.8 ms of 22.
    for n, added in enumerate((decayed.leaving.mT @ U).unbind(1)):
        starts.append(S)
        S = decayed.across(S, n) + added
    return starts, S


def _correct(
    k: Tensor, v: Tensor, beta: Tensor, decayed: Decayed, S: Tensor, z: Tensor | None
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Delta-type rules: the states at the starts, what each token writes, and the last state."""
    gram, weight = decayed.scores[0], beta[..., None]
    retrieved = weight
    if z is not None:
        seen = gram.tril(-1).sum(-1, keepdim=True) + k @ z[..., None]
        retrieved = weight / (seen + EPSILON)
    one = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device).expand_as(gram)
    # unitriangular: only what lies below the diagonal is read. The inverse, because products with
    # it are far faster than solving for right-hand sides as wide as D and V.
    A = torch.linalg.solve_triangular(retrieved * gram, one, upper=False, unitriangular=True)
    found_by = retrieved * decayed.entering[0]
    starts, written = [], []
    pieces = (x.unbind(1) for x in (A, weight * v, found_by, decayed.leaving.mT))
    for n, (a, values, keys, leaving) in enumerate(zip(*pieces, strict=True)):
        starts.append(S)
        u = a @ torch.baddbmm(values, keys, S, alpha=-1)
        S = torch.baddbmm(decayed.across(S, n), leaving, u)
        written.append(u)
    return starts, torch.stack(written, dim=1), S


IMPLEMENTATION = Implementation(run, "chunk-parallel PyTorch", cannot=cannot)
