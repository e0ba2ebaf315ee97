"""The chunked CUDA kernels on a CPU, both ways; and NVRTC on the backward one: nothing is spilled.

A kernel's compilation takes seconds and is kept; sizes of B, T and H are told at run time.
"""

from __future__ import annotations

from importlib.util import find_spec
from itertools import combinations

import pytest

from fwpbench.harness.agreement import check
from fwpbench.harness.golden import Truths
from fwpbench.implementations import IMPLEMENTATIONS, cuda_kernels
from fwpbench.implementations._kernel_terms import NORMS
from fwpbench.implementations.cuda_kernels.choice import chosen_plan
from fwpbench.implementations.cuda_kernels.chunk_backward_plan import chunk_backward_plan
from fwpbench.implementations.cuda_kernels.chunk_plan import RULES, SHARED_BYTES, chunk_plan
from fwpbench.operators.operator import Operator, undefined
from fwpbench.operators.problem import Problem
from tests.tables import OPERATORS, problem_of

CUDA = IMPLEMENTATIONS["cuda"]
pytestmark = pytest.mark.skipif(
    not cuda_kernels.ON_CPU or CUDA.missing() is not None,
    reason=CUDA.missing() or "FWPBENCH_CUDA_ON_CPU=1 is not set",
)
DTYPES = ("fp32", "bf16", "fp16")
STATES = ("none", "in", "out", "in+out")
ABLE = [operator for operator in OPERATORS if operator.rule in RULES]
truths = Truths()


def paired(operators: list[Operator]) -> list[Operator]:
    """Few of them, in which every rule, map and normalisation meets every other that it can."""

    def pairs(operator: Operator) -> set[tuple[str, str]]:
        return set(combinations((operator.rule, operator.phi, operator.norm), 2))

    left, found = set().union(*map(pairs, operators)), []
    while left:
        found.append(max(operators, key=lambda operator: len(pairs(operator) & left)))
        left -= pairs(found[-1])
    return found


PAIRED = paired(ABLE)
#: Every rule, every way in which z follows or does not.
THIN = [
    Operator("sum", "elu+1", "attention"),
    Operator("decay", "dpfp-2", "sum+attention"),
    Operator("gated", "dpfp-1", "sum+attention"),
    Operator("delta", "elu+1", "attention"),
    Operator("delta", "identity", "l2"),
    Operator("gated-delta", "tanh", "l2"),
]


def small(operator: Operator, **changes) -> Problem:
    """Odd sizes. Many rows of one token: of a few numbers the yardstick may have all right by
    luck."""
    rows = 8 if changes.get("T") == 1 else 1
    sizes = {"B": rows, "T": 37, "H": 2, "K": 9, "V": 7, "dtype": "fp32"}
    return problem_of(operator, **(sizes | {"direction": "forward+backward"} | changes))


def agrees(problem: Problem, seed: int = 0) -> None:
    from fwpbench.implementations.cuda_kernels.operator import OPERATOR

    def run(problem, inputs):
        return OPERATOR.run(problem, inputs, plan="chunked")

    agreement = check(run, problem, truths(problem, seed))
    assert agreement.status == "ok", f"{problem}: {agreement.reason}"


def chunk(problem: Problem) -> int:
    return chunk_backward_plan(problem).C


def lengths(operator: Operator, **changes) -> tuple[int, ...]:
    """One token, where a chunk begins and ends, and a prime."""
    C = chunk(small(operator, **changes))
    return (1, C - 1, C, C + 1, 37)


@pytest.mark.parametrize(("n", "operator"), list(enumerate(PAIRED)), ids=str)
def test_every_operator_agrees(n, operator):
    """Lengths and dtypes take turns; and states, where something else stands in for none: one token
    reads nothing else, and what a sparse φ divides by may vanish.
    """
    dtype = DTYPES[n % 3]
    T = lengths(operator, dtype=dtype)[n % 5]
    needs = T == 1 or "attention" in operator.norm
    agrees(small(operator, T=T, dtype=dtype, state="in+out" if needs else STATES[n % 4]))


@pytest.mark.parametrize("n", range(5))
@pytest.mark.parametrize("operator", THIN, ids=str)
def test_every_length_agrees(operator, n):
    agrees(small(operator, T=lengths(operator)[n]), seed=1)


@pytest.mark.parametrize("operator", THIN, ids=str)
def test_tiles_of_value_columns_add_up(operator):
    problem = small(operator, V=33, T=33)
    assert chunk_backward_plan(problem).tiles > 1
    agrees(problem)


@pytest.mark.parametrize(
    ("operator", "dtype"),
    [
        (Operator("sum", "favor-512", "sum+attention"), "bf16"),
        (Operator("decay", "favor-512", "attention"), "fp32"),
        (Operator("delta", "favor-256", "attention"), "fp16"),
        (Operator("gated-delta", "favor-512", "l2"), "bf16"),
    ],
    ids=str,
)
def test_wide_maps_agree(operator, dtype):
    """Whose rows of features lie in memory."""
    problem = small(operator, H=1, T=19, V=5, dtype=dtype)
    assert chunk_backward_plan(problem).WIDE
    agrees(problem)


@pytest.mark.parametrize("rule", ["decay", "gated", "delta", "gated-delta"])
def test_gates_may_be_exactly_0_and_1(rule):
    """Inside a chunk too: several of each, where a logarithm would be −∞ and a quotient 0 / 0."""
    problem = small(Operator(rule, "elu+1", "sum"), inputs="saturated-gates")
    for gate in truths(problem, 0).inputs.gates.values():
        inside = gate[:, 1 : chunk(problem)]
        assert {0.0, 1.0} <= set(inside.flatten().tolist())
    agrees(problem)


@pytest.mark.parametrize("family", ["repeated-keys", "beta-1"])
def test_the_delta_rule_inverts_where_keys_are_alike(family):
    agrees(small(Operator("delta", "identity", "l2"), inputs=family))


@pytest.mark.parametrize("operator", [THIN[1], THIN[3]], ids=str)
def test_writing_alone_has_gradients(operator):
    """Of the last few tokens where gates decay, hence many rows."""
    agrees(small(operator, reads=False, B=4))
    assert chosen_plan(small(operator, reads=False, T=64), "cpu") == "recurrent"


@pytest.mark.parametrize("rule", RULES)
def test_every_size_has_a_layout(rule):
    """That fits a block, both ways with the same chunks."""
    for norm in NORMS:
        for phi in ("identity", "dpfp-1", "dpfp-2", "favor-16", "favor-512"):
            operator = Operator(rule, phi, norm)
            for K, V in ((4, 1), (16, 16), (64, 64), (128, 128), (256, 256)):
                if undefined(operator) is None:
                    problem = problem_of(operator, K=K, V=V, T=64, dtype="bf16")
                    backward = chunk_backward_plan(problem)
                    assert 4 * backward.floats <= SHARED_BYTES
                    assert chunk_plan(problem, backward.C) is not None, str(problem)


#: Every architecture with every dtype; small heads, ordinary ones and wide maps.
COMPILED = [
    ("sm_80", "rule=sum phi=elu+1 norm=attention K=16 V=16 dtype=bf16"),
    ("sm_80", "rule=gated-delta phi=dpfp-2 norm=sum K=32 V=32 dtype=fp16"),
    ("sm_80", "rule=delta phi=dpfp-3 norm=sum+attention K=64 V=64 dtype=fp32"),
    ("sm_90a", "rule=delta phi=identity norm=l2 K=128 V=128 dtype=bf16"),
    ("sm_90a", "rule=decay phi=favor-64 norm=attention K=16 V=32 dtype=fp16"),
    ("sm_90a", "rule=gated-delta phi=tanh norm=l2 K=128 V=128 dtype=fp32"),
    ("sm_100", "rule=gated phi=dpfp-2 norm=sum+attention K=64 V=64 dtype=bf16"),
    ("sm_100", "rule=sum phi=favor-published-512 norm=l2 K=64 V=64 dtype=fp16"),
    ("sm_100", "rule=decay phi=relu norm=none K=256 V=256 dtype=fp32"),
    ("sm_120", "rule=gated-delta phi=favor-512 norm=none K=64 V=64 dtype=bf16"),
    ("sm_120", "rule=delta phi=dpfp-3 norm=attention K=64 V=64 dtype=fp16"),
    ("sm_120", "rule=gated phi=elu+1 norm=sum K=64 V=128 dtype=fp32"),
]


@pytest.mark.skipif(
    find_spec("cuda") is None or find_spec("cuda.core") is None,
    reason="cuda-core is not installed",
)
@pytest.mark.parametrize(("arch", "text"), COMPILED)
def test_nothing_is_spilled(arch, text):
    from fwpbench.implementations.cuda_kernels import chunk as kernels
    from fwpbench.implementations.cuda_kernels import nvrtc, sources

    problem = Problem.parse(f"{text} B=2 T=100 H=2 direction=forward+backward state=in+out")
    plan = chunk_backward_plan(problem)
    found = kernels.constants(problem, plan, GRADIENTS_IN_PARTS=plan.tiles > 1)
    compiled = nvrtc.compiled(sources.text("chunk_backward", problem.dtype, found), arch)
    assert (compiled.spilled_bytes, compiled.stack_bytes) == (0, 0), compiled.log
    assert compiled.registers * plan.threads <= 65536
    assert 4 * plan.floats <= SHARED_BYTES
