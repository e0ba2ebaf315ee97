"""The gate can fail, provably: every mutant is caught, and honest arithmetic is not."""

from __future__ import annotations

import time

import pytest
import torch

from fwpbench.harness.agreement import check, ill_conditioned
from fwpbench.harness.gate import judge
from fwpbench.harness.golden import Run, Truths, rounded_matmul
from fwpbench.harness.mutants import MUTANTS
from fwpbench.harness.mutants.form import Form
from fwpbench.harness.mutants.mutant import Mutant
from fwpbench.harness.mutation_score import mutation_score
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations.base import Output
from fwpbench.operators.chunk_form import chunk_form
from fwpbench.operators.operator import enumerate_operators

truths = Truths(200)
DTYPES = ("fp32", "bf16", "fp16")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MUTANTS)
def test_every_mutant_is_caught(name, dtype):
    """As the quick profile asks: T = 67, realistic inputs, with gradients and without."""
    mutant = MUTANTS[name]
    if dtype not in mutant.dtypes:
        return
    caught = [
        judge(mutant.make(16), problem, truths(problem, 0))[0].status
        for problem in mutant.problems(dtype)
    ]
    assert any(status != "ok" for status in caught)
    assert "unsupported" not in caught


def test_the_score_counts_who_is_caught_and_names_who_slipped():
    """An honest form among the mutants is one the gate lets pass."""
    honest = Mutant("honest", "Nothing is wrong.", Form, "sum elu+1 attention", lambda op: True)
    chosen = {name: MUTANTS[name] for name in ("zeros", "state in fp16", "memoised by pointer")}
    score = mutation_score("fp32", 0, mutants=chosen | {"honest": honest})
    assert (score.caught, score.total, score.slipped) == (3, 4, ("honest",))
    assert mutation_score("bf16", 0, mutants=chosen).total == 2
    assert score.as_json()["slipped"] == ("honest",)


def test_there_are_enough_of_them_and_each_is_described():
    assert len(MUTANTS) >= 20
    for name, mutant in MUTANTS.items():
        assert name == mutant.name
        assert mutant.sentence.endswith(".")
        assert mutant.concerns(mutant.operator), name
        assert "fp32" in mutant.dtypes, name


@pytest.mark.parametrize("operator", sorted({m.scored_on for m in MUTANTS.values()}))
def test_the_form_they_are_made_of_is_honest(operator):
    mutant = next(m for m in MUTANTS.values() if m.scored_on == operator)
    for dtype in DTYPES:
        for chunk in (16, 64):
            for problem in mutant.problems(dtype):
                agreement, _ = judge(Form(chunk), problem, truths(problem, 0))
                assert agreement.status == "ok", agreement.reason


def rounded(chunk: int) -> Run:
    def run(problem, inputs):
        o, state = chunk_form(
            problem, inputs, chunk=chunk, matmul=rounded_matmul(problem.torch_dtype)
        )
        return Output(o, state)

    return run


#: Float32 arithmetic, and operands rounded to the dtype at the tile sizes that kernels have.
HONEST = {
    "chunked": IMPLEMENTATIONS["chunked"].run,
    "C = 16": rounded(16),
    "C = 64": rounded(64),
    "C = 128": rounded(128),
}
SECONDS = 25.0


def test_honest_arithmetic_passes_on_999_of_1000_seeds(record_property):
    """As many seeds as there is time for, going around operators and dtypes."""
    chosen = [m.operator for m in MUTANTS.values()]
    operators = [op for op in enumerate_operators()[0] if op in chosen]
    seed = passed = judged = 0
    failures, started = [], time.perf_counter()
    while time.perf_counter() - started < SECONDS or seed < 60:
        seed += 1
        operator, dtype = operators[seed % len(operators)], DTYPES[seed // len(operators) % 3]
        mutant = next(m for m in MUTANTS.values() if m.operator == operator)
        problem = mutant.problems(dtype)[1].replace(T=33 + 2 * (seed % 50))
        truth = Truths(1)(problem, seed)
        if ill_conditioned(truth) is not None:
            continue
        for name, run in HONEST.items():
            if name == "C = 128" and dtype == "fp32" and operator.update_rule.corrects:
                continue  # the inverse of a longer chunk errs more: docs/yardstick.md
            with torch.no_grad():
                agreement = check(run, problem, truth)
            judged, passed = judged + 1, passed + (agreement.status == "ok")
            if agreement.status != "ok":
                failures.append(f"{name}, {problem}, seed {seed}: {agreement.reason}")
    record_property("honest", f"{passed} of {judged} passed, {seed} seeds")
    print(f"{passed} of {judged} honest runs passed, {seed} seeds")
    assert passed >= 0.999 * judged, "\n".join(failures)
