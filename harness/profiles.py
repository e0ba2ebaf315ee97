"""How much is asked: quick (minutes), standard, full."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fwpbench.harness.domains import Cache, Domain


@dataclass(frozen=True)
class Profile:
    """Bounds on one timed case, and the name that suites read to choose their cases."""

    name: str
    #: Warm-up: at least three calls and this many seconds.
    warm_up: float
    #: A case is given up after this many seconds of sampling, never before `fewest` samples.
    longest: float
    fewest: int = 3
    #: Warming up goes on until the clock rate is stable, but no longer than so many seconds.
    longest_settling: float = 3.0
    #: How many windows of two seconds a case's energy is read in; 0: it is not.
    energy_windows: int = 0
    #: In how many fresh processes a case is timed.
    processes: int = 1
    #: Data sets asked for by name; a suite takes those it knows, else its embedded one.
    data: tuple[str, ...] = ()
    #: What the speed suite times besides its default: pairs of a domain and a state of the cache.
    domains: tuple[tuple[Domain, Cache], ...] = ()

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Profile:
        """What `dataclasses.asdict` made, after a way as JSON."""
        pairs = tuple((domain, cache) for domain, cache in fields["domains"])
        return cls(**{**fields, "data": tuple(fields["data"]), "domains": pairs})

    @property
    def limit(self) -> float:
        """A case that takes longer than this many seconds hangs: two minutes beside its timing."""
        return 120.0 + 3.0 + 2 * self.longest + 4.0 * (1 + self.energy_windows)


PROFILES = {
    "quick": Profile("quick", warm_up=0.05, longest=0.7, longest_settling=0.3),
    "standard": Profile("standard", warm_up=0.2, longest=10.0, energy_windows=1),
    "full": Profile("full", warm_up=0.2, longest=60.0, energy_windows=5, processes=3),
}
