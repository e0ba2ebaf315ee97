"""The least time that a problem can take on this device, from peaks measured in the same run.

    seconds ≥ max(bytes that must move / peak bytes a second, operations / peak operations a second)

Peaks are what torch's copies, sums and matrix products reach here, the best of a few. Bytes and
operations are formulas of the problem (operators/cost.py): the least of all forms known. What is
written may still lie in the cache when the clock stops, so only what exceeds it counts; with a warm
cache no byte does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from fwpbench.harness.device import Device
from fwpbench.harness.domains import Cache
from fwpbench.operators.cost import (
    algorithmic_flop,
    compulsory_bytes,
    executed_flop,
    least_flop,
)
from fwpbench.operators.problem import DTYPES, Problem

#: Nobody is this much faster than the roofline: the measurement is wrong, or the work is not done.
IMPOSSIBLE = 1.05
REPEATS = 5
#: By kind of device: bytes of a copy, and rows of a matrix product.
SIZES = {"cpu": (64 * 2**20, 1024), "cuda": (512 * 2**20, 8192)}
#: A record tells the operations of a chunk form with chunks of so many tokens.
CHUNK = 64


@dataclass(frozen=True)
class Peaks:
    """Bytes and operations a second."""

    copy: float
    read: float
    flop: float

    @property
    def bytes(self) -> float:
        return max(self.copy, self.read)

    def higher(self, other: Peaks) -> Peaks:
        return Peaks(
            *map(max, (self.copy, self.read, self.flop), (other.copy, other.read, other.flop))
        )


@dataclass(frozen=True)
class Roof:
    """The least seconds, and what they are needed for."""

    seconds: float
    limit: Literal["bytes", "operations"]


def roof(problem: Problem, peaks: Peaks, cache: Cache, cached_bytes: int = 0) -> Roof:
    """`cached_bytes` is what may be written without leaving the cache."""
    traffic = compulsory_bytes(problem)
    moved = traffic.read + max(0, traffic.written - cached_bytes) if cache == "cold" else 0
    by_bytes, by_flop = moved / peaks.bytes, (least_flop(problem) or 0) / peaks.flop
    return Roof(max(by_bytes, by_flop), "bytes" if by_bytes >= by_flop else "operations")


class PeaksOfRun:
    """The peaks of a device, measured once a dtype, and again where a time seems impossible."""

    def __init__(self, measure: Callable[[Device, str], Peaks]) -> None:
        self._measure = measure
        self._known: dict[tuple[str, str], Peaks] = {}

    def __call__(self, device: Device, dtype: str) -> Peaks:
        if (device.kind, dtype) not in self._known:
            self._known[device.kind, dtype] = self._measure(device, dtype)
        return self._known[device.kind, dtype]

    def again(self, device: Device, dtype: str) -> Peaks:
        """A neighbour may have been busy: the higher ones count from now on."""
        known = self(device, dtype).higher(self._measure(device, dtype))
        self._known[device.kind, dtype] = known
        return known


def measure_peaks(device: Device, dtype: str) -> Peaks:
    size, rows = SIZES[device.kind]
    source = torch.ones(size // 4, device=device.kind)
    target = torch.empty_like(source)
    copy = 2 * size / _best(lambda: target.copy_(source), device)
    read = size / _best(source.sum, device)
    del source, target
    return Peaks(copy, read, max(_flop(device, kind, rows) for kind in _at_least(dtype)))


def _at_least(dtype: str) -> list[str]:
    """Numbers may be multiplied in a wider type than they come in; fp32's peak is that of tf32."""
    stored = DTYPES[dtype]
    return [stored] if stored == "float64" else list(dict.fromkeys([stored, "float32"]))


def _flop(device: Device, stored: str, rows: int) -> float:
    if stored == "float64":
        rows //= 2
    x = torch.ones(rows, rows, device=device.kind, dtype=getattr(torch, stored))
    before = torch.get_float32_matmul_precision()
    try:
        # Kernels may multiply float32 in parts of tf32: that is the peak to be held against.
        torch.set_float32_matmul_precision("high")
        return 2 * rows**3 / _best(lambda: x @ x, device)
    finally:
        torch.set_float32_matmul_precision(before)


def _best(call: Callable[[], object], device: Device) -> float:
    """Seconds of the fastest of a few calls, launches queued ahead."""
    seconds = []
    for _ in range(1 + REPEATS):
        device.synchronize()
        device.spin(1e-4)
        start = device.record_event()
        call()
        seconds.append(device.elapsed(start, device.record_event()))
    return max(min(seconds[1:]), 1e-9)


peaks_of_run = PeaksOfRun(measure_peaks)


def against_roofline(
    problem: Problem, seconds: float, device: Device, cache: Cache, peaks: PeaksOfRun
) -> tuple[float, dict[str, Any]]:
    """The fraction of the roofline that was reached, and what it was made of."""
    found = peaks(device, problem.dtype)
    cached = device.rotates // 2
    if roof(problem, found, cache, cached).seconds > IMPOSSIBLE * seconds:
        found = peaks.again(device, problem.dtype)
    least = roof(problem, found, cache, cached)
    traffic = compulsory_bytes(problem)
    detail = {
        "limit": least.limit,
        "peak copy B/s": found.copy,
        "peak read B/s": found.read,
        "peak FLOP/s": found.flop,
        "compulsory bytes": sum(traffic),
        "algorithmic FLOP": algorithmic_flop(problem),
        "least FLOP": least_flop(problem),
        f"executed FLOP, chunks of {CHUNK}": executed_flop(problem, CHUNK),
    }
    return least.seconds / seconds, detail
