"""What the doctor reads on a real machine: in a second at the start of a run, in seconds alone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch

from fwpbench.harness.device import Device
from fwpbench.harness.environment import usable_cores

CALLS = 40
#: Of medians, at least; 95 % of so few are all of them.
PAIRS = 12
#: Seconds that pairs are taken for: at the start of a run, and where nothing waits.
BRIEFLY, LONG = 0.25, 4.0
#: Bytes: what stays in the cache of any GPU and of most CPUs.
READ = 4 * 2**20


class MachineProbe:
    """A device's own clock, caches and neighbours."""

    def __init__(self, device: Device, seconds: float = LONG) -> None:
        self._device, self._seconds = device, seconds
        self.kind = device.kind
        self._small = torch.ones(16, device=device.kind)
        self._few_megabytes = torch.ones(READ // 4, device=device.kind)
        # A call of some tenths of a millisecond.
        self._matrix = torch.ones(256 if device.kind == "cpu" else 2048, 256, device=device.kind)

    def ticks(self) -> Sequence[float]:
        if self.kind == "cpu":
            return [time.perf_counter() for _ in range(1000)]
        start = self._device.record_event()
        stops = []
        for _ in range(200):
            self._small.add_(1)
            stops.append(self._device.record_event())
        return sorted(self._device.elapsed(start, stop) for stop in stops)

    def empty_calls(self) -> Sequence[float]:
        return self._times(lambda: self._small.add_(1), CALLS)

    def warm_and_cold(self) -> tuple[Sequence[float], Sequence[float]]:
        def read() -> torch.Tensor:
            return self._few_megabytes.sum()

        self._times(read, 5)
        warm = self._times(read, CALLS // 2)
        return warm, self._times(read, CALLS // 2, before=self._device.flush_cache)

    def clocks(self) -> Sequence[float] | None:
        rates = []
        until = self._device.now() + 0.3
        while self._device.now() < until:
            self._times(self._work, 5)
            if (rate := self._device.clocks()) is None:
                return None
            rates.append(rate)
        # The first ones are those of a device that wakes up.
        return rates[len(rates) // 3 :]

    def power_limits(self) -> tuple[float, float] | None:
        if (nvml := _nvml()) is None or self.kind != "cuda":
            return None
        handle = nvml.nvmlDeviceGetHandleByIndex(torch.cuda.current_device())
        now = nvml.nvmlDeviceGetEnforcedPowerLimit(handle)
        return now / 1e3, nvml.nvmlDeviceGetPowerManagementDefaultLimit(handle) / 1e3

    def busy_elsewhere(self) -> float | None:
        """Of a GPU: 1 where another process computes on it. Of a CPU: what the last minute had."""
        if self.kind == "cpu":
            if not hasattr(os, "getloadavg"):
                return None
            mine = time.process_time() / max(time.perf_counter() - _BEGAN, 1e-3)
            return max(0.0, os.getloadavg()[0] - min(mine, usable_cores())) / usable_cores()
        if (nvml := _nvml()) is None:
            return None
        handle = nvml.nvmlDeviceGetHandleByIndex(torch.cuda.current_device())
        running = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        return float(any(each.pid != os.getpid() for each in running))

    def split(self) -> bool | None:
        if self.kind == "cpu":
            return False
        if (nvml := _nvml()) is None:
            return None
        handle = nvml.nvmlDeviceGetHandleByIndex(torch.cuda.current_device())
        try:
            return bool(nvml.nvmlDeviceGetMigMode(handle)[0])
        except nvml.NVMLError:  # a device that cannot be split
            return False

    def pairs_of_medians(self) -> Sequence[tuple[float, float]]:
        self._times(self._work, 10)
        pairs: list[tuple[float, float]] = []
        until = self._device.now() + self._seconds
        while len(pairs) < PAIRS or self._device.now() < until:
            first, second = (median(self._times(self._work, 20)) for _ in range(2))
            pairs.append((first, second))
        return pairs

    def _work(self) -> torch.Tensor:
        return self._matrix @ self._matrix.T

    def _times(
        self, call: Callable[[], object], number: int, before: Callable[[], object] = lambda: None
    ) -> list[float]:
        seconds = []
        for _ in range(number):
            before()
            self._device.synchronize()
            start = self._device.record_event()
            call()
            stop = self._device.record_event()
            seconds.append(self._device.elapsed(start, stop))
        return seconds


_BEGAN = time.perf_counter() - time.process_time()


def _nvml() -> Any:
    """The library that asks NVIDIA's driver, or None."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no driver
        return None
    return pynvml
