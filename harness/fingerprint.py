"""What a failure looks like: which tensors are wrong, where, by how much, and which laws broke."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fwpbench.harness.agreement import Agreement, Comparison
from fwpbench.harness.laws import Laws

#: Sizes of chunks that kernels have, the largest first.
CHUNKS = (64, 32, 16)


@dataclass(frozen=True)
class Place:
    """The first and the last wrong token; None without tokens, or where no row stands out."""

    first: int | None
    last: int | None
    tokens: int

    @property
    def begins(self) -> str:
        """What kind of place the first is: start, a border, the last token, or inside."""
        if self.first is None or self.first == 0:
            return "start"
        if self.first % CHUNKS[-1] == 0:
            return "border"
        return "last token" if self.first == self.tokens - 1 else "inside"

    @property
    def ends(self) -> str:
        if self.last is None or self.last == self.tokens - 1:
            return "end"
        return "border" if (self.last + 1) % CHUNKS[-1] == 0 else "inside"


@dataclass(frozen=True)
class Fingerprint:
    """`wrong` gives each wrong tensor's error as a fraction of the golden, `judged` all tensors.
    `laws` are the broken ones, None where no law was asked."""

    status: str
    judged: frozenset[str]
    wrong: Mapping[str, float]
    places: Mapping[str, Place]
    laws: frozenset[str] | None


def fingerprint(agreement: Agreement, laws: Laws | None, tokens: int) -> Fingerprint:
    bad = {n: c for n, c in agreement.comparisons.items() if c.verdict in ("wrong", "not-finite")}
    return Fingerprint(
        agreement.status,
        frozenset(agreement.comparisons),
        {n: c.error / c.golden_rms if c.golden_rms > 0 else math.inf for n, c in bad.items()},
        {n: Place(c.first_token, c.last_token, tokens) for n, c in bad.items()},
        None if laws is None else frozenset(laws.broken),
    )


def fingerprint_of(status: str, detail: Mapping[str, Any], tokens: int) -> Fingerprint:
    """The same from the status and the detail of an agreement record."""
    tensors = {name: Comparison(**fields) for name, fields in detail.get("tensors", {}).items()}
    laws = detail.get("laws")
    found = fingerprint(Agreement(status, "", tensors), None, tokens)
    return replace(found, laws=None if laws is None else frozenset(laws["broken"]))


def likeness(a: Fingerprint, b: Fingerprint) -> float:
    """1 where nothing tells them apart, 0 where nothing is alike.

    Only tensors that both were judged by count: another operator has other gates. Which tensors are
    wrong weighs twice as much as by how much, where, and which laws broke.
    """
    both = a.judged & b.judged
    if a.status != b.status or not both:
        return 0.0
    mine, theirs = both & a.wrong.keys(), both & b.wrong.keys()
    parts = [(2.0, _overlap(mine, theirs))]
    if a.laws is not None and b.laws is not None:
        parts.append((1.0, _overlap(a.laws, b.laws)))
    for name in mine & theirs:
        weight = 1 / len(mine & theirs)
        parts.append((weight, _near(a.wrong[name], b.wrong[name])))
        parts.append((weight, _same_place(a.places[name], b.places[name])))
    return sum(weight * value for weight, value in parts) / sum(weight for weight, _ in parts)


def _overlap(a: Collection[str], b: Collection[str]) -> float:
    return len(set(a) & set(b)) / len(set(a) | set(b)) if a or b else 1.0


def _near(a: float, b: float) -> float:
    """0 where the errors are a factor of four or more apart."""
    if not (0 < a < math.inf and 0 < b < math.inf):
        return float(a == b or (math.isnan(a) and math.isnan(b)))
    return max(0.0, 1 - abs(math.log(a / b, 4)))


def _same_place(a: Place, b: Place) -> float:
    first = 1.0 if a.first == b.first else 0.7 * (a.begins == b.begins)
    last = 1.0 if a.last == b.last else 0.7 * (a.ends == b.ends)
    return (first + last) / 2


def location(found: Fingerprint) -> str:
    """`o, dv wrong from t = 64 (where a chunk of 64, 32 or 16 begins) to the end; S wrong`"""
    alike: dict[str, list[str]] = defaultdict(list)
    for name, place in found.places.items():
        alike[_where(place)].append(name)
    parts = [f"{', '.join(names)} wrong{where}" for where, names in alike.items()]
    return "; ".join(parts)


def _where(place: Place) -> str:
    if place.first is None or place.last is None:
        return ""
    if place.first == place.last:
        return f" at t = {place.first} alone{_border(place.first, 'begins')}"
    if place.first == 0 and place.last == place.tokens - 1:
        return " from the first token to the last"
    end = "the end" if place.last == place.tokens - 1 else f"t = {place.last}"
    ends = "" if place.last == place.tokens - 1 else _border(place.last + 1, "ends")
    return f" from t = {place.first}{_border(place.first, 'begins')} to {end}{ends}"


def _border(token: int, what: str) -> str:
    sizes = [str(C) for C in CHUNKS if token % C == 0] if token else []
    if not sizes:
        return ""
    listed = " or ".join(filter(None, [", ".join(sizes[:-1]), sizes[-1]]))
    return f" (where a chunk of {listed} {what})"
