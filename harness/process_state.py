"""What belongs to the whole process is after a task what it was before it.

A number of threads, a precision or a clock that one implementation changes is changed for all that
come after it, and for the harness itself: it is noticed, put back, and told.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Setting:
    """Of torch or Python: `write` takes what `read` gave."""

    read: Callable[[], Any]
    write: Callable[[Any], object]


def _precision() -> str:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # set in torch's old way and its new one: it does not say which holds
        return "set in two ways"


def _deterministic() -> tuple[bool, bool]:
    algorithms = torch.are_deterministic_algorithms_enabled()
    return algorithms, torch.is_deterministic_algorithms_warn_only_enabled()


def _collect(enabled: bool) -> None:
    (gc.enable if enabled else gc.disable)()


SETTINGS = {
    "torch's number of threads": Setting(torch.get_num_threads, torch.set_num_threads),
    "torch's default dtype": Setting(torch.get_default_dtype, torch.set_default_dtype),
    "torch's default device": Setting(torch.get_default_device, torch.set_default_device),
    "torch's float32 matmul precision": Setting(_precision, torch.set_float32_matmul_precision),
    "torch's deterministic algorithms": Setting(
        _deterministic, lambda old: torch.use_deterministic_algorithms(old[0], warn_only=old[1])
    ),
    "torch's recording of gradients": Setting(torch.is_grad_enabled, torch.set_grad_enabled),
    "torch's autocast on the CPU": Setting(
        lambda: torch.is_autocast_enabled("cpu"), lambda old: torch.set_autocast_enabled("cpu", old)
    ),
    "torch's autocast on the GPU": Setting(
        lambda: torch.is_autocast_enabled("cuda"),
        lambda old: torch.set_autocast_enabled("cuda", old),
    ),
    "Python's garbage collection": Setting(gc.isenabled, _collect),
}
#: What times and judges, by where it is found: bound here before any plugin is imported.
FUNCTIONS: dict[str, tuple[Any, str]] = {
    "time.perf_counter": (time, "perf_counter"),
    "time.time": (time, "time"),
    "torch.cuda.Event": (torch.cuda, "Event"),
    "torch.cuda.synchronize": (torch.cuda, "synchronize"),
    "torch.equal": (torch, "equal"),
    "torch.allclose": (torch, "allclose"),
    "torch.isfinite": (torch, "isfinite"),
    "torch.empty": (torch, "empty"),
    "torch.randn": (torch, "randn"),
    "torch.autograd.grad": (torch.autograd, "grad"),
    **{
        f"torch.Tensor.{name}": (torch.Tensor, name)
        for name in ("double", "isfinite", "norm", "clone", "cpu", "copy_", "square", "mean")
    },
}
ORIGINALS = {name: getattr(owner, word) for name, (owner, word) in FUNCTIONS.items()}

State = dict[str, Any]


def state() -> State:
    """The settings as they are now."""
    return {name: setting.read() for name, setting in SETTINGS.items()}


def put_back(before: State) -> str | None:
    """Undo what was changed since, and say what that was; None where nothing was."""
    said = []
    for name, (owner, word) in FUNCTIONS.items():
        if getattr(owner, word) is not ORIGINALS[name]:
            setattr(owner, word, ORIGINALS[name])
            said.append(f"{name} (replaced)")
    for name, setting in SETTINGS.items():
        if (now := setting.read()) != before[name]:
            setting.write(before[name])
            said.append(f"{name} (from {before[name]} to {now})")
    return " and ".join(said) or None
