"""What is ASKED of implementations. One file each; the list below is the whole list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fwpbench.operators.registry import Registry

if TYPE_CHECKING:
    from fwpbench.harness.suite import Suite

SUITES: Registry[Suite] = Registry(
    "suites",
    {
        "agreement": "fwpbench.suites.agreement:SUITE",
        "speed": "fwpbench.suites.speed:SUITE",
        "first-call": "fwpbench.suites.first_call:SUITE",
        "memory": "fwpbench.suites.memory:SUITE",
        "longest": "fwpbench.suites.longest:SUITE",
        "scaling": "fwpbench.suites.scaling:SUITE",
        "capacity": "fwpbench.suites.capacity:SUITE",
        "stability": "fwpbench.suites.stability:SUITE",
        "museum": "fwpbench.suites.museum:SUITE",
        "retrieval": "fwpbench.suites.retrieval:SUITE",
        "language-modeling": "fwpbench.suites.language_modeling:SUITE",
        "translation": "fwpbench.suites.translation:SUITE",
    },
    of="fwpbench.harness.suite:Suite",
)
