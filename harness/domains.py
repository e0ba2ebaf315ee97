"""What is timed, in four domains that are never mixed, each with a cold or a warm cache.

call        the host's clock around one call and the wait for its end: what a user waits for
device      from the call's first work on the device to its last, launches queued ahead
kernels     the sum of its kernels' own times, by the profiler, in a pass of its own
throughput  many calls one after another, by a CUDA graph where it can be captured

Cold: the inputs take turns in buffers that together exceed the cache, which is flushed before every
sample. Warm: the same buffers again, and no flush. A CPU has `call` alone: nothing runs behind the
caller's back, so the device's time is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

from fwpbench.operators.errors import UserError, unknown

if TYPE_CHECKING:
    from fwpbench.harness.device import Device

Domain = Literal["call", "device", "kernels", "throughput"]
Cache = Literal["cold", "warm"]
DOMAINS: tuple[Domain, ...] = get_args(Domain)
CACHES: tuple[Cache, ...] = get_args(Cache)
#: The name of a kernel, and its seconds.
Kernel = tuple[str, float]
#: The longest that a device is kept busy so that launches can queue behind.
LONGEST_SPIN = 0.05

T = TypeVar("T")


def default_domain(device: Device) -> Domain:
    """`device`, or where the device has no time of its own, `call`; the cache is cold."""
    return "device" if "device" in device.domains else device.domains[0]


def asked_domains(device: Device, names: Sequence[str]) -> tuple[tuple[Domain, Cache], ...]:
    """Each of these domains cold and warm, less the default, which is always there.

    `all` is all that the device has, and `default` nothing besides. Raises UserError for a domain
    that it has not.
    """
    wanted: list[Domain] = []
    for name in names:
        if name == "default":
            continue
        if name != "all" and name not in DOMAINS:
            raise UserError(unknown("domain", name, [*DOMAINS, "all", "default"]))
        known = [domain for domain in device.domains if name in (domain, "all")]
        if not known:
            raise UserError(
                f"--domains {name}: on {device.kind} nothing is timed but "
                f"{' and '.join(device.domains)}"
            )
        wanted += known
    default = (default_domain(device), "cold")
    pairs = [(domain, cache) for domain in dict.fromkeys(wanted) for cache in CACHES]
    return tuple(pair for pair in pairs if pair != default)


class Sampler:
    """Takes one sample after another of a call in one domain; `calls` is how many it stands for."""

    def __init__(self, device: Device, domain: Domain, calls: int = 1) -> None:
        self._device, self.domain, self._calls = device, domain, calls
        #: Seconds for which the device is kept busy before each call; 0: launches cannot be hidden.
        self._spin = 0.0
        #: Each kernel that ran in the last sample.
        self.ran: list[Kernel] = []

    @property
    def launch_bound(self) -> bool:
        return self.domain == "device" and self._spin == 0.0

    def hide_launches(self, call: Callable[[], object], launching: float) -> None:
        """Find a spin that lasts until a call is launched; `launching` is a guess at its seconds.

        A call that waits for its own results, or has more launches than the queue holds, never is.
        """
        self._spin = min(max(2 * launching, 1e-5), LONGEST_SPIN)
        while True:
            self._device.synchronize()
            _, _, late = self._span(call)
            if not late:
                return
            if self._spin >= LONGEST_SPIN:
                self._spin = 0.0
                return
            self._spin = min(4 * self._spin, LONGEST_SPIN)

    def sample(self, call: Callable[[], T]) -> tuple[float, T, bool]:
        """Seconds of one call, what it returned, and whether the host was too late for it."""
        if self.domain == "call":
            began = self._device.now()
            result = call()
            self._device.synchronize()
            return self._device.now() - began, result, False
        if self.domain == "kernels":
            self.ran, result = self._device.kernels(call)
            return sum(seconds for _, seconds in self.ran), result, False
        seconds, result, late = self._span(call)
        return seconds / self._calls, result, late

    def _span(self, call: Callable[[], T]) -> tuple[float, T, bool]:
        if self._spin:
            self._device.spin(self._spin)
        start = self._device.record_event()
        result = call()
        stop = self._device.record_event()
        late = bool(self._spin) and self._device.passed(start)
        return self._device.elapsed(start, stop), result, late
