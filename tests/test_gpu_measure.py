"""What only a GPU can show of measuring: `make gpu-measure`. None of it was run on one yet."""

from __future__ import annotations

import ctypes
from statistics import median

import pytest
import torch

from fwpbench.harness.domains import CACHES, DOMAINS, asked_domains
from fwpbench.harness.profiles import PROFILES, Profile
from fwpbench.harness.roofline import measure_peaks
from fwpbench.harness.suite import Setting
from fwpbench.harness.timing import time_call
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.operators.problem import Problem
from fwpbench.suites import timed

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here"),
]

BRIEF = Profile("brief", warm_up=0.2, longest=2.0, fewest=20)
#: Bytes: far less than an L2, so that only a flush makes it cold.
WORKING_SET = 8 * 2**20


@pytest.fixture(scope="module")
def device():
    from fwpbench.harness.device import CudaDevice

    return CudaDevice()


def reading(x: torch.Tensor):
    return lambda: x.sum()


def in_seconds(call, device, cache: str) -> float:
    return time_call(call, device, BRIEF, domain="device", cache=cache).median


def test_every_field_is_filled_or_gives_a_reason(device):
    """Of each domain and cache, for a plain implementation."""
    problem = Problem(
        rule="delta", phi="identity", norm="l2", B=1, T=512, H=4, K=64, V=64, dtype="bf16",
        direction="forward+backward",
    )  # fmt: skip
    here = Setting(device, PROFILES["quick"], 0)
    pairs = [(domain, cache) for domain in DOMAINS for cache in CACHES]
    assert set(asked_domains(device, ["all"])) == set(pairs) - {("device", "cold")}
    for domain, cache in pairs:
        answer = timed.timed(problem, IMPLEMENTATIONS["chunked"], here, domain, cache)
        assert answer.status in ("ok", "unstable", "missing", "throttled"), (domain, answer.reason)
        if answer.status == "missing":
            assert answer.reason
            continue
        assert answer.metrics["time"].value > 0
        assert 0 < answer.metrics["roofline"].value < 1.05
        assert answer.detail["clock Hz"] > 1e8
        assert answer.detail["buffers"] >= 1
        if domain == "kernels":
            assert answer.detail["kernels"]
        if domain == "throughput":
            assert answer.detail["throughput"]


def test_a_cold_working_set_is_read_from_memory(device):
    """Of 8 MiB at least 95 % come from DRAM: cold, they take as long as where they never were.

    The second time is of 8 MiB in a buffer that no call has read since much more was.
    """
    warm_x = torch.ones(WORKING_SET // 4, device="cuda")
    many = max(8, 4 * device.rotates // WORKING_SET)
    untouched = [torch.ones_like(warm_x) for _ in range(many)]
    cold = in_seconds(reading(warm_x), device, "cold")
    warm = in_seconds(reading(warm_x), device, "warm")
    turns = iter(range(10**9))
    never = in_seconds(
        lambda: untouched[next(turns) % many].sum(), device, "warm"
    )  # by rotation alone
    assert warm < never, "the L2 holds it, so there is something to flush"
    share = (cold - warm) / (never - warm)
    assert share >= 0.95, f"{100 * share:.0f} % from DRAM: {warm}, {cold}, {never}"


def test_a_persisting_window_gains_less_than_five_percent(device):
    """A cheat sets lines aside in the L2; what is flushed takes them back."""
    from fwpbench.harness.device import reset_persisting_cache

    x = torch.ones(WORKING_SET // 4, device="cuda")
    honest = in_seconds(reading(x), device, "cold")
    code = reset_persisting_cache()
    assert code in (0, 801), f"the driver answers {code}"  # 801: not supported here
    driver = ctypes.CDLL("libcuda.so.1")

    def cheat():
        driver.cuCtxSetLimit(6, ctypes.c_size_t(WORKING_SET))
        _persist(driver, x)
        return x.sum()

    try:
        cheating = in_seconds(cheat, device, "cold")
    finally:
        _persist(driver, x, share=0.0)
        reset_persisting_cache()
    assert cheating > 0.95 * honest


class _Window(ctypes.Structure):
    """CUaccessPolicyWindow, in the union of a stream's attributes, which is 64 bytes long."""

    _fields_ = [
        ("base", ctypes.c_void_p),
        ("bytes", ctypes.c_size_t),
        ("hit_ratio", ctypes.c_float),
        ("hit", ctypes.c_int),  # 2: persisting
        ("miss", ctypes.c_int),  # 1: streaming
        ("padding", ctypes.c_byte * 64),
    ]


def _persist(driver, x: torch.Tensor, share: float = 1.0) -> None:
    window = _Window(x.data_ptr(), WORKING_SET if share else 0, share, 2, 1)
    stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
    # 1: CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW
    driver.cuStreamSetAttribute(stream, 1, ctypes.byref(window))


def test_device_and_graph_agree_on_a_long_kernel(device):
    x = torch.ones(8192, 8192, device="cuda", dtype=torch.bfloat16)

    def call():
        return x @ x

    def batch():
        for _ in range(8):
            y = x @ x
        return y

    on_device = time_call(call, device, BRIEF, domain="device", cache="warm").median
    graph = device.graph(batch)
    assert not isinstance(graph, str), graph
    by_graph = time_call(
        graph, device, BRIEF, domain="throughput", cache="warm", calls=8, hide_launches=True
    ).median
    assert by_graph == pytest.approx(on_device, rel=0.05)


def test_kernels_are_told_by_name_and_take_no_longer_than_the_call(device):
    x = torch.ones(4096, 4096, device="cuda")
    x @ x
    ran, _ = device.kernels(lambda: (x @ x).relu())
    if not ran:
        pytest.skip("the profiler tells of no kernel here: it needs CUPTI")
    assert len(ran) >= 2
    on_device = time_call(lambda: (x @ x).relu(), device, BRIEF, domain="device", cache="warm")
    summed = [sum(s for _, s in device.kernels(lambda: (x @ x).relu())[0]) for _ in range(5)]
    assert median(summed) <= 1.05 * on_device.median


def test_a_launch_is_hidden_and_its_cost_is_in_the_call(device):
    x = torch.ones(1024, device="cuda")

    def many():
        for _ in range(20):
            x.add_(0)

    call = time_call(many, device, BRIEF, domain="call", cache="warm")
    span = time_call(many, device, BRIEF, domain="device", cache="warm")
    assert "launch-bound" not in span.tags
    assert span.median < call.median


def test_what_no_graph_can_capture_says_why(device):
    x = torch.ones(8, device="cuda")
    assert isinstance(device.graph(lambda: x.sum().item()), str)
    assert float((x + 1).sum()) == 16, "the device is as it was"


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
def test_peaks_are_those_of_a_gpu(device, dtype):
    peaks = measure_peaks(device, dtype)
    assert peaks.bytes > 1e11
    assert peaks.flop > 5e12
