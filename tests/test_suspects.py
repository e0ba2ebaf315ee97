"""A failure says where it is, and which known bug it looks like."""

from __future__ import annotations

import pytest
import torch

from fwpbench.harness.fingerprint import Fingerprint, Place, fingerprint, likeness, location
from fwpbench.harness.gate import judge
from fwpbench.harness.golden import Truths
from fwpbench.harness.mutants import MUTANTS
from fwpbench.harness.mutants.form import Form
from fwpbench.harness.suspects import Seen, explained, suspects

truths = Truths(64)


@pytest.mark.parametrize("name", list(MUTANTS)[::4])
def test_mutants_are_recognised_in_chunks_that_no_kernel_has(name):
    """On other inputs, and from the tensors that are wrong and where they are alone."""
    problem = MUTANTS[name].problems("fp32")[0]
    truth = truths(problem, 5)
    agreement, laws = judge(MUTANTS[name].make(24), problem, truth)
    if agreement.comparisons and agreement.status != "ok":
        found = fingerprint(agreement, laws, problem.tokens)
        assert name in suspects([Seen(problem, truth, found)])


def explanation(run, name: str, direction: str = "forward+backward") -> str:
    problem = next(p for p in MUTANTS[name].problems("fp32") if p.direction == direction)
    truth = truths(problem, 1)
    agreement, laws = judge(run, problem, truth)
    return explained(agreement, laws, problem, truth).reason


def test_the_bug_is_named():
    name = "decay dropped at a chunk border"
    reason = explanation(MUTANTS[name].make(64), name)
    assert "o, dq wrong from t = 64 (where a chunk of 64, 32 or 16 begins) to the end" in reason
    assert f"looks like: {name}" in reason


def test_a_new_bug_still_has_a_place():
    class Odd(Form):
        def returned(self, output, inputs):
            t = torch.arange(output.o.shape[1])[:, None, None]
            return output._replace(o=torch.where((t >= 20) & (t < 31), 1.001, 1.0) * output.o)

    reason = explanation(Odd(), "zeros", "forward")
    assert "o wrong from t = 20 to t = 30" in reason


def place(first: int | None, last: int | None) -> Fingerprint:
    places = {"o": Place(first, last, 67)}
    return Fingerprint("incorrect", frozenset({"o", "S"}), {"o": 0.1}, places, None)


def test_a_place_is_a_sentence():
    assert location(place(0, 66)) == "o wrong from the first token to the last"
    assert location(place(66, 66)) == "o wrong at t = 66 alone"
    assert location(place(5, 47)) == "o wrong from t = 5 to t = 47 (where a chunk of 16 ends)"
    assert location(place(32, 66)) == (
        "o wrong from t = 32 (where a chunk of 32 or 16 begins) to the end"
    )
    assert location(place(None, None)) == "o wrong"


def test_likeness():
    here = place(32, 66)
    assert likeness(here, here) == 1
    assert 0.8 < likeness(here, place(64, 66)) < 1
    assert likeness(here, place(5, 20)) < likeness(here, place(64, 66))
    nothing = Fingerprint("incorrect", frozenset(), {}, {}, None)
    assert likeness(here, nothing) == 0
