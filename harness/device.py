"""Where implementations run, and how time and memory are read there.

One small protocol: the stopping rule and the statistics are fed numbers and never see a GPU.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from typing import Any, Protocol

import torch

from fwpbench.operators.errors import UserError


class Device(Protocol):
    """Units: seconds, bytes, hertz, joules. None where the machine does not tell."""

    kind: str

    @property
    def name(self) -> str: ...

    def now(self) -> float:
        """The host's clock."""

    def record_event(self) -> Any:
        """A mark in the device's own order of work."""

    def elapsed(self, start: Any, stop: Any) -> float:
        """Between two marks, after waiting for the second."""

    def synchronize(self) -> None:
        """Wait until all work is done."""

    def flush_cache(self) -> None:
        """Push what the last call left in the cache out of it."""

    def clocks(self) -> float | None: ...

    def memory(self, call: Callable[[], object]) -> int:
        """The most that was allocated at once while `call` ran, beyond what was there before."""

    def energy(self) -> float | None: ...


class CpuDevice:
    kind = "cpu"

    def __init__(self) -> None:
        self._elsewhere: torch.Tensor | None = None

    @property
    def name(self) -> str:
        return cpu_name()

    def now(self) -> float:
        return time.perf_counter()

    def record_event(self) -> float:
        return time.perf_counter()

    def elapsed(self, start: float, stop: float) -> float:
        return stop - start

    def synchronize(self) -> None:
        """Nothing runs behind the host's back."""

    def flush_cache(self) -> None:
        # 64 MiB: twice the last-level cache of common CPUs, written so that it must be fetched.
        if self._elsewhere is None:
            self._elsewhere = torch.empty(64 * 2**20, dtype=torch.int8)
        self._elsewhere.zero_()

    def clocks(self) -> float | None:
        return None

    def memory(self, call: Callable[[], object]) -> int:
        """Exact bytes of torch's CPU allocator, from the profiler's allocation events.

        It knows nothing of what was there before: freeing that makes no room.
        """
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it announces itself on stderr otherwise
        from torch._C._profiler import _EventType
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            result = call()
        del result
        events, sizes = [profiler.profiler.kineto_results.experimental_event_tree()], []
        while events:
            for event in events.pop():
                if event.tag == _EventType.Allocation:
                    sizes.append((event.start_time_ns, event.extra_fields.alloc_size))
                if event.children:
                    events.append(event.children)
        allocated = peak = 0
        for _, size in sorted(sizes, key=lambda pair: pair[0]):
            allocated += size
            peak = max(peak, allocated)
        return peak

    def energy(self) -> float | None:
        return None


class CudaDevice:
    kind = "cuda"

    def __init__(self) -> None:
        if not torch.cuda.is_available():
            raise UserError("--device cuda: torch sees no CUDA device here; try --device cpu")
        self._l2_bytes = torch.cuda.get_device_properties().L2_cache_size
        self._elsewhere: torch.Tensor | None = None

    @property
    def name(self) -> str:
        return torch.cuda.get_device_name()

    def now(self) -> float:
        return time.perf_counter()

    def record_event(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def elapsed(self, start: torch.cuda.Event, stop: torch.cuda.Event) -> float:
        stop.synchronize()
        return float(start.elapsed_time(stop)) * 1e-3

    def synchronize(self) -> None:
        torch.cuda.synchronize()

    def flush_cache(self) -> None:
        if self._elsewhere is None:
            self._elsewhere = torch.empty(2 * self._l2_bytes, dtype=torch.int8, device="cuda")
        self._elsewhere.zero_()

    def clocks(self) -> float | None:
        try:
            return torch.cuda.clock_rate() * 1e6
        except (ModuleNotFoundError, RuntimeError):  # no NVML, or none that answers
            return None

    def memory(self, call: Callable[[], object]) -> int:
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        result = call()
        torch.cuda.synchronize()
        del result
        return int(torch.cuda.max_memory_allocated() - before)

    def energy(self) -> float | None:
        return None


DEVICES: dict[str, Callable[[], Device]] = {"cpu": CpuDevice, "cuda": CudaDevice}


def best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()
