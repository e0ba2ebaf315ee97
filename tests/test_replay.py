"""Who remembers is found; who computes is not accused, whatever the noise."""

from __future__ import annotations

import math
import random

import pytest

from fwpbench.harness.replay import remembered


@pytest.mark.parametrize("sigma", [0.0, 0.02, 0.1, 0.3])
def test_who_computes_is_not_accused(sigma):
    accused = 0
    for seed in range(2000):
        chance = random.Random(seed)

        def seconds(*_: int, chance: random.Random = chance) -> float:
            return math.exp(chance.gauss(0, sigma))

        accused += remembered(seconds, seconds) is not None
    assert accused <= 0.01 * 2000


def test_a_machine_that_stutters_convicts_nobody():
    """A call takes four times as long whenever another process has the core, half of the time."""
    for seed in range(3000):
        chance = random.Random(seed)

        def seconds(*_: int, chance: random.Random = chance) -> float:
            return chance.choice((1.0, 4.0))

        assert remembered(seconds, seconds) is None


@pytest.mark.parametrize("saved", [0.99, 0.6])
@pytest.mark.parametrize("sigma", [0.0, 0.02, 0.05])
def test_who_remembers_is_found(saved, sigma):
    for seed in range(500):
        chance = random.Random(seed)

        def noise(chance: random.Random = chance) -> float:
            return math.exp(chance.gauss(0, sigma))

        part = remembered(lambda n: noise(), lambda: (1 - saved) * noise())
        assert part is not None
        assert part < 0.7


def test_who_computes_is_asked_once():
    asked = []
    assert remembered(lambda n: asked.append(n) or 1.0, lambda: 1.0) is None
    assert asked == [0]


def test_a_clock_that_stands_still_accuses_nobody():
    assert remembered(lambda n: 0.0, lambda: 0.0) is None
