"""A failure says where it is, and which known bug it looks like."""

from __future__ import annotations

import torch

from fwpbench.harness.fingerprint import Fingerprint, Place, fingerprint, likeness, location
from fwpbench.harness.gate import judge
from fwpbench.harness.golden import Truths
from fwpbench.harness.mutants import MUTANTS
from fwpbench.harness.mutants.form import Form
from fwpbench.harness.suspects import explained, suspects

truths = Truths(64)


def test_mutants_are_recognised_on_other_inputs():
    """With another seed and chunks of 32: at least 19 of 20 by name, in one direction or both."""
    named = asked = 0
    for name, mutant in MUTANTS.items():
        hits = []
        for problem in mutant.problems("fp32"):
            agreement, laws = judge(mutant.make(32), problem, truths(problem, 5))
            if agreement.status in ("incorrect", "not-finite") and agreement.comparisons:
                found = fingerprint(agreement, laws, problem.tokens)
                hits.append(name in suspects(found, problem))
        asked, named = asked + bool(hits), named + any(hits)
    assert named >= 0.95 * asked, f"{named} of {asked}"


def explanation(run, name: str, direction: str = "forward+backward") -> str:
    problem = next(p for p in MUTANTS[name].problems("fp32") if p.direction == direction)
    agreement, laws = judge(run, problem, truths(problem, 1))
    return explained(agreement, laws, problem).reason


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
