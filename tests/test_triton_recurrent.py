"""The recurrent Triton kernels, interpreted: decoding, and over time what goes token by token."""

from __future__ import annotations

import pytest

from fwpbench.harness.agreement import check
from fwpbench.harness.gate import judge
from fwpbench.harness.golden import Truths
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations._copies import taken
from fwpbench.implementations._kernel_terms import tokens_between
from fwpbench.implementations.triton_kernels import recurrent_plan as plans
from fwpbench.implementations.triton_kernels.recurrent_plan import is_recurrent, recurrent_plan
from fwpbench.operators import UPDATE_RULES
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import Problem
from tests.tables import OPERATORS, families_of, problem_of

TRITON = IMPLEMENTATIONS["triton"]
interpreted = pytest.mark.skipif(
    TRITON.missing() is not None or "cpu" not in TRITON.devices,
    reason=TRITON.missing() or "TRITON_INTERPRET=1 is not set",
)
truths = Truths()

MAPS = ("identity", "elu+1", "relu", "tanh", "dpfp-1", "dpfp-2", "dpfp-3")
RULES = [name for name in UPDATE_RULES if not UPDATE_RULES[name].keeps_tokens]
FAVOR = ("favor-16", "favor-published-16")
DECODED = [o for o in OPERATORS if o.rule in RULES and o.phi in MAPS + FAVOR]
#: Every rule, every map, every way in which z follows or does not.
THIN = [
    Operator("sum", "identity", "none"),
    Operator("decay", "dpfp-2", "sum+attention"),
    Operator("gla", "relu", "attention"),
    Operator("gated", "dpfp-1", "sum+attention"),
    Operator("delta", "elu+1", "attention"),
    Operator("gated-delta", "dpfp-3", "l2"),
    Operator("kda", "tanh", "l2"),
    Operator("fwm", "tanh", "none"),
]
#: Of every rule with every normalisation one; the maps take turns.
KINDS = {
    (o.rule, o.norm): [p for p in DECODED if (p.rule, p.norm) == (o.rule, o.norm)] for o in DECODED
}
BACKWARD = [operators[n % len(operators)] for n, operators in enumerate(KINDS.values())]
#: Of every way in which z follows or does not, one.
KEPT = [o for o in THIN if o.rule in ("gla", "gated", "delta", "kda")]
OVER_TIME = [o for o in THIN if o.rule in ("gla", "kda", "fwm")]
FWM = Operator("fwm", "tanh", "none")
WITHOUT_CHUNKS = [o for o in DECODED if o.rule in plans.TOKEN_BY_TOKEN]
#: From one kept state to the next, for the lengths here.
C = tokens_between(37)


def small(operator: Operator, **changes) -> Problem:
    """Odd sizes, filled up in every axis."""
    sizes = {"B": 1, "T": 37, "H": 2, "K": 10, "V": 7, "dtype": "fp32"}
    return problem_of(operator, **(sizes | changes))


def agrees(problem: Problem, seed: int = 0) -> None:
    assert TRITON.refuses(problem) is None
    agreement = check(TRITON.run, problem, truths(problem, seed))
    assert agreement.status == "ok", f"{problem}: {agreement.reason}"


@interpreted
@pytest.mark.parametrize("operator", DECODED, ids=str)
def test_decoding_agrees(operator):
    agrees(small(operator, direction="decode"))


@interpreted
@pytest.mark.oldest_triton
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("operator", THIN, ids=str)
def test_decoding_in_low_precision_agrees(operator, dtype):
    agrees(small(operator, direction="decode", dtype=dtype), seed=1)


@interpreted
@pytest.mark.parametrize("operator", THIN, ids=str)
def test_decoding_a_token_that_may_not_count_agrees(operator):
    """Of five rows at least one token counts and one does not."""
    problem, seed = small(operator, direction="decode", masked=True, B=5), 4
    mask = truths(problem, seed).inputs.mask
    assert mask.any()
    assert not mask.all()
    agrees(problem, seed)


@interpreted
@pytest.mark.parametrize("operator", [o for o in THIN if o.rule != "fwm"], ids=str)
def test_tiles_of_value_columns_make_the_whole(operator):
    problem = small(operator, direction="decode", H=1, K=130, V=33)
    assert recurrent_plan(problem).tiles > 1
    agrees(problem)


@interpreted
def test_of_one_token_reading_after_all_is_written_is_the_same():
    agrees(small(Operator("sum", "elu+1", "attention"), direction="decode", causal=False))


@interpreted
@pytest.mark.parametrize("direction", ["forward", "forward+backward"])
@pytest.mark.parametrize("operator", WITHOUT_CHUNKS, ids=str)
def test_every_operator_agrees_at_every_length(operator, direction):
    """One token, and around that whose state is kept; C + 1 is prime.

    One token of one head is too little to judge by: rounding there is a single draw.
    """
    assert C == 16
    agrees(small(operator, T=1, B=4, direction=direction))
    for T in (C - 1, C, C + 1):
        agrees(small(operator, T=T, H=1, direction=direction))


@interpreted
@pytest.mark.oldest_triton
@pytest.mark.parametrize("state", ["none", "in", "out", "in+out"])
@pytest.mark.parametrize("operator", OVER_TIME, ids=str)
def test_going_over_time_agrees(operator, state):
    agrees(small(operator, T=19, state=state, dtype="bf16" if state == "in" else "fp32"))


@interpreted
@pytest.mark.parametrize("operator", OVER_TIME, ids=str)
def test_a_mask_and_writing_alone_agree(operator):
    agrees(small(operator, T=19, masked=True))
    agrees(small(operator, T=19, reads=False))


def over_time(operator: Operator, **changes) -> Problem:
    """Masked where the rule would go in whole chunks else."""
    masked = operator.rule not in plans.TOKEN_BY_TOKEN
    rest = {"masked": masked, "direction": "forward+backward"}
    problem = small(operator, **(rest | changes))
    assert is_recurrent(problem)
    return problem


@interpreted
@pytest.mark.parametrize(("n", "operator"), list(enumerate(BACKWARD)), ids=str)
def test_gradients_agree(n, operator):
    """With a mask and without, where the rule goes token by token anyway.

    Many rows: of a few numbers the yardstick may have some right by luck. But one of fwm, for more
    would meet the kink of its clip, where a gradient is a toss in float64 too.
    """
    masked = n % 2 == 0 or operator.rule not in plans.TOKEN_BY_TOKEN
    rows = 1 if operator.rule == "fwm" else 5
    agrees(over_time(operator, masked=masked, T=2 + n % 2, B=rows))


@interpreted
@pytest.mark.parametrize(("n", "operator"), list(enumerate(KEPT)), ids=str)
def test_gradients_agree_over_kept_states(n, operator):
    """The states take turns."""
    state = ("none", "in", "out", "in+out")[n % 4]
    agrees(over_time(operator, T=C + 1, H=1, state=state))


@interpreted
@pytest.mark.oldest_triton
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("operator", [*KEPT, Operator("kda", "favor-16", "l2")], ids=str)
def test_gradients_in_low_precision_agree(operator, dtype):
    agrees(over_time(operator, T=4, dtype=dtype), seed=1)


@interpreted
@pytest.mark.parametrize(("n", "operator"), list(enumerate(THIN)), ids=str)
def test_gradients_of_writing_alone_agree(n, operator):
    """Those of the rule sum need no order (test_triton_unordered.py)."""
    if operator.rule != "sum":
        rows = 1 if operator.rule == "fwm" else 5
        agrees(over_time(operator, T=2, B=rows, reads=False, masked=n % 2 == 0))


@interpreted
@pytest.mark.parametrize("operator", KEPT, ids=str)
def test_tiles_of_value_columns_add_up(monkeypatch, operator):
    monkeypatch.setattr(plans, "TILE", 256)
    problem = over_time(operator, T=2, K=5, V=33)
    assert recurrent_plan(problem, backward=True).tiles > 1
    agrees(problem)


@interpreted
@pytest.mark.parametrize("operator", [KEPT[0], *KEPT[2:], Operator("gated", "relu", "l2")], ids=str)
def test_gates_may_be_exactly_0_and_1(operator):
    """Gated without z: where it forgets all (β = 1), it reads the last value back, whatever the
    key, so that dk is what cancels, and of several honest orders of sums none is within another's.
    """
    problem = over_time(operator, T=5, inputs="saturated-gates")
    for gate in truths(problem, 0).inputs.gates.values():
        assert {0.0, 1.0} <= set(gate.flatten().tolist())
    agrees(problem)


@interpreted
def test_a_decoded_token_has_gradients():
    """No direction of a problem asks for them; whoever decodes inside a training does."""

    def decodes(problem, inputs):
        return TRITON.run(problem.replace(direction="decode"), inputs)

    problem = small(Operator("delta", "elu+1", "attention"), T=1, B=4)
    problem = problem.replace(direction="forward+backward")
    agreement = check(decodes, problem, truths(problem, 0))
    assert agreement.status == "ok", agreement.reason


@interpreted
@pytest.mark.parametrize("state", ["none", "in", "out", "in+out"])
def test_gradients_of_fwm_agree_over_kept_states(state):
    T = 37 if state == "in+out" else C + 1
    agrees(small(FWM, T=T, H=1, state=state, direction="forward+backward"))


@interpreted
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("phi", ["tanh", "dpfp-2"])
def test_gradients_of_fwm_in_low_precision_agree(phi, dtype):
    problem = small(Operator("fwm", phi, "none"), T=C + 1, H=1, dtype=dtype)
    agrees(problem.replace(direction="forward+backward"), seed=1)


@interpreted
@pytest.mark.parametrize("what", [{"masked": True}, {"reads": False}], ids=str)
def test_gradients_of_fwm_with_a_mask_and_of_writing_alone_agree(what):
    agrees(small(FWM, T=C + 1, direction="forward+backward", **what))


@interpreted
@pytest.mark.parametrize("inputs", families_of(FWM))
def test_every_family_of_inputs_agrees(inputs):
    """Among them keys so small that tanh must not cancel, so large that exp overflows.

    A token that writes nothing leaves ‖S‖ = 1, where the clip has a kink: rounding chooses one of
    two gradients, in float64 too.
    """
    writes_nothing = inputs in ("zero-keys", "beta-0", "saturated-gates")
    direction = "forward" if writes_nothing else "forward+backward"
    agrees(small(FWM, T=9, direction=direction, inputs=inputs))


@interpreted
@pytest.mark.parametrize("operator", OVER_TIME, ids=str)
def test_the_gate_with_its_laws(operator):
    problem = small(operator, T=6, inputs="realistic")
    agreement, laws = judge(TRITON.run, problem, truths(problem, 0), "cpu", TRITON.cannot)
    assert agreement.status == "ok", agreement.reason
    assert laws is not None
    assert not laws.broken


@interpreted
def test_inputs_may_lie_anywhere_in_memory():
    problem = small(Operator("kda", "elu+1", "sum"), direction="decode")
    run = TRITON.run

    def turned(problem, inputs):
        turn = {name: getattr(inputs, name).mT.contiguous().mT for name in ("q", "k", "v")}
        gates = {name: gate.mT.contiguous().mT for name, gate in inputs.gates.items()}
        assert not turn["q"].is_contiguous()
        state = inputs.state._replace(S=inputs.state.S.mT.contiguous().mT)
        return run(problem, inputs._replace(**turn, gates=gates, state=state))

    taken()
    agreement = check(turned, problem, truths(problem, 0))
    assert agreement.status == "ok", agreement.reason
    assert taken().keys() == {"q", "k", "v", "alpha", "S"}


NO_CHUNKS = {
    "a mask": (Operator("sum", "elu+1", "attention"), {"masked": True, "B": 5}),
    "writing alone": (Operator("gated-delta", "identity", "l2"), {"reads": False, "state": "out"}),
    "FAVOR too": (Operator("delta", "favor-32", "attention"), {"masked": True, "B": 5}),
}


@interpreted
@pytest.mark.parametrize("direction", ["forward", "forward+backward"])
@pytest.mark.parametrize("name", NO_CHUNKS)
def test_it_takes_what_has_no_chunk_form(name, direction):
    operator, changes = NO_CHUNKS[name]
    problem = small(operator, T=9, direction=direction, **changes)
    assert is_recurrent(problem)
    agrees(problem)


# What it cannot do. Nothing of Triton is needed to ask.


@pytest.mark.parametrize("operator", DECODED, ids=str)
def test_decoding_is_refused_nowhere(operator):
    for dtype in ("fp32", "bf16", "fp16"):
        assert TRITON.cannot(small(operator, direction="decode", dtype=dtype)) is None


@pytest.mark.parametrize("operator", [o for o in OPERATORS if o not in DECODED], ids=str)
def test_what_it_cannot_decode_has_a_sentence(operator):
    reason = TRITON.cannot(small(operator, direction="decode"))
    assert operator.rule in reason or operator.phi in reason


REFUSED = {
    "fp64": (FWM, {"dtype": "fp64"}),
    "D = 1200": (Operator("delta", "dpfp-3", "sum"), {"direction": "decode", "K": 200}),
    "D × V = 129 × 100 ": (FWM, {"K": 129, "V": 100}),
    "more than 8192": (FWM, {"K": 128, "V": 65, "direction": "forward+backward"}),
    "more than 4096": (
        Operator("fwm", "dpfp-2", "none"),
        {"K": 64, "V": 17, "direction": "forward+backward"},
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_cannot_do_is_named(name):
    operator, changes = REFUSED[name]
    assert name in TRITON.cannot(small(operator, **changes))
