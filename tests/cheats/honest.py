"""A plugin without a fault, in plain torch: what the others beside it spoil, each in its way."""

from __future__ import annotations

import torch

from fwpbench import Implementation, Output, State


def phi(x):
    """elu(x) + 1"""
    return torch.where(x > 0, x + 1, x.clamp(max=0).exp())


def run(problem, inputs):
    """o = (φ(Q) S₀ + tril(φ(Q) φ(K)ᵀ) V) / (φ(Q) z₀ + row sums + ε), in float32."""
    q, k = (phi(x.float()).transpose(1, 2) for x in (inputs.q, inputs.k))
    v = inputs.v.float().transpose(1, 2)
    scores = (q @ k.mT).tril()
    read, seen = scores @ v, scores.sum(-1, keepdim=True)
    S, z = k.mT @ v, k.sum(2)
    if inputs.state is not None:
        read, seen = read + q @ inputs.state.S, seen + q @ inputs.state.z[..., None]
        S, z = S + inputs.state.S, z + inputs.state.z
    o = (read / (seen + 1e-6)).transpose(1, 2).to(inputs.v.dtype)
    return Output(o, State(S, z) if problem.state_out else None)


def cannot(problem):
    """Causal, whole problems of this one operator."""
    mine = (problem.rule, problem.phi, problem.norm) == ("sum", "elu+1", "attention")
    whole = problem.causal and problem.reads and not problem.masked
    return None if mine and whole else "the Linear Transformer alone"


def made(run, summary=None):
    return Implementation(run, summary or run.__doc__, cannot=cannot)


def timed(problem):
    """Whether this is no call of the gate, which knows 131 tokens at most."""
    return problem.T > 131


IMPLEMENTATIONS = {"honest": made(run)}
