"""The law of growth, on made-up times whose exponent is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fwpbench.harness.scaling_law import (
    FEWEST,
    ScalingLaw,
    crossover,
    crossover_interval,
    error_of,
    fit,
)

LENGTHS = [2**n for n in range(6, 14)]


def made_up(rng, *, constant, exponent, own, between, lengths=LENGTHS):
    T = np.array(lengths, float)
    exact = constant + 1e-6 * T**exponent
    return exact * np.exp(rng.normal(0, own, len(T)) + rng.normal(0, between, len(T)))


CASES = {
    "linear": {"constant": 0.0, "exponent": 1.0},
    "linear after a launch": {"constant": 1e-4, "exponent": 1.0},
    "quadratic": {"constant": 1e-4, "exponent": 2.0},
}


@pytest.mark.parametrize(("between", "least"), [(0.0, 0.93), (0.02, 0.90)])
@pytest.mark.parametrize("name", CASES)
def test_the_interval_holds_the_exponent(name, between, least, record_property):
    rng, runs, held, widths = np.random.default_rng(0), 1000, 0, []
    for _ in range(runs):
        times = made_up(rng, own=0.005, between=between, **CASES[name])
        law = fit(LENGTHS, times, [0.005] * len(LENGTHS))
        held += law.low <= CASES[name]["exponent"] <= law.high
        widths.append(law.high - law.low)
    said = f"{name}, {between} between: {100 * held / runs:.1f} %, width {np.median(widths):.3f}"
    record_property("coverage", said)
    print(said)
    assert held / runs >= least
    assert np.median(widths) < 0.5, "an interval that says something"


def test_exact_times_give_the_exact_law():
    times = [1e-4 + 3e-7 * T**1.5 for T in LENGTHS]
    law = fit(LENGTHS, times, [0.001] * len(LENGTHS))
    assert law.exponent == pytest.approx(1.5, abs=0.005)
    assert law.constant == pytest.approx(1e-4, rel=0.02)
    assert law.at(1000) == pytest.approx(1e-4 + 3e-7 * 1000**1.5, rel=1e-3)
    assert law.spread == 0


def test_what_noise_does_not_explain_is_found():
    rng = np.random.default_rng(1)
    spreads = [
        fit(LENGTHS, made_up(rng, own=0.001, between=0.02, **CASES["linear"]), [0.001] * 8).spread
        for _ in range(50)
    ]
    assert 0.01 < np.median(spreads) < 0.03


def test_three_lengths_are_too_few():
    assert fit(LENGTHS[: FEWEST - 1], [1.0, 2.0, 4.0], [0.01] * 3) is None
    assert fit(LENGTHS[:FEWEST], [1.0, 2.0, 4.0, 8.0], [0.01] * 4) is not None


def test_a_time_that_does_not_grow_has_exponent_nought():
    law = fit(LENGTHS, [1.0] * len(LENGTHS), [0.01] * len(LENGTHS))
    assert law.at(10) == pytest.approx(1.0)
    assert law.low == 0


def test_where_one_becomes_faster_than_another():
    linear = ScalingLaw(1e-3, 1e-6, 1, 1, 1, 0)
    quadratic = ScalingLaw(0, 1e-9, 2, 2, 2, 0)
    exact = 500 + math.sqrt(500**2 + 1e6)
    assert crossover(linear, quadratic, 1e6) == pytest.approx(exact, rel=0.02)
    assert crossover(quadratic, linear, 1e6) is None
    assert crossover(linear, quadratic, 1000) is None
    assert crossover(ScalingLaw(0, 1e-9, 1, 1, 1, 0), quadratic, 1e6) == pytest.approx(1, abs=0.01)


def test_the_error_of_a_median_is_read_off_its_interval():
    assert error_of(0.98, 1.02, 1.0) == pytest.approx(0.0102, rel=0.01)
    assert error_of(None, 1.02, 1.0) is None


def test_the_interval_of_a_crossover_holds_it(record_property):
    """A launch and a linear law against a quadratic one, where they are known to cross."""
    truth = (3e-6 + math.sqrt(9e-12 + 4 * 1e-9 * 1e-3)) / (2 * 1e-9)  # about 3,400
    rng, runs, held, widths = np.random.default_rng(0), 60, 0, []
    for _ in range(runs):
        T = np.array(LENGTHS, float)
        laws = 1e-3 + 3e-6 * T, 1e-9 * T**2 + 1e-12
        times = [law * np.exp(rng.normal(0, 0.02, len(T))) for law in laws]
        found = crossover_interval(
            *((LENGTHS, time, [0.02] * len(T)) for time in times), most=LENGTHS[-1]
        )
        held += found.low <= truth <= found.high
        widths.append((found.high - found.low) / truth)
    said = f"{100 * held / runs:.0f} % of {runs} hold T*, width {np.median(widths):.2f} of it"
    record_property("coverage", said)
    print(said)
    assert held / runs >= 0.90
    assert np.median(widths) < 0.5, "an interval that says something"


def test_what_never_crosses_has_an_open_interval():
    T = np.array(LENGTHS, float)
    slow, fast = (LENGTHS, 2e-6 * T, [0.01] * 8), (LENGTHS, 1e-6 * T, [0.01] * 8)
    found = crossover_interval(slow, fast, most=LENGTHS[-1])
    assert (found.tokens, found.high) == (None, None)
    always = crossover_interval(fast, slow, most=LENGTHS[-1])
    assert always.tokens == 1.0
    few = tuple(values[:3] for values in fast)
    assert crossover_interval(few, slow, most=100) is None
