"""Laws of the devices: memory is exact to the byte, and reading it leaves no trace."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fwpbench.harness.device import DEVICES, CpuDevice, Device, best_device
from fwpbench.harness.profiles import PROFILES
from fwpbench.harness.suite import Setting
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.operators.errors import UserError
from fwpbench.operators.problem import Problem
from fwpbench.suites.timed import make_call

ROOT = Path(__file__).parent.parent


def tensor(size: int) -> torch.Tensor:
    return torch.empty(size, dtype=torch.int8)


def nothing() -> None:
    pass


def one() -> None:
    tensor(1000)


def two_at_once() -> None:
    a = tensor(1000)
    b = tensor(500)
    del a, b


def one_after_the_other() -> None:
    tensor(1000)
    tensor(1500)


def a_and_b_free_a_then_c() -> None:
    a = tensor(1000)
    b = tensor(300)
    del a
    c = tensor(500)
    del b, c


def a_and_b_free_a_then_a_large_c() -> None:
    a = tensor(1000)
    b = tensor(300)
    del a
    c = tensor(5000)
    del b, c


def returned() -> torch.Tensor:
    return tensor(700)


def a_tree_of_calls() -> torch.Tensor:
    x = torch.ones(100, dtype=torch.float64)
    return (x + x) * x  # x, x + x and the product


@pytest.mark.parametrize(
    ("call", "peak"),
    [
        (nothing, 0),
        (one, 1000),
        (two_at_once, 1500),
        (one_after_the_other, 1500),
        (a_and_b_free_a_then_c, 1300),
        (a_and_b_free_a_then_a_large_c, 5300),
        (returned, 700),
        (a_tree_of_calls, 2400),
    ],
)
def test_memory_is_exact_to_the_byte(call: Callable[[], object], peak: int) -> None:
    assert [CpuDevice().memory(call) for _ in range(3)] == [peak] * 3


def test_freeing_what_was_there_before_makes_no_room() -> None:
    before = [tensor(10_000)]

    def call() -> None:
        before.clear()
        tensor(300)
        tensor(10_500)

    assert CpuDevice().memory(call) == 10_500


def test_an_error_in_the_call_is_the_callers() -> None:
    with pytest.raises(ZeroDivisionError):
        CpuDevice().memory(lambda: 1 / 0)
    assert CpuDevice().memory(one) == 1000


def test_reading_memory_prints_nothing() -> None:
    """torch's profiler announces itself on stderr unless it is told not to."""
    script = (
        "import torch; from fwpbench.harness.device import CpuDevice\n"
        "for _ in range(2): assert CpuDevice().memory(lambda: torch.empty(8)) == 32"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


def peak(T: int) -> int:
    """Of one call of chunked, forward and backward."""
    problem = Problem(
        rule="delta", phi="dpfp-2", norm="sum", B=1, T=T, H=1, K=64, V=128,
        dtype="fp32", direction="forward+backward",
    )  # fmt: skip
    setting = Setting(CpuDevice(), PROFILES["quick"], 0)
    call = make_call(problem, IMPLEMENTATIONS["chunked"], setting)
    call()
    return setting.device.memory(call)


def test_chunked_needs_memory_for_chunks_and_not_for_a_state_a_token() -> None:
    """With gradients: linear in T, and far below T·D·V, which a state a token would be."""
    D, V, float32 = 256, 128, 4
    small, large = peak(512), peak(2048)
    assert 3.5 <= large / small <= 4.5
    assert large < 2048 * D * V * float32 / 5


@pytest.mark.parametrize("kind", DEVICES)
def test_a_device_has_a_name_and_clocks_or_says_that_it_is_missing(kind: str) -> None:
    if kind == "cuda" and not torch.cuda.is_available():
        with pytest.raises(UserError, match="try --device cpu"):
            DEVICES[kind]()
        return
    device: Device = DEVICES[kind]()
    assert device.kind == kind
    assert device.name
    device.flush_cache()
    device.synchronize()
    before, start = device.now(), device.record_event()
    seconds = device.elapsed(start, device.record_event())
    assert seconds >= 0
    assert before <= device.now()


def test_the_best_device_is_one_of_the_devices() -> None:
    assert best_device() in DEVICES
    assert (best_device() == "cuda") == torch.cuda.is_available()


def test_flushing_touches_more_than_the_cache_holds() -> None:
    device = CpuDevice()
    device.flush_cache()
    assert device._elsewhere is not None
    kept = device._elsewhere.data_ptr()
    device.flush_cache()
    assert device._elsewhere.data_ptr() == kept, "allocated once"
