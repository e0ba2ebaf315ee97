"""An implementation whose CUDA kernel races: on a CPU that ends its process."""

from __future__ import annotations

from pathlib import Path

from fwpbench.implementations.base import Implementation, Output
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.problem import Problem

KERNELS = Path(__file__).with_name("on_cpu_kernels.cu")


def run(problem: Problem, inputs: Inputs) -> Output:
    from fwpbench.implementations.cuda_kernels import on_cpu

    out = inputs.v.new_empty(256)
    text = KERNELS.read_text(encoding="utf-8")
    on_cpu.launch("read_then_write_within", text, (1, 1), (64, 1), 256, [out.data_ptr()])
    raise AssertionError("unreachable")


IMPLEMENTATIONS = {"races": Implementation(run, "made for a test")}
