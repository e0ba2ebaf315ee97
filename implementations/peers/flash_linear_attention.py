"""flash-linear-attention (fla-core): its chunked, fused and recurrent Triton kernels.

How they are called, so that their authors can object:

- φ and the scaling of queries and keys are one function compiled by torch, timed with the kernel:
  the library computes no φ of its own inside its kernels. identity without scaling costs nothing.
- `scale` is always the float 1.0: None would divide by √K, and Triton compiles the integer 1 into
  the kernel. `normalize` is always given: its default is True in one function, False in another.
- Gates go in as logarithms in float32, taken in the same compiled function; a gate of 0 is −∞.
- Where it divides by z·φ(q), its ε is 1e-10 and ours is 1e-6. The gate shows that in fp32, and
  where a sparse φ, such as DPFP of small keys, makes the sum that small.
- Layout [B, T, H, K], contiguous: what its functions copy to otherwise.
- Without its other backends, which would call libraries of other names under this one's.

Each row is one family of its kernels. What a family cannot do is a sentence here before anything is
launched; where it computes something wrong, the gate says so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fwpbench.implementations.base import Implementation, Output
from fwpbench.operators.features import features
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import Problem
from fwpbench.operators.state import State

#: The widest φ of its chunked delta rules (an assertion in fla/ops/common/chunk_delta_h.py).
LARGEST_DELTA_D = 256
DELTA_RULES = ("delta", "gated-delta", "kda")


class Mapped(NamedTuple):
    """What the kernels take: φ(q) and φ(k), scaled, in the problem's dtype; gates in float32."""

    q: Tensor
    k: Tensor
    v: Tensor
    gates: dict[str, Tensor]


Op = Callable[..., tuple[Tensor, Any]]
Call = Callable[[Op, Problem, Mapped, State | None], tuple[Tensor, Any]]


def call_sum(op: Op, p: Problem, x: Mapped, state: State | None) -> tuple[Tensor, Any]:
    divides = p.operator.divides
    before: Any = None
    if state is not None:
        before = state.S if state.z is None else (state.S, state.z[:, None])
    o, after = op(x.q, x.k, x.v, normalize=divides, **_common(p, before))
    if divides and after is not None:
        S, z = after
        after = None if S is None else State(S, z[:, 0].float())
    return o, after


def call_gated(
    op: Op, p: Problem, x: Mapped, state: State | None, *, gate: str
) -> tuple[Tensor, Any]:
    """One decay a head or feature; `gate` is what the function calls it."""
    decay = x.gates["log_alpha"]
    return op(x.q, x.k, x.v, **{gate: decay}, **_common(p, None if state is None else state.S))


def call_delta(op: Op, p: Problem, x: Mapped, state: State | None) -> tuple[Tensor, Any]:
    gates = {"beta": x.gates["beta"]}
    if "log_alpha" in x.gates:
        gates["g"] = x.gates["log_alpha"]
    return op(x.q, x.k, x.v, **gates, **_common(p, None if state is None else state.S))


def _common(p: Problem, before: Any) -> dict[str, Any]:
    return {"scale": 1.0, "initial_state": before, "output_final_state": p.state_out}


@dataclass(frozen=True)
class Cell:
    """A function of the library, by its module under fla.ops, and how it is called."""

    module: str
    function: str
    call: Call

    def op(self) -> Op:
        # Before its first import: it decides then.
        os.environ.setdefault("FLA_DISABLE_BACKEND_DISPATCH", "1")
        found: Op = getattr(import_module(f"fla.ops.{self.module}"), self.function)
        return found


#: By family of kernels, then by rule.
CELLS: dict[str, Mapping[str, Cell]] = {
    "chunk": {
        "sum": Cell("linear_attn", "chunk_linear_attn", call_sum),
        "decay": Cell("simple_gla", "chunk_simple_gla", partial(call_gated, gate="g")),
        "gated": Cell("simple_gla", "chunk_simple_gla", partial(call_gated, gate="g")),
        "gla": Cell("gla", "chunk_gla", partial(call_gated, gate="g")),
        "delta": Cell("delta_rule", "chunk_delta_rule", call_delta),
        "gated-delta": Cell("gated_delta_rule", "chunk_gated_delta_rule", call_delta),
        "kda": Cell("kda", "chunk_kda", call_delta),
    },
    "fused-chunk": {
        "sum": Cell("linear_attn", "fused_chunk_linear_attn", call_sum),
        "decay": Cell("simple_gla", "fused_chunk_simple_gla", partial(call_gated, gate="g")),
        "gated": Cell("simple_gla", "fused_chunk_simple_gla", partial(call_gated, gate="g")),
    },
    "recurrent": {
        "sum": Cell("linear_attn", "fused_recurrent_linear_attn", call_sum),
        "decay": Cell("simple_gla", "fused_recurrent_simple_gla", partial(call_gated, gate="g")),
        "gated": Cell("simple_gla", "fused_recurrent_simple_gla", partial(call_gated, gate="g")),
        "gla": Cell("gla", "fused_recurrent_gla", partial(call_gated, gate="gk")),
        "delta": Cell("delta_rule", "fused_recurrent_delta_rule", call_delta),
        "gated-delta": Cell("gated_delta_rule", "fused_recurrent_gated_delta_rule", call_delta),
        "kda": Cell("kda", "fused_recurrent_kda", call_delta),
    },
}


def missing() -> str | None:
    if find_spec("fla") is None:
        return "flash-linear-attention is not installed: python -m pip install 'fwpbench[peers]'"
    if not torch.cuda.is_available():
        return "torch sees no CUDA device here, and its Triton kernels need one"
    return None


def cannot(problem: Problem, *, family: str) -> str | None:
    p = problem
    if p.rule not in CELLS[family]:
        return f"the library has no {family} kernels for {p.rule}"
    if p.operator.divides and p.rule != "sum":
        return f"the library divides by z·φ(q) for sum only, not for {p.rule}"
    if p.dtype == "fp64":
        return "the library's kernels compute in float32, not in fp64"
    if p.direction == "decode" and family != "recurrent":
        return f"one token is for its recurrent kernels, not for {family}"
    for asked, words in (
        (not p.causal, "causal=no"),
        (p.masked, "a mask"),
        (not p.reads, "reads=no"),
    ):
        if asked:
            return f"its functions do not offer {words}"
    return _cannot_chunk(p) if family == "chunk" else _cannot_recurrent(p, family)


def _cannot_chunk(p: Problem) -> str | None:
    if p.rule in DELTA_RULES and p.D > LARGEST_DELTA_D:
        return f"D = {p.D}: its chunked delta rules are for at most {LARGEST_DELTA_D}"
    if p.rule == "delta" and p.dtype == "fp32":
        return "its chunked delta rule refuses fp32"
    if p.backward and p.dtype != "fp32" and (p.D % 2 or p.V % 2):
        return f"its backward needs an even K and V, not {p.D} and {p.V}"
    if p.backward and p.rule in ("decay", "gated", "gated-delta") and _miscompiles():
        return (
            "its gated backward refuses Hopper GPUs with Triton 3.4.0 to 3.7.0, which miscompiles "
            "it (fla-org/flash-linear-attention issue 640): python -m pip install 'triton>=3.7.1'"
        )
    return None


def _cannot_recurrent(p: Problem, family: str) -> str | None:
    if family == "recurrent" and p.backward and p.rule in ("gated-delta", "kda"):
        return f"its recurrent {p.rule} has no backward"
    return None


def _miscompiles() -> bool:
    if not torch.cuda.is_available() or torch.cuda.get_device_capability()[0] != 9:
        return False
    try:
        major, minor, patch = (int(part) for part in version("triton").split("+")[0].split(".")[:3])
    except (PackageNotFoundError, ValueError):
        return False
    return (3, 4, 0) <= (major, minor, patch) < (3, 7, 1)


def run(problem: Problem, inputs: Inputs, *, family: str) -> Output:
    cell = CELLS[family][problem.rule]
    o, after = cell.call(cell.op(), problem, mapped(problem, inputs), inputs.state)
    state = after if after is None or isinstance(after, State) else State(after.float())
    return Output(o.to(problem.torch_dtype), state if problem.state_out else None)


def mapped(problem: Problem, inputs: Inputs) -> Mapped:
    """Everything in front of the kernel, in one compiled function where there is a GPU."""
    assert inputs.q is not None, "refused before"
    prepare = _prepare if inputs.q.device.type == "cpu" else _compiled()
    q, k, gates = prepare(problem.operator, inputs.q, inputs.k, inputs.gates, inputs.projection)
    return Mapped(q, k, inputs.v, gates)


def _prepare(
    operator: Operator, q: Tensor, k: Tensor, gates: dict[str, Tensor], projection: Tensor | None
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    dtype, gates = q.dtype, dict(gates)
    if not (operator.phi == "identity" and operator.norm == "none"):
        q = features(operator, q.float(), projection, query=True).to(dtype)
        k = features(operator, k.float(), projection).to(dtype)
    if operator.rule == "gated":
        # (1 − β) S + β k vᵀ: a decay of 1 − β, and a key weighted by β.
        beta = gates.pop("beta")
        k = (k.float() * beta[..., None]).to(dtype)
        gates["log_alpha"] = torch.log1p(-beta)
    elif "alpha" in gates:
        gates["log_alpha"] = gates.pop("alpha").log()
    return q, k, gates


@cache
def _compiled() -> Callable[..., tuple[Tensor, Tensor, dict[str, Tensor]]]:
    # Beyond its limit torch would go on uncompiled, and the library would look slower than it is.
    # fullgraph makes that an error.
    torch._dynamo.config.recompile_limit = 4096
    torch._dynamo.config.accumulated_recompile_limit = 4096
    return torch.compile(_prepare, dynamic=False, fullgraph=True)


def _implementation(family: str, summary: str) -> Implementation:
    return Implementation(
        partial(run, family=family),
        f"flash-linear-attention: {summary}",
        missing=missing,
        cannot=partial(cannot, family=family),
        devices=("cuda",),
        origin="third-party",
    )


CHUNK = _implementation("chunk", "its chunked kernels, φ compiled in front")
FUSED_CHUNK = _implementation("fused-chunk", "its one-launch chunked kernels, φ compiled in front")
RECURRENT = _implementation("recurrent", "its kernels of one token at a time, φ compiled in front")
