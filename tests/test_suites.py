"""The suites: what they plan, and that what they find is the mathematics."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from fwpbench.harness.device import CpuDevice
from fwpbench.harness.mutants import MUTANTS
from fwpbench.harness.plan import make_tasks
from fwpbench.harness.profiles import PROFILES
from fwpbench.harness.suite import Case, Setting
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations.base import Implementation, Output
from fwpbench.operators import FEATURE_MAPS, INPUT_FAMILIES, NORMALIZATIONS, UPDATE_RULES
from fwpbench.operators.operator import discouraged, enumerate_operators, undefined
from fwpbench.suites import SUITES, memory, timed
from fwpbench.suites.capacity import _error as capacity_error
from fwpbench.suites.named_operators import NAMED_OPERATORS, QUICK

QUICKLY = Setting(CpuDevice(), PROFILES["quick"], seed=0)
CHUNKED, REFERENCE = IMPLEMENTATIONS["chunked"], IMPLEMENTATIONS["reference"]


@pytest.mark.parametrize("profile", [PROFILES["quick"], PROFILES["standard"]], ids=str)
def test_every_record_to_come_has_its_own_key(profile):
    tasks = make_tasks(dict(SUITES), list(IMPLEMENTATIONS), profile, seed=0)
    keys = [task.key for task in tasks]
    assert len(set(keys)) == len(keys)


def test_agreement_asks_every_operator_in_every_direction_on_normal_and_realistic_inputs():
    problems = [case.problem for case in SUITES["agreement"].cases(PROFILES["quick"])]
    assert {problem.operator for problem in problems} == set(enumerate_operators()[0])
    for operator in enumerate_operators()[0]:
        mine = {(p.inputs, p.direction) for p in problems if p.operator == operator}
        assert mine == {
            (inputs, direction)
            for inputs in ("normal", "realistic")
            for direction in ("forward", "forward+backward", "decode")
        }
    assert all(problem.T % 2 for problem in problems)


def test_standard_agreement_asks_all_families_and_dtypes():
    problems = [case.problem for case in SUITES["agreement"].cases(PROFILES["standard"])]
    assert {problem.dtype for problem in problems} == {"fp32", "tf32", "bf16", "fp16"}
    assert {problem.inputs for problem in problems} == set(INPUT_FAMILIES)


def test_the_named_operators_cover_every_rule_norm_and_kind_of_map():
    named = NAMED_OPERATORS.values()
    assert {operator.rule for operator in named} == set(UPDATE_RULES)
    assert {operator.norm for operator in named} == set(NORMALIZATIONS)
    kinds = {operator.phi.rstrip("0123456789") for operator in named} - {"elu+"} | {"elu+1"}
    assert kinds == {name.rstrip("MNU") for name in FEATURE_MAPS.rows()}
    assert len(QUICK) == 8
    assert not any(undefined(operator) or discouraged(operator) for operator in named)


def case_of(suite: str, name: str, **parameters) -> Case:
    return next(
        case
        for case in SUITES[suite].cases(PROFILES["standard"])
        if case.name == name
        and all(case.parameters[key] == value for key, value in parameters.items())
    )


def capacity(name: str, load: float, implementation: Implementation = CHUNKED) -> float:
    case = case_of("capacity", name, load=load)
    return SUITES["capacity"].answer(case, implementation, QUICKLY).metrics["error"].value


def test_a_memory_with_room_is_nearly_perfect_and_a_full_one_is_not():
    """The delta rule takes back what it finds; a sum of more pairs than D has lost them."""
    assert capacity("DeltaNet", 1 / 16) < 0.05
    for name in ("DeltaNet", "Linear Transformer", "DPFP memory"):
        errors = [capacity(name, load) for load in (1 / 16, 1 / 4, 1.0, 4.0)]
        assert errors == sorted(errors)
        assert errors[-1] > 0.4
    for load in (1 / 16, 1 / 8):
        assert capacity("DeltaNet", load) < capacity("Retention", load)


def test_a_scale_is_no_loss_and_zeros_are_no_answer():
    values = torch.randn(2, 5, 1, 3, generator=torch.Generator().manual_seed(0))
    assert capacity_error(7 * values, values) == pytest.approx(0, abs=1e-12)
    assert capacity_error(0 * values, values) == 1
    noise = torch.randn(2, 5000, 1, 3, generator=torch.Generator().manual_seed(1))
    assert capacity_error(noise, noise.roll(1, 1)) == pytest.approx(1, abs=0.01)


def test_capacity_does_not_depend_on_who_computes_it():
    for name in ("Delta Network", "Retention", "Linear Transformer", "Gated DeltaNet"):
        assert capacity(name, 0.5) == pytest.approx(capacity(name, 0.5, REFERENCE), rel=1e-4)
    softmax = IMPLEMENTATIONS["torch-sdpa"]
    assert capacity("Softmax attention", 1.0, softmax) == pytest.approx(
        capacity("Softmax attention", 1.0, REFERENCE), rel=1e-4
    )


def stability(name: str, implementation: Implementation = CHUNKED) -> dict:
    case = next(c for c in SUITES["stability"].cases(PROFILES["quick"]) if c.name == name)
    answer = SUITES["stability"].answer(case, implementation, QUICKLY)
    assert answer.status == "ok"
    return {**answer.detail, "diverged": "diverged at" in answer.metrics}


def test_the_accumulator_grows_with_every_token():
    """z of attention is a sum over T keys: twice the tokens, twice z (Schlag et al. 2021, 4.2)."""
    found = stability("sum, attention")
    ratio = found["normaliser"][-1] / found["normaliser"][-2]
    assert found["tokens"][-1] == 2 * found["tokens"][-2]
    assert ratio == pytest.approx(2, rel=0.05)


def test_the_delta_rule_needs_a_normalisation():
    assert stability("delta, none")["diverged"]
    for name in ("delta, sum", "delta, l2", "delta, sum+attention"):
        found = stability(name)
        assert not found["diverged"]
        growth = found["state norm"][-1] / found["state norm"][-4]
        assert growth < found["tokens"][-1] / found["tokens"][-4], "slower than the tokens"


def test_stability_goes_through_every_token_once():
    """The state handed from stretch to stretch is that of one call over all tokens."""
    from fwpbench.operators.inputs import make_inputs

    case = next(c for c in SUITES["stability"].cases(PROFILES["quick"]) if c.name == "delta, sum")
    whole = REFERENCE.run(case.problem, make_inputs(case.problem, seed=0)).state
    found = stability("delta, sum", REFERENCE)
    assert found["state norm"][-1] == pytest.approx(float(whole.S.norm()), rel=1e-5)


def test_memory_counts_what_is_there():
    """q, k, v of [1, 64, 2, 64] and a state of [1, 2, 128, 64] in float32, to the byte."""
    case = next(
        case
        for case in SUITES["memory"].cases(PROFILES["quick"])
        if case.name == "Delta Network" and case.problem.T == 64 and not case.problem.backward
    )
    metrics = SUITES["memory"].answer(case, CHUNKED, QUICKLY).metrics
    token = 64 * 2 * 4
    assert metrics["inputs"].value == token * (3 * 64 + 1)
    assert metrics["outputs"].value == token * 64
    assert metrics["state"].value == 2 * 128 * 64 * 4
    assert metrics["peak"].value >= metrics["outputs"].value + metrics["state"].value


@pytest.mark.parametrize("suite", ["speed", "scaling", "memory", "capacity"])
def test_what_is_wrong_is_never_measured(suite):
    def wrong(problem, inputs):
        output = CHUNKED.run(problem, inputs)
        o = None if output.o is None else output.o * 1.01
        S = None if output.state is None else output.state._replace(S=output.state.S * 1.01)
        return Output(o, S)

    case = next(c for c in SUITES[suite].cases(PROFILES["quick"]) if c.name == "DeltaNet")
    answer = SUITES[suite].answer(case, Implementation(wrong, "off by one in a hundred"), QUICKLY)
    assert answer.status == "incorrect"
    assert not answer.metrics
    assert not answer.samples


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("memoised by pointer", "forward"),
        ("right on the first call only", "forward"),
        ("right on the first call only", "forward+backward"),
    ],
)
def test_what_is_right_only_when_it_is_looked_at_has_no_time(name, direction, monkeypatch):
    """The gate is taken for passed: what the timing sees is enough."""
    monkeypatch.setattr(timed, "wrong", lambda *_: None)
    case = next(
        case
        for case in SUITES["speed"].cases(PROFILES["quick"])
        if case.name == "DeltaNet" and case.problem.direction == direction
    )
    for seed in range(8):  # whatever is drawn, the results of both sets of inputs are looked at
        cheat = Implementation(MUTANTS[name].make(64), name)
        answer = SUITES["speed"].answer(case, cheat, replace(QUICKLY, seed=seed))
        assert answer.status == "incorrect"
        assert "the result of a timed call is wrong" in answer.reason
        assert not answer.metrics
        assert not answer.samples


@pytest.mark.parametrize("name", ["memoised by pointer", "right on the first call only"])
def test_what_is_right_only_when_it_is_looked_at_has_no_memory(name, monkeypatch):
    """Both calls of the measurement are judged; the gate is taken for passed."""
    monkeypatch.setattr(memory, "wrong", lambda *_: None)
    case = next(c for c in SUITES["memory"].cases(PROFILES["quick"]) if c.name == "DeltaNet")
    answer = memory.answer(case, Implementation(MUTANTS[name].make(64), name), QUICKLY)
    assert answer.status == "incorrect"
    assert not answer.metrics


@pytest.mark.parametrize("suite", ["speed", "memory", "scaling"])
def test_what_breaks_a_law_is_never_measured(suite):
    """The golden of one row agrees; rows meet where there are more."""

    def run(problem, inputs):
        o, state = CHUNKED.run(problem, inputs)
        return Output(o + 0.01 * o.mean(0, keepdim=True) * (problem.B > 1), state)

    case = next(c for c in SUITES[suite].cases(PROFILES["quick"]) if c.name == "DeltaNet")
    answer = SUITES[suite].answer(case, Implementation(run, "rows meet"), QUICKLY)
    assert answer.status == "incorrect"
    assert answer.reason.startswith("not timed: does not hold: ")
    assert "rows of a batch do not meet (rows)" in answer.reason


def test_a_timed_call_that_changes_an_input_has_no_time():
    cases = SUITES["speed"].cases(PROFILES["quick"])
    case = next(
        c for c in cases if c.name == "DeltaNet" and c.problem.T > 200
    )  # the gate's is less

    def run(problem, inputs):
        output = CHUNKED.run(problem, inputs)
        if problem.T == case.problem.T:
            inputs.v.data.add_(1)
        return output

    answer = SUITES["speed"].answer(case, Implementation(run, "touches v"), QUICKLY)
    assert (answer.status, answer.reason) == ("input-modified", "a timed call changed v")
    assert not answer.samples


def test_timed_calls_see_more_than_one_set_of_inputs_in_the_same_place():
    seen = set()

    def run(problem, inputs):
        seen.add((inputs.v.data_ptr(), float(inputs.v.flatten()[0])))
        return CHUNKED.run(problem, inputs)

    case = next(c for c in SUITES["speed"].cases(PROFILES["quick"]) if c.name == "DeltaNet")
    assert SUITES["speed"].answer(case, Implementation(run, "looks"), QUICKLY).status in (
        "ok",
        "unstable",
    )
    places = [place for place, _ in seen]
    assert max(places.count(place) for place in places) >= 2


def test_a_timed_case_keeps_its_samples_and_says_why_it_stopped():
    case = next(c for c in SUITES["speed"].cases(PROFILES["quick"]) if c.name == "DeltaNet")
    answer = SUITES["speed"].answer(case, CHUNKED, QUICKLY)
    samples = answer.samples["time"]
    assert answer.metrics["time"].value == torch.tensor(samples, dtype=torch.float64).quantile(0.5)
    assert answer.detail["stop_reason"] in ("settled", "most samples", "time limit")
    json.dumps(answer.detail)


def test_the_token_loop_is_asked_short_sequences_only_and_says_so():
    for name in ("speed", "scaling", "memory"):
        for case in SUITES[name].cases(PROFILES["quick"]):
            assert ("reference" in case.excluded) == (case.problem.T > 256)
