"""The recurrent CUDA kernels on a CPU: every rule, map and normalisation, both ways, and decoding.

A kernel's compilation takes a second and is kept; sizes of B, T and H are told at run time. So
lengths, states and families of inputs cost little, maps and dtypes are paired.
"""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from fwpbench.harness.agreement import check
from fwpbench.harness.gate import judge
from fwpbench.harness.golden import Truths, tensors_of
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations._copies import taken
from fwpbench.implementations._kernel_terms import tokens_between
from fwpbench.implementations.cuda_kernels.recurrent_plan import recurrent_plan
from fwpbench.operators import UPDATE_RULES
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import Problem
from tests.tables import OPERATORS, families_of, problem_of

CUDA = IMPLEMENTATIONS["cuda"]
on_cpu = pytest.mark.skipif(
    CUDA.missing() is not None or "cpu" not in CUDA.devices,
    reason=CUDA.missing() or "FWPBENCH_CUDA_ON_CPU=1 is not set",
)
truths = Truths()

ABLE = [o for o in OPERATORS if not UPDATE_RULES[o.rule].keeps_tokens]


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
#: Every rule, every way in which z follows or does not. (Not dpfp-1 with sum+attention: where all
#: products of a token are small, one row is nearly the whole gradient, and its rounding one draw.)
THIN = [
    Operator("sum", "identity", "none"),
    Operator("decay", "dpfp-2", "sum+attention"),
    Operator("gla", "relu", "attention"),
    Operator("gated", "elu+1", "sum+attention"),
    Operator("delta", "elu+1", "attention"),
    Operator("gated-delta", "dpfp-3", "l2"),
    Operator("kda", "favor-16", "l2"),
    Operator("fwm", "tanh", "none"),
]
FWM = Operator("fwm", "tanh", "none")
NO_CLIP = [o for o in THIN if o.rule != "fwm"]
#: Read after all is written.
UNORDERED = [
    Operator("sum", "identity", "none"),
    Operator("sum", "elu+1", "attention"),
    Operator("sum", "dpfp-2", "sum+attention"),
    Operator("sum", "favor-16", "l2"),
    Operator("sum", "favor-published-16", "sum"),
]
STATES = ("none", "in", "out", "in+out")
#: Tokens from one kept state to the next, and tokens prepared at once, for the lengths here.
C = tokens_between(37)
#: One token, where a chunk begins and ends, and a prime.
LENGTHS = (1, C - 1, C, C + 1, 37)


def small(operator: Operator, **changes) -> Problem:
    """Odd sizes. Many rows of one token: of a few numbers the yardstick may have all right by luck.

    One head of fwm over time: where its clip has a kink, or what it normalises hardly varies, a
    gradient is a toss, and each head more is one more chance to meet that.
    """
    one = changes.get("T") == 1 or changes.get("direction") == "decode"
    heads = 1 if operator.rule == "fwm" and not one else 2
    sizes = {"B": 8 if one else 1, "T": 37, "H": heads, "K": 9, "V": 7, "dtype": "fp32"}
    return problem_of(operator, **(sizes | {"direction": "forward+backward"} | changes))


def agrees(problem: Problem, seed: int = 0) -> None:
    assert CUDA.refuses(problem) is None
    agreement = check(CUDA.run, problem, truths(problem, seed))
    assert agreement.status == "ok", f"{problem}: {agreement.reason}"


@on_cpu
@pytest.mark.parametrize(("n", "operator"), list(enumerate(PAIRED)), ids=str)
def test_every_operator_agrees(n, operator):
    """The lengths take turns, and the states where there is something to be read but one token.

    Of fwm the longest: of 15 numbers dβ, one head's, few decide (of 30 seeds 2 erred; of 37, none).
    """
    T = 37 if operator.rule == "fwm" else LENGTHS[n % 5]
    agrees(small(operator, T=T, state="in+out" if T == 1 else STATES[n % 4]))


@on_cpu
@pytest.mark.parametrize("operator", PAIRED, ids=str)
def test_decoding_agrees(operator):
    agrees(small(operator, direction="decode"))


@on_cpu
@pytest.mark.parametrize("T", LENGTHS)
@pytest.mark.parametrize("operator", THIN, ids=str)
def test_every_length_agrees(operator, T):
    """Forward too, where nothing is kept."""
    assert recurrent_plan(small(operator)).TOKENS == C
    agrees(small(operator, T=T))
    agrees(small(operator, T=T, direction="forward"))


@on_cpu
@pytest.mark.parametrize("operator", NO_CLIP, ids=str)
def test_states_may_lie_further_apart_than_tokens_are_prepared(operator):
    problem = small(operator, T=263, H=1)
    assert tokens_between(263) > recurrent_plan(problem, backward=True).TOKENS
    agrees(problem)


@on_cpu
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("operator", THIN, ids=str)
def test_low_precision_agrees(operator, dtype):
    agrees(small(operator, T=C + 1, dtype=dtype), seed=1)
    agrees(small(operator, dtype=dtype, direction="decode"), seed=1)


@on_cpu
@pytest.mark.parametrize("operator", THIN, ids=str)
def test_a_mask_agrees(operator):
    agrees(small(operator, T=C + 1, masked=True))
    # Of five rows at least one token counts and one does not.
    one, seed = small(operator, direction="decode", masked=True, B=5), 4
    assert set(truths(one, seed).inputs.mask.flatten().tolist()) == {False, True}
    agrees(one, seed)


@on_cpu
@pytest.mark.parametrize("operator", THIN, ids=str)
def test_writing_alone_agrees(operator):
    agrees(small(operator, T=C + 1, reads=False))


@on_cpu
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("operator", THIN, ids=str)
def test_every_way_of_the_states_agrees(operator, state):
    agrees(small(operator, T=C + 1, state=state))


@on_cpu
@pytest.mark.parametrize(("n", "operator"), list(enumerate(NO_CLIP)), ids=str)
def test_tiles_of_value_columns_add_up(n, operator):
    """More than a block has: then a block gives a part of each gradient."""
    wide = {"K": 9, "V": 131} if n % 2 else {"K": 67, "V": 37}
    while recurrent_plan(problem := small(operator, T=3, **wide), backward=True).tiles < 2:
        wide["V"] += 32
    agrees(problem)


WIDE = [
    (Operator("sum", "dpfp-3", "sum"), {"K": 33}),
    (Operator("decay", "dpfp-2", "attention"), {"K": 65}),
    (Operator("delta", "dpfp-3", "sum+attention"), {"K": 64}),
    (Operator("gla", "favor-256", "attention"), {"K": 17}),
    (Operator("kda", "dpfp-1", "l2"), {"K": 256}),
    (Operator("gated", "dpfp-2", "attention"), {"K": 256}),
    (Operator("fwm", "dpfp-2", "none"), {"K": 64}),
]


@on_cpu
@pytest.mark.parametrize(("operator", "sizes"), WIDE, ids=str)
def test_wide_maps_agree(operator, sizes):
    """D from 198 to 1024: fewer columns a thread, fewer tokens prepared at once."""
    agrees(small(operator, T=3, H=1, V=5, **sizes))


@on_cpu
@pytest.mark.parametrize(("n", "operator"), list(enumerate(UNORDERED)), ids=str)
def test_reading_after_all_is_written_agrees(n, operator):
    for turn, T in enumerate(LENGTHS):
        agrees(small(operator, T=T, causal=False, state=STATES[(n + turn) % 4]))
    agrees(small(operator, causal=False, direction="forward"))
    agrees(small(operator, causal=False, direction="decode"))


@on_cpu
@pytest.mark.parametrize(
    "changes",
    [
        {"masked": True, "B": 3},
        {"reads": False},
        {"V": 135},
        {"dtype": "bf16"},
        {"dtype": "fp16"},
        {"K": 163, "T": 5, "V": 9},
    ],
    ids=str,
)
def test_reading_after_all_is_written_agrees_in_every_way(changes):
    agrees(small(Operator("sum", "dpfp-2", "sum+attention"), causal=False, **changes), seed=1)


@on_cpu
@pytest.mark.parametrize(
    "operator", [o for o in THIN if UPDATE_RULES[o.rule].gates and o.rule != "fwm"], ids=str
)
def test_gates_may_be_exactly_0_and_1(operator):
    problem = small(operator, T=C + 1, inputs="saturated-gates")
    for gate in truths(problem, 0).inputs.gates.values():
        assert {0.0, 1.0} <= set(gate.flatten().tolist())
    agrees(problem)


@on_cpu
@pytest.mark.parametrize("inputs", families_of(FWM))
def test_every_family_of_inputs_agrees(inputs):
    """A token that writes nothing leaves ‖S‖ = 1, the kink of the clip: gradients are a toss."""
    writes_nothing = inputs in ("zero-keys", "beta-0", "saturated-gates")
    direction = "forward" if writes_nothing else "forward+backward"
    agrees(small(FWM, T=9, direction=direction, inputs=inputs))


@on_cpu
@pytest.mark.parametrize(
    ("phi", "norm", "inputs"), [("tanh", "none", "tiny"), ("favor-16", "attention", "huge")]
)
def test_the_ends_of_a_map_agree(phi, norm, inputs):
    """Where 1 − tanh² would cancel, and where exponents overflow unless their maximum is off."""
    agrees(small(Operator("sum", phi, norm), inputs=inputs, direction="forward"))


@on_cpu
@pytest.mark.parametrize(("n", "operator"), list(enumerate(THIN)), ids=str)
def test_the_gate_with_its_laws(n, operator):
    """A batch's rows do not meet, two halves make a whole, nothing is seen before its time, …"""
    dtype = ("fp32", "bf16")[n % 2]
    problem = small(operator, T=19, direction="forward", inputs="realistic", dtype=dtype)
    agreement, laws = judge(CUDA.run, problem, truths(problem, 0), "cpu", CUDA.cannot)
    assert agreement.status == "ok", agreement.reason
    assert laws is not None
    assert not laws.broken


@on_cpu
@pytest.mark.parametrize("operator", [*THIN, UNORDERED[1]], ids=str)
def test_the_order_of_threads_changes_no_bit(operator):
    """Every launch shuffles them anew, so what comes out twice alike needs no luck."""
    problem = small(operator, T=C + 1, causal=operator not in UNORDERED)
    truth = truths(problem, 0)
    first, *others = [
        tensors_of(CUDA.run, problem, truth.inputs, truth.cotangents) for _ in range(3)
    ]
    for other in others:
        assert all(torch.equal(other[name], tensor) for name, tensor in first.items())


@on_cpu
def test_inputs_may_lie_anywhere_in_memory():
    problem = small(Operator("kda", "elu+1", "sum"), T=5)
    run = CUDA.run

    def turned(problem, inputs):
        turn = {name: getattr(inputs, name).mT.contiguous().mT for name in ("q", "k", "v")}
        gates = {name: gate.mT.contiguous().mT for name, gate in inputs.gates.items()}
        assert not turn["q"].is_contiguous()
        state = inputs.state._replace(S=inputs.state.S.mT.contiguous().mT)
        return run(problem, inputs._replace(**turn, gates=gates, state=state))

    taken()
    agreement = check(turned, problem, truths(problem, 0))
    assert agreement.status == "ok", agreement.reason
    assert taken().keys() == {"q", "k", "v", "alpha", "beta", "S"}


# What it cannot do. Nothing is compiled to ask.


@pytest.mark.parametrize("operator", OPERATORS, ids=str)
def test_only_what_keeps_its_tokens_is_refused(operator):
    """In every dtype but fp64, with every way to read; by a reason that names the rule."""
    rule = operator.update_rule
    ways = [{}, {"direction": "decode"}, {"reads": False}, {"masked": not rule.keeps_tokens}]
    ways += [{"causal": not rule.order_free}]
    for way in ways:
        for dtype in ("fp32", "bf16", "fp16"):
            reason = CUDA.cannot(small(operator, **(way | {"dtype": dtype})))
            assert (reason is None) == (not rule.keeps_tokens)
            assert reason is None or operator.rule in reason


REFUSED = {
    "fp64": (FWM, {"dtype": "fp64"}),
    "D = 1200": (Operator("delta", "dpfp-3", "sum"), {"direction": "decode", "K": 200}),
    "128 × 128 = 16384 numbers": (FWM, {"K": 128, "V": 128}),
    "and forward no layout": (FWM, {"K": 256, "V": 256, "direction": "forward"}),
    "and backward no layout": (FWM, {"K": 100, "V": 96}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_cannot_do_is_named(name):
    operator, changes = REFUSED[name]
    assert name in CUDA.cannot(small(operator, **changes))


@pytest.mark.parametrize(("K", "V"), [(96, 96), (64, 128), (32, 256), (128, 64)])
def test_the_clip_leaves_room_for_usual_heads(K, V):
    assert CUDA.cannot(small(FWM, K=K, V=V)) is None
