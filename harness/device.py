"""Where implementations run, and how time and memory are read there.

One small protocol: the stopping rule and the statistics are fed numbers and never see a GPU.
"""

from __future__ import annotations

import ctypes
import os
import platform
import time
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol, TypeVar

import torch

from fwpbench.harness.domains import DOMAINS, Domain, Kernel
from fwpbench.operators.errors import UserError

#: CU_LIMIT_PERSISTING_L2_CACHE_SIZE of the driver's API.
PERSISTING_L2_CACHE_SIZE = 6
#: Hertz: higher than a GPU's clock, so that a spin is never shorter than asked for.
SPINNING_CLOCK = 2.5e9

T = TypeVar("T")


class Device(Protocol):
    """Units: seconds, bytes, hertz, joules. None where the machine does not tell."""

    kind: str
    #: What can be timed here (domains.py).
    domains: tuple[Domain, ...]
    #: Bytes of inputs that take turns, so that none of them is left in the cache; 0 where flushing
    #: is enough.
    rotates: int
    #: The highest clock at which a case has warmed up so far.
    best_clock: float | None

    @property
    def name(self) -> str: ...

    def now(self) -> float:
        """The host's clock."""

    def record_event(self) -> Any:
        """A mark in the device's own order of work."""

    def elapsed(self, start: Any, stop: Any) -> float:
        """Between two marks, after waiting for the second."""

    def passed(self, event: Any) -> bool:
        """Whether the device has come to a mark."""

    def synchronize(self) -> None:
        """Wait until all work is done."""

    def spin(self, seconds: float) -> None:
        """Keep the device busy for about so long, so that launches queue up behind."""

    def kernels(self, call: Callable[[], T]) -> tuple[list[Kernel], T]:
        """What ran on the device during a call, each kernel with its own seconds."""

    def graph(self, call: Callable[[], T]) -> Callable[[], T] | str:
        """What repeats the call's work on the device with one launch, or why nothing does.

        What it returns is always the same, with new contents.
        """

    def flush_cache(self) -> None:
        """Push what the last call left in the cache out of it."""

    def clocks(self) -> float | None: ...

    def memory(self, call: Callable[[], object]) -> int:
        """The most that was allocated at once while `call` ran, beyond what was there before."""

    def energy(self) -> float | None: ...


class CpuDevice:
    kind = "cpu"
    domains: tuple[Domain, ...] = ("call",)
    rotates = 0

    def __init__(self) -> None:
        self._elsewhere: torch.Tensor | None = None
        self.best_clock: float | None = None

    @property
    def name(self) -> str:
        return cpu_name()

    def now(self) -> float:
        return time.perf_counter()

    def record_event(self) -> float:
        return time.perf_counter()

    def elapsed(self, start: float, stop: float) -> float:
        return stop - start

    def passed(self, event: float) -> bool:
        return True

    def synchronize(self) -> None:
        """Nothing runs behind the host's back."""

    def spin(self, seconds: float) -> None:
        """Nothing queues up."""

    def kernels(self, call: Callable[[], T]) -> tuple[list[Kernel], T]:
        return [], call()

    def graph(self, call: Callable[[], T]) -> Callable[[], T] | str:
        return "a CPU has no graphs of launches"

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
    domains = DOMAINS

    def __init__(self) -> None:
        if not torch.cuda.is_available():
            raise UserError("--device cuda: torch sees no CUDA device here; try --device cpu")
        self.rotates = 2 * int(torch.cuda.get_device_properties().L2_cache_size)
        self.best_clock: float | None = None
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

    def passed(self, event: torch.cuda.Event) -> bool:
        return bool(event.query())

    def synchronize(self) -> None:
        torch.cuda.synchronize()

    def spin(self, seconds: float) -> None:
        torch.cuda._sleep(int(seconds * SPINNING_CLOCK))

    def kernels(self, call: Callable[[], T]) -> tuple[list[Kernel], T]:
        # Attached for good, CUPTI would slow down whatever is timed afterwards.
        os.environ.setdefault("TEARDOWN_CUPTI", "1")
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")
        from torch.autograd import DeviceType  # type: ignore[attr-defined]
        from torch.profiler import ProfilerActivity, profile

        torch.cuda.synchronize()
        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            result = call()
            torch.cuda.synchronize()
        events = profiler.profiler.kineto_results.events()
        ran = [event for event in events if event.device_type() == DeviceType.CUDA]
        ran.sort(key=lambda event: event.start_ns())
        return [(event.name(), event.duration_ns() * 1e-9) for event in ran], result

    def graph(self, call: Callable[[], T]) -> Callable[[], T] | str:
        try:
            apart = torch.cuda.Stream()  # autotuning and lazy initialisation may not be captured
            apart.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(apart):
                call()
            torch.cuda.current_stream().wait_stream(apart)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                result = call()
        except RuntimeError as error:
            torch.cuda.synchronize()
            return str(error).strip().partition("\n")[0] or type(error).__name__

        def replay() -> T:
            graph.replay()
            return result

        return replay

    def flush_cache(self) -> None:
        reset_persisting_cache()
        if self._elsewhere is None:
            self._elsewhere = torch.empty(self.rotates, dtype=torch.int8, device="cuda")
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


def reset_persisting_cache() -> int:
    """Nothing may be kept in the L2 across a flush; 0, or the driver's code where it cannot tell.

    Lines marked persisting survive any amount of ordinary reading and writing.
    """
    if (driver := _driver()) is None:
        return -1
    limited: int = driver.cuCtxSetLimit(PERSISTING_L2_CACHE_SIZE, ctypes.c_size_t(0))
    reset: int = driver.cuCtxResetPersistingL2Cache()
    return limited or reset


@cache
def _driver() -> Any:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
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
