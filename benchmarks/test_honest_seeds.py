"""On how many seeds does the gate let honest arithmetic pass? At least 99.9 % are asked for.

make honest, or: python -m pytest benchmarks/test_honest_seeds.py -n 2 -rP

2,250 seeds a dtype in two blocks, each about 2 minutes of one core; every block has to keep the
share by itself. What was seen is written down in docs/yardstick.md.
"""

from __future__ import annotations

import pytest
import torch

from fwpbench.harness import honest

BLOCK = 1125


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("first", [0, BLOCK])
@pytest.mark.parametrize("dtype", ["fp32", "tf32", "bf16", "fp16"])
def test_honest_arithmetic_passes(dtype, first):
    found = honest.tally(dtype, range(first, first + BLOCK))
    print(f"seeds from {first}: {found}", *found.failures, sep="\n")
    assert found.seeds >= 0.95 * BLOCK, "too few could be judged"
    assert len(found.failures) <= (1 - honest.CLAIM) * found.seeds, str(found)
