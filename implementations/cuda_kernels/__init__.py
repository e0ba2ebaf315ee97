"""Kernels in CUDA C++, compiled when first used: φ, the normalisation and the state in one block.

`sources/` holds them. On a GPU NVRTC compiles a problem's kernels (nvrtc.py), which needs neither
nvcc nor a compiler of the host; with FWPBENCH_CUDA_ON_CPU=1 g++ compiles the same sources for a
CPU (on_cpu.py), slowly and strictly, for tests. What was compiled is kept on disk (cache.py). No
GPU has run them yet: they are checked on a CPU and by compiling for sm_80 to sm_120, and no speed
is claimed.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from shutil import which

from fwpbench.implementations.base import Implementation, Output, Run
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.problem import Problem

#: Whether kernels run on a CPU, for tests.
ON_CPU = os.environ.get("FWPBENCH_CUDA_ON_CPU", "").lower() in ("1", "true", "on", "yes", "y")
#: What NVRTC compiles with, by the name that Python imports and the package that brings it.
PACKAGES = {
    "cuda.core": "cuda-core",
    "cuda.bindings": "cuda-bindings",
    "cuda.pathfinder": "cuda-pathfinder",
}


def missing() -> str | None:
    import torch

    if ON_CPU:
        return None if which("g++") else "g++ is not installed: apt-get install g++"
    for name, package in PACKAGES.items():
        if find_spec("cuda") is None or find_spec(name) is None:
            return f"{package} is not installed: python -m pip install 'fwpbench[cuda]'"
    if not torch.cuda.is_available():
        return "torch sees no CUDA device here; FWPBENCH_CUDA_ON_CPU=1 runs its kernels on a CPU"
    from fwpbench.implementations.cuda_kernels.nvrtc import missing_part

    if (part := missing_part()) is not None:
        return f"{part} is not installed: python -m pip install 'fwpbench[cuda]'"
    return None


def cannot(problem: Problem) -> str | None:
    from fwpbench.implementations.cuda_kernels.refusal import cannot

    return cannot(problem)


def run(problem: Problem, inputs: Inputs) -> Output:
    # Here, because whoever only asks what it cannot do may have nothing to compile with.
    from fwpbench.implementations.cuda_kernels.operator import run

    return run(problem, inputs)


def chosen(problem: Problem, device: str) -> str:
    from fwpbench.implementations.cuda_kernels.choice import described

    return described(problem, device)


def plans(problem: Problem, device: str) -> dict[str, Run]:
    from fwpbench.implementations.cuda_kernels.operator import plans

    return plans(problem, device)


IMPLEMENTATION = Implementation(
    run,
    "CUDA C++ kernels, φ and normalisation inside",
    missing=missing,
    cannot=cannot,
    devices=("cpu", "cuda") if ON_CPU else ("cuda",),
    kernels="^cuda_fwp_",
    chosen=chosen,
    tf32=True,
    plans=plans,
)
