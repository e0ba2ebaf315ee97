"""The gate: what it allows, what it refuses, and what it says it cannot tell."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from fwpbench.harness.agreement import Agreement, check, compare, ill_conditioned
from fwpbench.harness.golden import Truth, Truths, find_truth, tensors_of
from fwpbench.harness.poison import Poisoned
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations.base import Output
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import Problem
from fwpbench.operators.state import State
from tests.tables import VARIED, problem_of

GATED_DELTA = problem_of(
    Operator("gated-delta", "elu+1", "sum"), B=1, T=67, H=2, K=8, V=6, dtype="fp32",
    direction="forward+backward", inputs="realistic",
)  # fmt: skip
LINEAR = GATED_DELTA.replace(rule="sum", norm="attention")
run_chunked = IMPLEMENTATIONS["chunked"].run


@pytest.fixture(scope="module")
def truths() -> Truths:
    return Truths()


def changed(problem: Problem, inputs: Inputs, **edits) -> Output:
    """What chunked returns, with o, S or z edited."""
    output = run_chunked(problem, inputs)
    S, z = output.state
    o = edits.get("o", lambda x: x)(output.o)
    return Output(o, State(edits.get("S", lambda x: x)(S), edits.get("z", lambda x: x)(z)))


WRONG = {
    "zeros": lambda p, x: changed(p, x, o=torch.zeros_like),
    "the mean of o": lambda p, x: changed(p, x, o=lambda o: 0 * o + o.mean(1, True)),
    "a copy of v": lambda p, x: changed(p, x, o=lambda o: 0 * o + x.v),
    "o off by one token": lambda p, x: changed(p, x, o=lambda o: o.roll(1, 1)),
    "the last token left out": lambda p, x: changed(
        p, x, o=lambda o: torch.cat([o[:, :-1], 0 * o[:, -1:]], 1)
    ),
    "one row of o a tenth too large": lambda p, x: changed(
        p, x, o=lambda o: o * torch.where(torch.arange(67) == 31, 1.1, 1.0)[:, None, None]
    ),
    "o too large by 10⁻⁴": lambda p, x: changed(p, x, o=lambda o: o * 1.0001),
    "the initial state returned": lambda p, x: changed(p, x, S=lambda S: 0 * S + x.state.S),
    "a state kept in fp16": lambda p, x: changed(p, x, S=lambda S: S.half().float()),
    "no initial state": lambda p, x: run_chunked(
        p, x._replace(state=State(0 * x.state.S, None if x.state.z is None else 0 * x.state.z))
    ),
    "heads mixed up": lambda p, x: changed(p, x, o=lambda o: o.flip(2)),
    "the gradient of k detached": lambda p, x: run_chunked(p, x._replace(k=x.k.detach())),
    "half the gradient of v": lambda p, x: run_chunked(p, x._replace(v=x.v / 2 + x.v.detach() / 2)),
}


@pytest.mark.parametrize("problem", [GATED_DELTA, LINEAR], ids=["gated-delta", "sum"])
@pytest.mark.parametrize("name", WRONG)
def test_wrong_results_are_incorrect(name, problem, truths):
    agreement = check(WRONG[name], problem, truths(problem, 0))
    assert agreement.status == "incorrect", name
    assert agreement.worst_ratio > 1


def test_the_gate_names_the_tensors_that_are_wrong(truths):
    agreement = check(WRONG["half the gradient of v"], GATED_DELTA, truths(GATED_DELTA, 0))
    assert [n for n, c in agreement.comparisons.items() if c.verdict == "wrong"] == ["dv"]
    assert "dv" in agreement.reason


def test_nan_is_not_finite(truths):
    def run(problem, inputs):
        return changed(problem, inputs, S=lambda S: S / 0 * 0)

    assert check(run, GATED_DELTA, truths(GATED_DELTA, 0)).status == "not-finite"


FORMS = {
    "no state": (lambda out: Output(out.o, None), "S was not returned"),
    "float64": (lambda out: Output(out.o.double(), out.state), "expected torch.float32"),
    "heads first": (lambda out: Output(out.o.transpose(1, 2), out.state), "shape"),
    "a z nobody asked for": (
        lambda out: Output(out.o, State(out.state.S, out.state.S[..., 0])),
        "z was returned",
    ),
}


FORMS |= {
    "expanded": (lambda out: Output(out.o[:, :1].expand(out.o.shape), out.state), "expanded"),
    "lazy": (
        lambda out: Output(torch.complex(0 * out.o, -out.o).conj().imag, out.state),
        "o is lazy",
    ),
    "a subclass": (lambda out: Output(torch.nn.Parameter(out.o.detach()), out.state), "Parameter"),
}


@pytest.mark.parametrize("name", FORMS)
def test_results_of_the_wrong_form_are_incorrect(name, truths):
    """With gradients and without: autograd is not asked about what has the wrong shape."""
    edit, sentence = FORMS[name]
    for direction in ("forward", "forward+backward"):
        problem = GATED_DELTA.replace(direction=direction)
        agreement = check(lambda p, x: edit(run_chunked(p, x)), problem, truths(problem, 0))
        assert agreement.status == "incorrect"
        assert sentence in agreement.reason


def test_slices_of_a_larger_block_are_results_too(truths):
    """Their numbers were computed; where they lie is the implementation's business."""

    def run(problem, inputs):
        output = run_chunked(problem, inputs)
        return output._replace(o=torch.cat([output.o, output.o], dim=-1)[..., : problem.V])

    assert check(run, GATED_DELTA, truths(GATED_DELTA, 0)).status == "ok"


EMPTY = {
    "torch.empty": lambda like: torch.empty(like.shape),
    "empty_like": torch.empty_like,
    "new_empty": lambda like: like.new_empty(like.shape),
    "empty_strided": lambda like: torch.empty_strided(like.shape, like.stride()),
    "resize_": lambda like: torch.zeros(0).resize_(like.shape),
    "out=": lambda like: torch.empty(like.shape, out=torch.zeros(like.shape)),
}


@pytest.mark.parametrize("name", EMPTY)
def test_what_was_never_written_is_not_finite(name, truths):
    """Whatever lies in that memory, were it the right answer of an earlier call."""

    def run(problem, inputs):
        output = run_chunked(problem, inputs)
        unwritten = EMPTY[name](output.o.detach().contiguous())
        return output._replace(o=torch.cat([output.o[:, :-1], unwritten[:, -1:]], dim=1))

    agreement = check(run, GATED_DELTA, truths(GATED_DELTA, 0))
    assert agreement.status == "not-finite"
    assert agreement.comparisons["o"].first_token == 66


def test_poison_ends_with_the_call_and_spares_what_has_a_value(truths):
    with Poisoned():
        assert torch.empty(3).isnan().all()
        assert torch.empty(3, dtype=torch.int32).eq(2**30).all()
        grown = torch.ones(2).resize_(4)
        assert grown[:2].eq(1).all()
        assert grown[2:].isnan().all()
        assert torch.ones(4).resize_(2).eq(1).all()
    assert not torch.full((3,), 1.0).isnan().any()


@pytest.mark.parametrize("name", ["q", "k", "v", "alpha", "beta", "S0"])
def test_an_input_that_was_changed_is_named(name, truths):
    """Right results or not, with gradients or not; the truth stays as it was."""

    def run(problem, inputs):
        output = run_chunked(problem, inputs)
        named = {**inputs._asdict(), **inputs.gates, "S0": inputs.state.S}
        named[name].data.add_(1e-3)
        return output

    for direction in ("forward", "forward+backward"):
        problem = GATED_DELTA.replace(direction=direction)
        agreement = check(run, problem, truths(problem, 0))
        assert agreement.status == "input-modified"
        assert agreement.reason == f"the call changed {name}"
        assert check(run_chunked, problem, truths(problem, 0)).status == "ok"


def test_wrong_tokens_are_counted_from_0(truths):
    def run(problem, inputs):
        return changed(
            problem, inputs, o=lambda o: torch.cat([o[:, :20], 2 * o[:, 20:40], o[:, 40:]], 1)
        )

    found = check(run, GATED_DELTA, truths(GATED_DELTA, 0)).comparisons
    assert (found["o"].first_token, found["o"].last_token) == (20, 39)
    assert (found["S"].first_token, found["S"].last_token) == (None, None)


def test_what_zeros_would_pass_is_no_evidence():
    """β = 0 from no state: the truth is 0, whoever returns it has shown nothing."""
    problem = problem_of(
        Operator("delta", "elu+1", "sum"), dtype="fp32", inputs="beta-0", state="out"
    )
    agreement = check(run_chunked, problem, find_truth(problem, 0))
    assert (agreement.status, agreement.evidence) == ("ok", False)
    assert {c.verdict for c in agreement.comparisons.values()} == {"non-discriminating"}


def test_what_is_wrong_there_is_still_wrong():
    problem = problem_of(
        Operator("delta", "elu+1", "sum"), dtype="fp32", inputs="beta-0", state="out"
    )
    agreement = check(
        lambda p, x: changed(p, x, o=lambda o: o + 1), problem, find_truth(problem, 0)
    )
    assert agreement.status == "incorrect"


def test_a_case_the_reference_cannot_do_is_nobodys_fault():
    """Decided from golden and yardstick, before any implementation is asked."""
    truth = find_truth(GATED_DELTA, 0)
    spoiled = [dict(yardstick) for yardstick in truth.yardsticks]
    spoiled[0]["o"] = spoiled[0]["o"] * 1.2
    truth = Truth(truth.inputs, truth.cotangents, truth.golden, tuple(spoiled))
    reason = ill_conditioned(truth)
    assert "errs 20 % in o" in reason

    def never(problem, inputs):
        raise AssertionError("asked")

    assert check(never, GATED_DELTA, truth) == Agreement("unsupported", reason, {}, False)


def test_what_is_allowed_is_three_yardsticks_and_a_round_off():
    truth = find_truth(GATED_DELTA, 0)
    golden = truth.golden["o"]
    e = max(
        float((yardstick["o"].double() - golden).square().mean().sqrt())
        for yardstick in truth.yardsticks
    )
    found = compare(truth, "o", truth.yardsticks[0]["o"])
    u, rms = 2.0**-24, float(golden.square().mean().sqrt())
    assert found.yardstick == e
    assert found.allowed == pytest.approx(3 * e + u * rms, rel=1e-12)
    assert found.golden_rms == pytest.approx(rms)
    assert found.error <= e


@pytest.mark.parametrize("dtype", ["fp32", "tf32", "bf16", "fp16"])
@pytest.mark.parametrize("operator", VARIED, ids=str)
def test_the_yardsticks_themselves_pass(operator, dtype):
    """Honest arithmetic in the dtype is never called wrong."""
    problem = problem_of(operator, B=1, T=40, H=2, dtype=dtype, direction="forward+backward")
    truth = find_truth(problem, 0)
    if ill_conditioned(truth) is None:
        for yardstick in truth.yardsticks:
            for name, tensor in yardstick.items():
                assert compare(truth, name, tensor).ratio <= 1, name


def test_a_forward_case_is_judged_by_the_truth_found_with_gradients():
    truths = Truths()  # of its own: whoever asks forward first gets a smaller truth
    truth = truths(GATED_DELTA, 0)
    forward = GATED_DELTA.replace(direction="forward")
    assert truths(forward, 0) is truth
    agreement = check(run_chunked, forward, truth)
    assert list(agreement.comparisons) == ["o", "S"]
    assert truths(GATED_DELTA, 1) is not truth


def test_gradients_are_those_of_all_outputs_together():
    """dS0 of o and S: finite differences of Σ ⟨output, cotangent⟩."""
    problem = GATED_DELTA.replace(dtype="fp64", T=5)
    truth = find_truth(problem, 0)

    def value(S):
        inputs = truth.inputs._replace(state=State(S))
        output = tensors_of(
            run_chunked, problem.replace(direction="forward"), inputs, truth.cotangents
        )
        return sum((output[name] * truth.cotangents[name]).sum() for name in output)

    S = truth.inputs.state.S
    step = torch.zeros_like(S)
    step[0, 1, 2, 3] = 1e-6
    slope = (value(S + step) - value(S - step)) / 2e-6
    assert float(slope) == pytest.approx(float(truth.golden["dS0"][0, 1, 2, 3]), rel=1e-6)


def test_comparisons_are_plain_numbers(truths):
    found = check(run_chunked, GATED_DELTA, truths(GATED_DELTA, 0)).as_json()
    assert set(found) == {"o", "S", "dq", "dk", "dv", "dalpha", "dbeta", "dS0"}
    for comparison in found.values():
        values = [value for name, value in comparison.items() if name != "verdict"]
        assert all(type(value) is float for value in values)


def test_agreement_is_frozen(truths):
    agreement = check(run_chunked, GATED_DELTA, truths(GATED_DELTA, 0))
    with pytest.raises(dataclasses.FrozenInstanceError):
        agreement.status = "ok"
