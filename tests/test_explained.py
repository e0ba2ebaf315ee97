"""What the two pictures say of the paper holds for the operators that draw them."""

from __future__ import annotations

import math

import pytest

from fwpbench.reports import explained, forgetting

FULL, REWRITTEN, OVERFLOWN = forgetting.ACTS


def likeness(rule: str, token: int) -> dict[int, float]:
    return {
        one.pair: one.likeness
        for one in forgetting.answers()
        if one.rule == rule and one.token == token
    }


@pytest.mark.parametrize("rule", forgetting.RULES)
def test_a_memory_answers_rightly_until_it_is_full(rule: str) -> None:
    assert list(likeness(rule, FULL)) == list(range(1, forgetting.ROOM + 1))
    assert likeness(rule, FULL) == pytest.approx(dict.fromkeys(range(1, 9), 1.0))


def test_the_delta_rule_replaces_and_the_sum_rule_mixes() -> None:
    assert likeness("delta", REWRITTEN) == pytest.approx(dict.fromkeys(range(1, 9), 1.0))
    mixed = likeness("sum", REWRITTEN)
    # Four values in directions of no relation: each is a half of their sum, give or take.
    assert all(0.3 < mixed[pair] < 0.75 for pair in range(1, 5))
    assert [mixed[pair] for pair in range(5, 9)] == pytest.approx([1.0] * 4)


def test_more_keys_than_room_are_forgotten_by_both() -> None:
    for rule in forgetting.RULES:
        assert min(likeness(rule, OVERFLOWN).values()) < 0.5
    assert likeness("delta", OVERFLOWN)[forgetting.PAIRS] == pytest.approx(1.0)
    assert likeness("sum", OVERFLOWN)[forgetting.PAIRS] < 0.9


def test_every_token_shows_the_pairs_that_were_stored() -> None:
    for token in range(1, len(forgetting.WRITES) + 1):
        known = {pair + 1 for pair in forgetting.WRITES[:token]}
        assert all(set(likeness(rule, token)) == known for rule in forgetting.RULES)


def test_a_key_in_the_plane_has_the_feature_that_its_colour_names() -> None:
    relu = lambda x: max(x, 0.0)  # noqa: E731
    expected = {
        "relu(k₁) · relu(−k₂)": lambda x, y: relu(x) * relu(-y),
        "relu(k₁) · relu(k₂)": lambda x, y: relu(x) * relu(y),
        "relu(−k₁) · relu(k₂)": lambda x, y: relu(-x) * relu(y),
        "relu(−k₁) · relu(−k₂)": lambda x, y: relu(-x) * relu(-y),
    }
    (data,) = explained.dpfp_chart(size=100)["datasets"].values()
    assert len(data) == len({(row["x"], row["y"]) for row in data}) == 4 * explained.STEPS**2
    for row in data:
        strength = expected[row["feature"]](row["x"], row["y"])
        assert math.isclose(row["strength"], strength, abs_tol=2e-3)
