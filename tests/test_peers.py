"""The adapters of other libraries: what they refuse, and that every argument arrives as meant.

Their kernels need a GPU. So each cell's function is replaced by the library's own plain PyTorch
form of the same operator, and the gate judges what the adapter makes of it.
"""

from __future__ import annotations

import inspect
from importlib.util import find_spec

import pytest
import torch

from fwpbench.harness.agreement import check
from fwpbench.harness.golden import Truths
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations.peers import flash_linear_attention as fla
from fwpbench.implementations.peers import flex_attention as flex
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import Problem
from tests.tables import OPERATORS, problem_of

ROWS = {"chunk": "fla-chunk", "fused-chunk": "fla-fused-chunk", "recurrent": "fla-recurrent"}
CELLS = [(family, rule) for family, cells in fla.CELLS.items() for rule in cells]
installed = pytest.mark.skipif(
    find_spec("fla") is None, reason="flash-linear-attention is not installed"
)
truths = Truths()


def operators_of(family: str, rule: str) -> list[Operator]:
    """Every norm, with the first map of the table that has it.

    Not with DPFP, where z·φ(q) may be so small that the library's ε of 1e-10 makes a difference.
    """
    able = [
        operator
        for operator in OPERATORS
        if operator.rule == rule
        and fla.cannot(problem_of(operator, dtype="bf16"), family=family) is None
    ]
    return list({operator.norm: operator for operator in reversed(able)}.values())


def plain(module: str):
    """The library's plain form of what `module` computes, called as its kernels are."""
    if module == "linear_attn":
        from fla.ops.linear_attn.naive import naive_recurrent_linear_attn

        return naive_recurrent_linear_attn
    if module == "simple_gla":
        from fla.ops.simple_gla.naive import naive_recurrent_simple_gla

        return naive_recurrent_simple_gla
    if module == "gla":
        from fla.ops.gla.naive import naive_recurrent_gla

        def gla(q, k, v, *, scale, g=None, gk=None, **rest):
            # It always divides queries by √K.
            return naive_recurrent_gla(
                q * scale * q.shape[-1] ** 0.5, k, v, g if gk is None else gk, **rest
            )

        return gla
    if module == "delta_rule":
        from fla.ops.delta_rule.naive import delta_rule_recurrence

        def delta(q, k, v, *, scale, beta, **rest):
            turned = (x.transpose(1, 2) for x in (q * scale * q.shape[-1] ** 0.5, k, v, beta))
            o, S = delta_rule_recurrence(*turned, **rest)
            return o.transpose(1, 2), S

        return delta
    if module == "gated_delta_rule":
        from fla.ops.gated_delta_rule.naive import naive_recurrent_gated_delta_rule

        return naive_recurrent_gated_delta_rule
    from fla.ops.kda.naive import naive_recurrent_kda

    return naive_recurrent_kda


@installed
@pytest.mark.parametrize(("family", "rule"), CELLS)
def test_every_argument_arrives(family, rule, monkeypatch):
    cell = fla.CELLS[family][rule]
    asked = operators_of(family, rule)
    assert asked
    monkeypatch.setattr(fla.Cell, "op", lambda cell: plain(cell.module))
    for operator in asked:
        for state in ("in+out", "none"):
            # In fp32 the library's own ε, 1e-10 where ours is 1e-6, would already show.
            problem = problem_of(
                operator, B=2, T=5, H=3, K=4, V=6, dtype="bf16" if operator.divides else "fp32",
                direction="forward", state=state,
            )  # fmt: skip
            run = IMPLEMENTATIONS[ROWS[family]].run
            agreement = check(run, problem, truths(problem, 0))
            assert agreement.status == "ok", f"{cell.function}: {problem}: {agreement.reason}"


@installed
@pytest.mark.parametrize(("family", "rule"), CELLS)
def test_the_functions_take_what_they_are_given(family, rule):
    """By their signatures, names and all."""
    cell = fla.CELLS[family][rule]
    signature = inspect.signature(cell.op())
    for parameter in signature.parameters.values():
        assert parameter.kind is not inspect.Parameter.POSITIONAL_ONLY
    x = torch.zeros(1, 1, 1, 1)
    gates = {"beta": x[..., 0], "log_alpha": x[..., 0]}
    if rule == "delta":
        del gates["log_alpha"]
    problem = problem_of(operators_of(family, rule)[0], dtype="bf16")

    def op(*args, **kwargs):
        bound = signature.bind(*args, **kwargs).arguments
        assert "kwargs" not in bound, "swallowed without a word"
        assert isinstance(bound["scale"], float)
        return x, None

    cell.call(op, problem, fla.Mapped(x, x, x, gates), None)


@pytest.mark.parametrize("direction", ["forward", "forward+backward", "decode"])
@pytest.mark.parametrize("operator", OPERATORS, ids=str)
def test_every_cell_is_yes_or_a_reason(operator, direction):
    """And every rule that a family has kernels for is done in one direction at least."""
    for dtype in ("fp32", "bf16"):
        problem = problem_of(operator, dtype=dtype, direction=direction)
        for family in ROWS:
            reason = fla.cannot(problem, family=family)
            assert reason is None or reason.strip()
            if operator.rule not in fla.CELLS[family]:
                assert reason is not None
                assert operator.rule in reason


REFUSED = {
    "z·φ(q) for sum only": ("chunk", "decay", {"norm": "attention", "phi": "relu"}),
    "no fused-chunk kernels for delta": ("fused-chunk", "delta", {}),
    "fp64": ("chunk", "sum", {"dtype": "fp64"}),
    "refuses fp32": ("chunk", "delta", {"dtype": "fp32"}),
    "at most 256": ("chunk", "delta", {"phi": "dpfp-3", "norm": "sum", "K": 64, "dtype": "bf16"}),
    "even K and V": ("chunk", "sum", {"V": 7, "dtype": "bf16", "direction": "forward+backward"}),
    "one token": ("chunk", "sum", {"direction": "decode"}),
    "causal=no": ("chunk", "sum", {"causal": False}),
    "a mask": ("recurrent", "sum", {"masked": True}),
    "reads=no": ("recurrent", "sum", {"reads": False, "state": "out"}),
    "no backward": ("recurrent", "gated-delta", {"direction": "forward+backward"}),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_they_cannot_do_is_said(words):
    family, rule, changes = REFUSED[words]
    asked = {"phi": "identity", "norm": "none", "B": 1, "T": 8, "H": 1, "K": 4, "V": 4}
    problem = Problem(rule=rule, **(asked | {"dtype": "fp32", "direction": "forward"} | changes))
    assert words in fla.cannot(problem, family=family)


@pytest.mark.parametrize("triton", ["3.6.0", "3.7.1", "3.3.1"])
@pytest.mark.parametrize("capability", [(9, 0), (8, 0)])
def test_a_backward_that_the_library_refuses_is_refused_before(triton, capability, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: capability)
    monkeypatch.setattr(fla, "version", lambda package: triton)
    problem = problem_of(
        Operator("gated-delta", "identity", "l2"),
        K=4,
        V=4,
        dtype="bf16",
        direction="forward+backward",
    )
    reason = fla.cannot(problem, family="chunk")
    if triton == "3.6.0" and capability == (9, 0):
        assert "triton>=3.7.1" in reason
    else:
        assert reason is None
    assert fla.cannot(problem.replace(direction="forward"), family="chunk") is None


def test_rows_are_third_party_and_say_what_is_missing(monkeypatch):
    for row in ROWS.values():
        assert IMPLEMENTATIONS[row].origin == "third-party"
        monkeypatch.setattr(fla, "find_spec", lambda name: None)
        assert "pip install" in IMPLEMENTATIONS[row].missing()
        monkeypatch.setattr(fla, "find_spec", lambda name: name)
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        assert "CUDA" in IMPLEMENTATIONS[row].missing()


@pytest.mark.parametrize("T", [1, 5, 130])
@pytest.mark.parametrize("state", ["none", "out"])
def test_flex_attention_agrees_uncompiled(T, state):
    operator = Operator("softmax-attention", "identity", "none")
    problem = problem_of(
        operator, B=2, T=T, H=3, K=8, V=8, dtype="fp32", direction="forward", state=state
    )
    agreement = check(IMPLEMENTATIONS["torch-flex"].run, problem, truths(problem, 0))
    assert agreement.status == "ok", agreement.reason


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ("only softmax", {"rule": "sum"}),
        ("another mask each time", {"direction": "decode"}),
        ("causal=no", {"causal": False}),
        ("a mask of tokens", {"masked": True}),
        ("reads=no", {"reads": False, "state": "out"}),
        ("went before", {"state": "in"}),
        ("fp64", {"dtype": "fp64"}),
    ],
)
def test_what_flex_attention_is_not_asked(words, changes):
    asked = {"rule": "softmax-attention", "phi": "identity", "norm": "none", "dtype": "fp32"}
    sizes = {"B": 1, "T": 8, "H": 1, "K": 4, "V": 4, "direction": "forward"}
    assert words in flex.cannot(Problem(**(asked | sizes | changes)))


def test_nothing_runs_uncompiled_without_a_word():
    fla._compiled.cache_clear()
    before = torch._dynamo.config.recompile_limit
    try:
        fla._compiled()
        assert torch._dynamo.config.recompile_limit >= 1000
    finally:
        torch._dynamo.config.recompile_limit = before
        fla._compiled.cache_clear()
