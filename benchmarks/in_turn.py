"""Calls one after the other, round after round, so that what else a machine does hits all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from fwpbench.implementations._room import with_room


def milliseconds_in_turn(
    calls: Sequence[tuple[str, Callable[[], Any]]], rounds: int
) -> dict[str, list[float]]:
    """By name, in each round all of them; a name that comes several times has as many samples."""
    times: dict[str, list[float]] = {name: [] for name, _ in calls}

    def measure() -> None:
        for _ in range(rounds):
            for name, call in calls:
                start = time.perf_counter()
                call()
                times[name].append(1e3 * (time.perf_counter() - start))

    with_room(measure)
    return times
