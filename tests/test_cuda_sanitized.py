"""The CUDA kernels under g++'s sanitizers: nothing out of bounds, nothing C++ leaves undefined."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.operators.operator import Operator
from tests.tables import problem_of

CUDA = IMPLEMENTATIONS["cuda"]
pytestmark = pytest.mark.skipif(
    CUDA.missing() is not None or "cpu" not in CUDA.devices,
    reason=CUDA.missing() or "FWPBENCH_CUDA_ON_CPU=1 is not set",
)
HERE = Path(__file__).parent
FLAGS = "-O1 -fsanitize=address,undefined -fno-sanitize-recover=all"

#: In pairs, because a process under a sanitizer is slow to start. Of every rule one, every kind of
#: map, two blocks of value columns, tensors that are not there.
PROBLEMS = [
    [
        (Operator("delta", "elu+1", "attention"), {"V": 135}),
        (Operator("sum", "dpfp-1", "attention"), {"V": 135, "reads": False, "dtype": "bf16"}),
    ],
    [
        (Operator("gla", "relu", "attention"), {"masked": True, "state": "none"}),
        (Operator("fwm", "tanh", "none"), {"state": "out", "H": 1}),
    ],
    [
        (Operator("kda", "favor-16", "l2"), {"dtype": "fp16", "state": "in"}),
        (Operator("gated", "dpfp-2", "sum+attention"), {"T": 3, "K": 33}),
    ],
    [
        (Operator("sum", "favor-16", "attention"), {"causal": False, "V": 135}),
        (Operator("gated-delta", "identity", "none"), {"direction": "decode", "B": 3}),
        (Operator("decay", "dpfp-3", "sum"), {"T": 1, "K": 43, "B": 3}),
    ],
]


def libasan() -> str:
    found = subprocess.run(
        ["g++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not Path(found).is_absolute():
        pytest.skip("g++ comes without libasan")
    return found


def watched(*command: str) -> subprocess.CompletedProcess[str]:
    """A Python in which libasan comes first: what it loads later may be watched."""
    settings = {
        "LD_PRELOAD": libasan(),
        # Python keeps memory to its end.
        "ASAN_OPTIONS": "detect_leaks=0",
        "FWPBENCH_CUDA_ON_CPU_FLAGS": FLAGS,
    }
    return subprocess.run(
        [sys.executable, *command],
        cwd=HERE.parent,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("several", PROBLEMS)
def test_kernels_stay_inside_their_memory_and_the_language(several):
    problems = []
    for operator, changes in several:
        sizes = {"B": 1, "T": 17, "H": 2, "K": 9, "V": 7, "dtype": "fp32"}
        changes = {"direction": "forward+backward"} | changes
        problems.append(str(problem_of(operator, **(sizes | changes))))
    done = watched("-m", "tests.sanitized_kernels", *problems)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ok"] * len(problems), (
        done.stdout
    )


BAD = {
    # launch_on_cpu.py has room for 256 numbers.
    "out[255 + threadIdx.x] = 1.f": "heap-buffer-overflow",
    "out[0] = float(2147483647 + int(threadIdx.x))": "signed integer overflow",
}


@pytest.mark.parametrize("code", BAD)
def test_what_is_wrong_with_global_memory_is_found(monkeypatch, code):
    from fwpbench.implementations.cuda_kernels import on_cpu

    text = f"""
        #include "portable.cuh"
        extern "C" __global__ void cuda_fwp_bad(float* out) {{ __syncthreads(); {code}; }}
        EXPORT(cuda_fwp_bad)
        extern "C" void seed(unsigned) {{}}
    """
    monkeypatch.setenv("FWPBENCH_CUDA_ON_CPU_FLAGS", FLAGS)
    on_cpu.library.cache_clear()
    library = str(on_cpu.library(text))
    done = watched("tests/launch_on_cpu.py", library, "bad", "32", "1", "0", "0")
    assert done.returncode != 0
    assert BAD[code] in done.stderr
