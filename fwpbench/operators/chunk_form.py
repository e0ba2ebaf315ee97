"""The plain chunk form of every operator: the second golden, and the yardstick of rounding.

Per chunk that starts from state S, with γ the decay since the chunk began and Γ that between two
tokens (Yang et al. 2024b, section 3; for the delta rule with attention see docs/decisions.md):
    A = (I + tril(diag(β∘r) (Γ∘KKᵀ), −1))⁻¹          sum-type rules: A = I, U = V
    U = A diag(β) (V − diag(r∘γ) K S)
    O = diag(γ) Q S + tril(Γ∘QKᵀ) U                    S ← γ_C S + (Γ_C∘K)ᵀ U
Written for reading, one chunk after the other; `matmul` is a parameter, so that a caller can round
its operands as a kernel of low precision does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from fwpbench.operators.features import masked, prepare
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.normalizations import EPSILON
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import Problem
from fwpbench.operators.segment_products import segment_products
from fwpbench.operators.state import State

Matmul = Callable[[Tensor, Tensor], Tensor]


class Chunk(NamedTuple):
    """A stretch of C tokens, heads before tokens; q and k are φ(q) and φ(k), normalised."""

    q: Float[Tensor, "B H C D"]
    k: Float[Tensor, "B H C D"]
    v: Float[Tensor, "B H C V"]
    gates: dict[str, Tensor]


def chunk_form(
    problem: Problem, inputs: Inputs, *, chunk: int = 64, matmul: Matmul = torch.matmul
) -> tuple[Tensor, State]:
    """o and the state after the last token, for causal problems that read."""
    prepared = masked(prepare(problem, inputs), inputs.mask)
    step = FORMS[problem.rule]
    state, outputs = prepared.state, []
    for piece in _chunks(prepared.q, prepared.k, prepared.v, prepared.gates, chunk):
        o, state = step(problem.operator, piece, state, matmul)
        outputs.append(o)
    o = torch.cat(outputs, dim=2).transpose(1, 2).to(problem.torch_dtype)
    return o, State(state.S.to(problem.state_dtype), state.z)


def _chunks(
    q: Tensor | None, k: Tensor, v: Tensor, gates: dict[str, Tensor], size: int
) -> Iterator[Chunk]:
    assert q is not None, "the plain chunk form reads"
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    turned = {name: gate.transpose(1, 2) for name, gate in gates.items()}
    for start in range(0, k.shape[2], size):
        at = slice(start, start + size)
        inside = {name: gate[:, :, at] for name, gate in turned.items()}
        yield Chunk(q[:, :, at], k[:, :, at], v[:, :, at], inside)


class _Decay(NamedTuple):
    """`since` [B H C 1|D], `left` the same to the chunk's end, `across` [B H 1|D 1]."""

    between: Tensor  # [B H C C] per head, [B H D C C] per feature
    since: Tensor
    left: Tensor
    across: Tensor


def _decay(chunk: Chunk, operator: Operator) -> _Decay:
    gate = operator.update_rule.gates.get("alpha")
    if gate == "feature":
        P = segment_products(chunk.gates["alpha"].transpose(-1, -2))
        return _Decay(P[..., 1:, 1:], P[..., 1:, 0].mT, P[..., -1, 1:].mT, P[..., -1, 0][..., None])
    if gate == "head":
        alpha = chunk.gates["alpha"]
    elif operator.rule == "gated":
        alpha = 1 - chunk.gates["beta"]
    else:
        alpha = torch.ones_like(chunk.k[..., 0])
    P = segment_products(alpha)
    return _Decay(P[..., 1:, 1:], P[..., 1:, :1], P[..., -1, 1:, None], P[..., -1:, :1])


def _scores(a: Tensor, b: Tensor, decay: _Decay, matmul: Matmul) -> Tensor:
    """a_i·b_j, decayed from j to i."""
    if decay.between.dim() == a.dim():
        return matmul(a, b.mT) * decay.between
    # Per feature: one small product [1 × D] by [D × 1] for every pair of tokens.
    decayed = decay.between.movedim(2, -1) * b[:, :, None, :, :]
    return matmul(decayed, a[..., :, :, None])[..., 0]


def _linear(operator: Operator, chunk: Chunk, state: State, matmul: Matmul) -> tuple[Tensor, State]:
    q, k, v, gates = chunk
    S, z = state
    rule, decay = operator.update_rule, _decay(chunk, operator)
    if z is not None and rule.normalizer == "same-law":
        v, S = F.pad(v, (0, 1), value=1.0), torch.cat([S, z[..., None]], dim=-1)
    U = v
    if rule.corrects:
        # What a token retrieves: divided by z·k where the normalisation says so.
        retrieval = torch.ones_like(k[..., :1])
        if z is not None:
            retrieval = 1 / (_normalizer(k, k, z, strict=True) + EPSILON)
        beta = gates["beta"][..., None]
        gram = _scores(k, k, decay, matmul).tril(-1)
        one = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device).expand_as(gram)
        A = torch.linalg.solve_triangular(one + beta * retrieval * gram, one, upper=False)
        U = matmul(A, beta * (v - retrieval * matmul(decay.since * k, S)))
    elif "beta" in gates:
        U = gates["beta"][..., None] * v
    o = matmul(decay.since * q, S) + matmul(_scores(q, k, decay, matmul).tril(), U)
    S = decay.across * S + matmul((decay.left * k).mT, U)
    if z is None:
        return o, State(S)
    if rule.normalizer == "same-law":
        return o[..., :-1] / (o[..., -1:] + EPSILON), State(S[..., :-1], S[..., -1])
    return o / (_normalizer(q, k, z, strict=False) + EPSILON), State(S, z + k.sum(-2))


def _normalizer(x: Tensor, k: Tensor, z: Tensor, *, strict: bool) -> Tensor:
    """z_i·x_i, or z_{i−1}·x_i where strict: z before the chunk plus the keys so far. [B H C 1]

    Exact products: z is kept in full precision by every serious kernel.
    """
    inside = torch.matmul(x, k.mT).tril(-1 if strict else 0).sum(-1, keepdim=True)
    return inside + torch.matmul(x, z[..., None])


def _softmax(
    operator: Operator, chunk: Chunk, state: State, matmul: Matmul
) -> tuple[Tensor, State]:
    q, k, v, _ = chunk
    S = torch.cat([state.S, torch.cat([k, v], dim=-1)], dim=2)
    keys, values = S.split([k.shape[-1], v.shape[-1]], dim=-1)
    scores = matmul(q, keys.mT) * q.shape[-1] ** -0.5
    unseen = torch.ones_like(scores, dtype=torch.bool).triu(state.S.shape[2] + 1)
    return matmul(scores.masked_fill(unseen, -torch.inf).softmax(-1), values), State(S)


def _clipped(
    operator: Operator, chunk: Chunk, state: State, matmul: Matmul
) -> tuple[Tensor, State]:
    """fwm without ever forming S inside the chunk: S_t = c S + Σ_j k_j w_jᵀ.

    ‖S + k eᵀ‖² = ‖S‖² + 2 e·(Sᵀk) + ‖k‖²‖e‖² gives the norm to clip by from the retrieved value.
    """
    q, k, v, gates = chunk
    gram, asked = matmul(k, k.mT), matmul(q, k.mT)
    found_before, read_before = matmul(k, state.S), matmul(q, state.S)
    c = torch.ones_like(v[..., 0, :1])
    norm2 = state.S.square().sum((-2, -1))[..., None]
    w, outputs = v[..., :0, :], []
    for t in range(k.shape[2]):
        found = c * found_before[:, :, t] + (gram[:, :, t, :t, None] * w).sum(-2)
        e = gates["beta"][:, :, t, None] * (v[:, :, t] - found)
        first = norm2 == 0
        norm2 = norm2 + 2 * (e * found).sum(-1, keepdim=True)
        norm2 = norm2 + gram[:, :, t, t, None] * e.square().sum(-1, keepdim=True)
        clip = torch.where(first, 1.0, norm2.clamp(min=1).rsqrt())
        c, norm2 = c * clip, norm2 * clip.square()
        w = torch.cat([w, e[..., None, :]], dim=-2) * clip[..., None]
        o = c * read_before[:, :, t] + (asked[:, :, t, : t + 1, None] * w).sum(-2)
        outputs.append(F.layer_norm(o, o.shape[-1:], eps=1e-5))
    return torch.stack(outputs, dim=2), State(c[..., None] * state.S + matmul(k.mT, w))


#: By rule. A rule that is not here, as a plugin's, has the law of one token and no chunk form.
FORMS: dict[str, Callable[[Operator, Chunk, State, Matmul], tuple[Tensor, State]]] = {
    **dict.fromkeys(["sum", "decay", "gla", "gated", "delta", "gated-delta", "kda"], _linear),
    "softmax-attention": _softmax,
    "fwm": _clipped,
}
