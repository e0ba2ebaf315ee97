"""Joules of a call: from the device's own counter, over windows of two seconds and more.

A counter moves a few times a second (NVML's every 20 to 100 ms, RAPL's every ms), so a window holds
as many calls as fill it, back to back and warm: a flush would be paid for too. Besides what was
read there is what is left when the power of an idle device is taken off, measured just before.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fwpbench.harness.scaling_law import T_975

#: Seconds: shorter windows hold too few steps of the counter.
WINDOW = 2.0
#: Seconds until what was done before is in the counter, and the device at rest.
SETTLING = 0.5
POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Counter:
    """`read` gives joules since some moment; they begin anew after `wraps`, where it does."""

    name: str
    read: Callable[[], float]
    wraps: float = math.inf

    def since(self, before: float) -> float:
        now = self.read()
        return now - before if now >= before else now - before + self.wraps


@dataclass(frozen=True)
class Energy:
    """Joules a call, one number a window: as read, and without what an idle device takes (watts).

    `low` and `high` bound the mean of `net` with 95 %; None from one window.
    """

    raw: Sequence[float]
    net: Sequence[float]
    idle: float
    low: float | None
    high: float | None


def measure(
    call: Callable[[], object],
    counter: Counter,
    windows: int,
    now: Callable[[], float],
    rest: Callable[[float], object],
) -> Energy:
    """`call` returns when its work is done; `rest` lets the device be idle for so many seconds."""
    call()
    rest(SETTLING)
    began, before = now(), counter.read()
    rest(WINDOW)
    idle = counter.since(before) / (now() - began)
    raw, net = [], []
    for _ in range(windows):
        began, before, calls = now(), counter.read(), 0
        while now() - began < WINDOW:
            call()
            calls += 1
        joules, seconds = counter.since(before), now() - began
        raw.append(joules / calls)
        net.append((joules - idle * seconds) / calls)
    if len(net) < 2:
        return Energy(raw, net, idle, None, None)
    error = statistics.stdev(net) / math.sqrt(len(net))
    half = T_975[min(len(net) - 1, len(T_975)) - 1] * error
    mean = statistics.fmean(net)
    return Energy(raw, net, idle, mean - half, mean + half)


def counter_of(kind: str) -> Counter | str:
    """The counter of this device, or why there is none."""
    return _nvml() if kind == "cuda" else _rapl(POWERCAP)


def _nvml() -> Counter | str:
    from fwpbench.harness.probe import _nvml as load

    if (nvml := load()) is None:
        return "pynvml is not installed, or finds no driver: pip install nvidia-ml-py"
    import torch

    try:
        handle: Any = nvml.nvmlDeviceGetHandleByIndex(torch.cuda.current_device())
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except nvml.NVMLError as error:
        return f"this GPU has no energy counter ({error})"
    return Counter("NVML", lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) * 1e-3)


def _rapl(folder: Path) -> Counter | str:
    """Of all packages together: other work on the machine is in it."""
    files = sorted(folder.glob("intel-rapl:[0-9]/energy_uj")) if folder.is_dir() else []
    if not files:
        return f"this machine has no RAPL counter ({folder}/intel-rapl:0)"
    try:
        ranges = {float((file.parent / "max_energy_range_uj").read_text("ascii")) for file in files}

        def read() -> float:
            return sum(float(file.read_text("ascii")) for file in files) * 1e-6

        read()
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        return f"{files[0]} cannot be read ({said}): root may allow it (chmod a+r)"
    return Counter("RAPL", read, max(ranges) * 1e-6)


def pause(seconds: float) -> None:
    time.sleep(seconds)
