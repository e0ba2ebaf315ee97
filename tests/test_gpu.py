"""The same laws where there is a CUDA device."""

from __future__ import annotations

import pytest
import torch

from fwpbench.harness.agreement import check
from fwpbench.harness.golden import Truths
from fwpbench.harness.profiles import PROFILES
from fwpbench.implementations import IMPLEMENTATIONS
from tests.tables import able, problem_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here"),
]
truths = Truths()


@pytest.mark.parametrize(("name", "operator"), able(), ids=str)
def test_implementations_agree_on_the_device(name, operator):
    for dtype in ("fp32", "bf16"):
        for direction in ("forward+backward", "decode"):
            problem = problem_of(operator, B=1, T=67, H=2, K=16, dtype=dtype, direction=direction)
            agreement = check(IMPLEMENTATIONS[name].run, problem, truths(problem, 0), device="cuda")
            assert agreement.status in ("ok", "unsupported"), agreement.reason


def test_the_device_measures_time_and_memory():
    from fwpbench.harness.device import CudaDevice
    from fwpbench.harness.timing import time_call

    device = CudaDevice()
    x = torch.zeros(2**20, device="cuda")
    timing = time_call(lambda: x + 1, device, PROFILES["quick"])
    assert 0 < timing.median < 0.1
    assert device.memory(lambda: x + 1) >= 2**22
