"""The CUDA kernels of whole chunks: on a CPU by the gate; compiled for GPUs, what they take."""

from __future__ import annotations

import re
import subprocess
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path

import pytest

from fwpbench.harness.agreement import check
from fwpbench.harness.gate import judge
from fwpbench.harness.golden import Truths
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations._kernel_terms import NORMS
from fwpbench.implementations.cuda_kernels import ON_CPU, PACKAGES, sources
from fwpbench.implementations.cuda_kernels.choice import chosen_plan
from fwpbench.implementations.cuda_kernels.chunk_plan import PRECISIONS, RULES, chunk_plan
from fwpbench.operators.operator import Operator, discouraged, undefined
from fwpbench.operators.problem import Problem
from tests.tables import OPERATORS, problem_of

CUDA = IMPLEMENTATIONS["cuda"]
on_cpu = pytest.mark.skipif(
    not ON_CPU or CUDA.missing() is not None, reason="FWPBENCH_CUDA_ON_CPU=1 is not set"
)
COMPILES = find_spec("cuda") is not None and all(find_spec(name) for name in PACKAGES)
compiles = pytest.mark.skipif(not COMPILES, reason="fwpbench[cuda] is not installed")
truths = Truths()

MAPS = ("identity", "elu+1", "relu", "tanh", "favor-16", "favor-published-16")
MAPS += ("dpfp-1", "dpfp-2", "dpfp-3")
C = 32
LENGTHS = (1, C - 1, C, C + 1, 71)


def pairwise() -> list[tuple[Operator, str]]:
    """Every two of rule, φ, norm and dtype that may meet do, in few of all."""
    candidates = [
        (operator, dtype)
        for rule in RULES
        for phi in MAPS
        for norm in NORMS
        for dtype in PRECISIONS
        if undefined(operator := Operator(rule, phi, norm)) is None
        and discouraged(operator) is None
    ]

    def pairs(candidate: tuple[Operator, str]) -> set[object]:
        operator, dtype = candidate
        names = (operator.rule, operator.phi, operator.norm, dtype)
        return set(combinations(enumerate(names), 2))

    left, found = set().union(*map(pairs, candidates)), []
    while left:
        best = max(candidates, key=lambda candidate: len(left & pairs(candidate)))
        found.append(best)
        left -= pairs(best)
    return found


def small(operator: Operator, **changes) -> Problem:
    """Odd sizes, filled up in every axis. Many heads for one token, as in test_triton.py."""
    B = 8 if changes.get("T") == 1 else 1
    sizes = {"B": B, "T": 71, "H": 2, "K": 10, "V": 19, "dtype": "fp32"}
    return problem_of(operator, **(sizes | changes))


def run(problem, inputs):
    from fwpbench.implementations.cuda_kernels.operator import run

    return run(problem, inputs, plan="chunked")


def agrees(problem: Problem, seed: int = 0) -> None:
    agreement = check(run, problem, truths(problem, seed))
    assert agreement.status == "ok", f"{problem}: {agreement.reason}"


@on_cpu
@pytest.mark.parametrize("T", LENGTHS)
@pytest.mark.parametrize(("operator", "dtype"), pairwise(), ids=str)
def test_every_length_agrees(operator, dtype, T):
    problem = small(operator, dtype=dtype, T=T)
    assert chunk_plan(problem).C == C
    agrees(problem)


@on_cpu
@pytest.mark.parametrize(
    ("operator", "sizes", "layout"),
    [
        (Operator("gated-delta", "identity", "l2"), {"V": 70}, (32, 64, False)),
        (Operator("delta", "dpfp-3", "sum+attention"), {"K": 64}, (16, 16, False)),
        (Operator("delta", "favor-512", "attention"), {}, (32, 16, True)),
        (Operator("gated", "dpfp-2", "sum+attention"), {"K": 132}, (32, 32, True)),
        (Operator("delta", "dpfp-2", "sum"), {"K": 256, "T": 17}, (16, 16, True)),
    ],
    ids=str,
)
def test_every_layout_agrees(operator, sizes, layout):
    """More than one tile of columns, shorter chunks, and φ too wide for a block."""
    problem = small(operator, **({"dtype": "bf16", "H": 1, "T": 33} | sizes))
    plan = chunk_plan(problem)
    assert layout == (plan.C, plan.BV, plan.WIDE)
    agrees(problem)


@on_cpu
@pytest.mark.parametrize("state", ["none", "in", "out"])
@pytest.mark.parametrize("norm", ["sum", "attention"])
def test_every_way_of_the_states_agrees(norm, state):
    agrees(small(Operator("delta", "elu+1", norm), T=37, state=state))


@on_cpu
@pytest.mark.parametrize(
    "operator",
    [
        Operator("sum", "elu+1", "attention"),
        Operator("gated-delta", "identity", "l2"),
        Operator("delta", "favor-16", "sum+attention"),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", PRECISIONS)
def test_what_is_only_written_agrees(operator, dtype):
    agrees(small(operator, reads=False, dtype=dtype))


@on_cpu
@pytest.mark.parametrize("rule", ["decay", "gated", "delta", "gated-delta"])
def test_gates_may_be_exactly_0_and_1(rule):
    problem = small(Operator(rule, "elu+1", "sum"), inputs="saturated-gates")
    for gate in truths(problem, 0).inputs.gates.values():
        assert {0.0, 1.0} <= set(gate[:, 1:C].flatten().tolist())
    agrees(problem)


@on_cpu
@pytest.mark.parametrize("family", ["repeated-keys", "beta-1"])
def test_the_delta_rule_inverts_where_keys_are_alike(family):
    agrees(small(Operator("delta", "identity", "l2"), inputs=family))


@on_cpu
@pytest.mark.parametrize("rule", RULES)
def test_the_gate_with_its_laws(rule):
    """By the plan that is chosen: a batch's rows do not meet, two halves make a whole, …"""
    problem = small(Operator(rule, "elu+1", "sum"), inputs="realistic")
    assert chosen_plan(problem, "cpu") == "chunked"
    agreement, laws = judge(CUDA.run, problem, truths(problem, 0), "cpu", CUDA.cannot)
    assert agreement.status == "ok", agreement.reason
    assert laws is not None
    assert not laws.broken


@on_cpu
@pytest.mark.parametrize(
    "operator",
    [Operator("gated", "dpfp-1", "sum+attention"), Operator("delta", "elu+1", "attention")],
    ids=str,
)
def test_what_is_kept_leads_to_the_gradients(operator):
    """T reaches into a third chunk."""
    agrees(small(operator, direction="forward+backward", K=6, V=5))


# Which problems they are for. Nothing of CUDA is needed to ask.


@pytest.mark.parametrize("operator", OPERATORS, ids=str)
def test_two_chunks_of_tokens_are_done_by_chunks(operator):
    for T in (2 * C - 1, 2 * C):
        problem = problem_of(operator, T=T, dtype="fp32")
        ways = [problem, problem_of(operator, T=T, dtype="fp32", direction="decode")]
        if CUDA.cannot(problem) is None:
            chunked = operator.rule in RULES and 2 * C <= T
            expected = ["chunked" if chunked else "recurrent", "recurrent"]
            assert [chosen_plan(way, "cpu") for way in ways] == expected


@pytest.mark.parametrize("rule", RULES)
def test_every_size_has_a_layout(rule):
    for norm in NORMS:
        for phi in ("identity", "dpfp-1", "dpfp-2", "dpfp-3", "favor-16", "favor-512"):
            operator = Operator(rule, phi, norm)
            for K in (4, 16, 64, 128, 256):
                for V in (1, 64, 256):
                    if undefined(operator) is not None:
                        continue
                    problem = problem_of(operator, K=K, V=V, T=64, dtype="bf16")
                    assert problem.D > 1024 or chunk_plan(problem) is not None, str(problem)


@pytest.mark.parametrize(("capability", "plan"), [((7, 5), "recurrent"), ((8, 0), "chunked")])
def test_older_gpus_go_token_by_token(monkeypatch, capability, plan):
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: capability)
    assert chosen_plan(small(Operator("sum", "elu+1", "sum")), "cuda") == plan


# Compiled for GPUs that are not here.

ARCHS = ("sm_80", "sm_90a", "sm_100", "sm_120")
#: By what takes most: every rule, small heads and large, wide φ, each precision.
COMPILED = [
    problem_of(Operator(rule, phi, norm), B=1, T=256, H=2, K=K, V=V, dtype=dtype)
    for rule, phi, norm, K, V, dtype in [
        ("sum", "elu+1", "attention", 128, 128, "bf16"),
        ("decay", "favor-64", "attention", 64, 64, "fp16"),
        ("gated", "dpfp-1", "sum+attention", 64, 64, "fp32"),
        ("delta", "elu+1", "sum", 16, 16, "bf16"),
        ("delta", "elu+1", "attention", 32, 32, "fp16"),
        ("delta", "identity", "l2", 128, 128, "fp32"),
        ("delta", "dpfp-3", "sum+attention", 64, 64, "bf16"),
        ("gated-delta", "identity", "l2", 256, 256, "bf16"),
        ("gated-delta", "dpfp-2", "sum", 256, 256, "fp16"),
        ("delta", "favor-512", "attention", 64, 64, "fp32"),
    ]
]
#: Instructions of tensor cores, as a disassembler writes them.
TENSOR_CORES = {"bf16": r"HMMA\.16816\.F32\.BF16", "tf32": r"HMMA\.1688\.F32\.TF32"}


def compiled(problem: Problem, arch: str, keeps: bool):
    from fwpbench.implementations.cuda_kernels import nvrtc
    from fwpbench.implementations.cuda_kernels.chunk import constants

    given = constants(problem, chunk_plan(problem), KEEPS=keeps)
    return nvrtc.compiled(sources.text("chunk_forward", problem.dtype, given), arch)


@compiles
@pytest.mark.parametrize("turn", [0, 1])
@pytest.mark.parametrize(("n", "problem"), list(enumerate(COMPILED)), ids=str)
def test_nothing_is_spilled(n, problem, turn, tmp_path):
    """And tensor cores multiply, where the precision has them. The architectures take turns."""
    arch = ARCHS[(n + 2 * turn) % 4]
    found = compiled(problem, arch, keeps=n % 2 == 0)
    assert (found.spilled_bytes, found.stack_bytes) == (0, 0)
    triton = pytest.importorskip("triton", reason="its disassembler reads the instructions")
    path = tmp_path / "kernel.cubin"
    path.write_bytes(found.cubin)
    disassembler = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    listing = subprocess.run(
        [disassembler, "-sass", path], capture_output=True, text=True, check=True
    ).stdout
    assert "FFMA" in listing
    precision = chunk_plan(problem).PRECISION
    for name, instruction in TENSOR_CORES.items():
        assert (name == precision) == bool(re.search(instruction, listing)), name
