"""The same laws where there is a CUDA device."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from fwpbench.harness.agreement import check
from fwpbench.harness.golden import Truths
from fwpbench.harness.profiles import PROFILES
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.operators.operator import Operator
from tests.tables import able, problem_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here"),
]
truths = Truths()
PLANS = [("segmented-64", rule) for rule in ("sum", "decay", "gated", "delta", "gated-delta")]
PLANS += [("prepared", rule) for rule in ("delta", "gated-delta")]


@pytest.mark.parametrize(("name", "operator"), able(), ids=str)
def test_implementations_agree_on_the_device(name, operator):
    for dtype in ("fp32", "bf16"):
        for direction in ("forward+backward", "decode"):
            problem = problem_of(operator, B=1, T=67, H=2, K=16, dtype=dtype, direction=direction)
            agreement = check(IMPLEMENTATIONS[name].run, problem, truths(problem, 0), device="cuda")
            assert agreement.status in ("ok", "unsupported"), agreement.reason


@pytest.mark.parametrize(("plan", "rule"), PLANS)
def test_plans_of_long_sequences_agree_on_the_device(plan, rule):
    """By name: the gate before a timing is asked at a length where they are not chosen."""
    pytest.importorskip("triton")
    from fwpbench.implementations.triton_kernels.operator import run

    norms = ("sum", "l2") if rule == "gated-delta" else ("l2", "attention")
    for norm, dtype in zip(norms, ("fp32", "bf16"), strict=True):
        operator = Operator(rule, "elu+1", norm)
        sizes = {"B": 1, "T": 197, "H": 2, "K": 16, "V": 64, "dtype": dtype}
        problem = problem_of(operator, direction="forward+backward", **sizes)
        agreement = check(partial(run, plan=plan), problem, truths(problem, 0), device="cuda")
        assert agreement.status in ("ok", "unsupported"), agreement.reason


def test_the_device_measures_time_and_memory():
    from fwpbench.harness.device import CudaDevice
    from fwpbench.harness.timing import time_call

    device = CudaDevice()
    x = torch.zeros(2**20, device="cuda")
    timing = time_call(lambda: x + 1, device, PROFILES["quick"])
    assert 0 < timing.median < 0.1
    assert device.memory(lambda: x + 1) >= 2**22
