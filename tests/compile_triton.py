"""Compiles the Triton kernels for a GPU that is not there, and prints what came: JSON, a line each.

    python tests/compile_triton.py 90 'rule=sum phi=… …' …

Triton's own front end, so that arguments are specialised as in a real launch, with a driver that
only says which GPU it is. A process of its own: interpreting is decided when a kernel is defined.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import MockTensor

from fwpbench.implementations.triton_kernels.backward import (
    fwp_sum_backward_kv,
    fwp_sum_backward_q,
)
from fwpbench.implementations.triton_kernels.forward import fwp_chunk_forward
from fwpbench.implementations.triton_kernels.layouts import lay_out_for
from fwpbench.implementations.triton_kernels.plan import Plan, is_wide, kept_dtype, plan
from fwpbench.implementations.triton_kernels.recurrent_backward import fwp_recurrent_backward
from fwpbench.implementations.triton_kernels.recurrent_forward import fwp_recurrent_forward
from fwpbench.implementations.triton_kernels.recurrent_plan import (
    RecurrentPlan,
    is_recurrent,
    recurrent_plan,
)
from fwpbench.implementations.triton_kernels.reverse_sweep import (
    fwp_chunk_backward_kv,
    fwp_chunk_backward_q,
)
from fwpbench.implementations.triton_kernels.unordered_kernels import (
    fwp_unordered_gradient,
    fwp_unordered_read,
    fwp_unordered_write,
)
from fwpbench.implementations.triton_kernels.unordered_plan import (
    UnorderedPlan,
    is_unordered,
    unordered_plan,
)
from fwpbench.implementations.triton_kernels.wide_backward import (
    fwp_wide_backward_found,
    fwp_wide_backward_kv,
    fwp_wide_backward_q,
)
from fwpbench.implementations.triton_kernels.wide_forward import fwp_wide_forward
from fwpbench.operators.problem import Problem

CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


class Driver:
    """As much of a driver as compiling asks for."""

    def __init__(self, arch: int) -> None:
        self.arch = arch

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.arch, 32)

    def get_current_device(self) -> int:
        return self.arch  # what is compiled is kept per device

    def get_current_stream(self, device: int | None = None) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    @staticmethod
    def is_active() -> bool:
        return True


def kernels(problem: Problem) -> Iterator[tuple[Any, Plan | RecurrentPlan | UnorderedPlan]]:
    """The kernels of the problem's direction, each with its constants."""
    if is_unordered(problem):
        for queries in (False, True)[: 1 + problem.reads]:
            unordered = unordered_plan(problem, queries=queries)
            # dv is read from dS, which is divided by nothing.
            reading = unordered if queries else replace(unordered, DIVIDES=False)
            yield fwp_unordered_write, unordered
            yield fwp_unordered_read, reading
            yield fwp_unordered_gradient, unordered
        return
    if is_recurrent(problem):
        p = recurrent_plan(problem)
        yield fwp_recurrent_forward, p
        if problem.backward:
            yield fwp_recurrent_backward, recurrent_plan(problem, backward=True)
        return
    wide = is_wide(problem)
    forward = plan(problem, keeps=problem.backward)
    yield fwp_wide_forward if wide else fwp_chunk_forward, forward
    if problem.backward:
        backward = plan(problem, backward=True)
        both: tuple[Any, ...] = fwp_chunk_backward_q, fwp_chunk_backward_kv
        if wide:
            both = fwp_wide_backward_q, fwp_wide_backward_kv
            if backward.CORRECTS:
                both = *both, fwp_wide_backward_found
        elif problem.rule == "sum":
            both = fwp_sum_backward_q, fwp_sum_backward_kv
        for kernel in both:
            yield kernel, backward


def compiled(kernel: Any, problem: Problem, p: Plan | RecurrentPlan | UnorderedPlan) -> Any:
    constants = {name: value for name, value in vars(p).items() if name in kernel.arg_names}
    names = [name for name in kernel.arg_names if name not in constants]
    arguments = [argument(name, problem, p.tiles) for name in names]
    return kernel.warmup(*arguments, **constants, **p.options, grid=(1,))


def argument(name: str, problem: Problem, tiles: int) -> Any:
    part = 1 << 20
    # C: in the recurrent kernels, the tokens between two kept states.
    sizes = {"T": problem.tokens, "H": problem.H, "L": problem.tokens, "C": 32}
    parts = ("part", "part_alpha", "part_gate", "part_z", "part_dz", "part_kept")
    sizes |= dict.fromkeys(parts, part)
    if name in sizes:
        return sizes[name]
    if name == "S_kept" and problem.rule != "sum":
        return MockTensor(kept_dtype(problem))
    in_parts = name in ("dq", "dk") and tiles > 1
    recurrent = is_recurrent(problem) or is_unordered(problem)
    if not recurrent and is_wide(problem) and problem.operator.update_rule.corrects:
        # Two kernels have a part in dk, and the second takes dv from the first.
        in_parts = in_parts or name in ("dk", "dv")
    if name in ("q", "k", "v", "x", "w", "o", "do", "dq", "dk", "dv") and not in_parts:
        return MockTensor(problem.torch_dtype)
    return MockTensor(torch.bool if name == "mask" else torch.float32)


def resources(binary: bytes) -> dict[str, int]:
    """Registers of a thread, and bytes of its stack: where spilled registers go."""
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(binary)
        said = subprocess.run(
            [CUOBJDUMP, "-res-usage", cubin], capture_output=True, text=True, check=True
        ).stdout
    found = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", said))
    return {"registers": int(found["REG"]), "stack": int(found["STACK"]) + int(found["LOCAL"])}


def use(arch: int) -> None:
    """From here on."""
    driver.set_active(Driver(arch))
    lay_out_for(arch)


def said(kernel: Any, problem: Problem, p: Plan | RecurrentPlan) -> dict[str, Any]:
    """What the compiler made of it."""
    start = time.perf_counter()
    binary = compiled(kernel, problem, p)
    return {
        "problem": str(problem),
        "kernel": kernel.fn.__name__,
        "arch": driver.active.get_current_target().arch,
        **resources(binary.asm["cubin"]),
        "shared": binary.metadata.shared,
        "wgmma": len(re.findall(r"wgmma\.mma_async", binary.asm["ptx"])),
        "tcgen05": len(re.findall(r"tcgen05\.mma", binary.asm["ptx"])),
        "mma": len(re.findall(r"\bmma\.sync", binary.asm["ptx"])),
        "seconds": round(time.perf_counter() - start, 2),
    }


def main(arch: str, *problems: str) -> None:
    use(int(arch))
    for text in problems:
        problem = Problem.parse(text)
        for kernel, p in kernels(problem):
            print(json.dumps(said(kernel, problem, p) | {"problem": text}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
