"""Compiles what a plan launches for a GPU that is not there, as compile_triton does: JSON lines.

    python -m tests.compile_triton_plans 90 'segmented-1024 rule=sum phi=… …' …

The launches are those of the implementation itself, on tensors without memory.
"""

from __future__ import annotations

import json
import re
import sys
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from triton.runtime import driver
from triton.runtime.jit import MockTensor

from fwpbench.implementations._kernel_operator import Given
from fwpbench.implementations.triton_kernels import chunks, operator, prepared, scan
from fwpbench.implementations.triton_kernels.choice import plans
from fwpbench.operators.inputs import make_inputs
from fwpbench.operators.problem import Problem
from tests.compile_triton import Driver, resources


def launched(problem: Problem, plan: str) -> list[tuple[Any, Any, list[Any]]]:
    """Every kernel with its constants and arguments, each such pair once."""
    given, named = given_by(problem), (str(problem), plan)
    found: dict[Any, tuple[Any, Any, list[Any]]] = {}

    def launch(kernel: Any, constants: Any, v: Tensor, *arguments: Any, chunks: int = 1) -> None:
        found.setdefault((kernel.fn.__name__, constants), (kernel, constants, list(arguments)))

    with ExitStack() as patches:
        for module in (chunks, prepared, scan):
            patches.enter_context(patch.object(module, "launch", launch))
        results = operator.OPERATOR.forward(*named, problem.backward, *given)
        if problem.backward:
            cotangents = torch.empty_like(given.v), None, None
            operator.OPERATOR.backward(*named, *given, results, *cotangents)
    return list(found.values())


def given_by(problem: Problem) -> Given:
    p = problem

    def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    inputs = make_inputs(p.replace(B=1, T=2, H=1), seed=0)  # which there are
    q, k = (empty(p.B, p.T, p.H, p.K, dtype=p.torch_dtype) for _ in "qk")
    v = empty(p.B, p.T, p.H, p.V, dtype=p.torch_dtype)
    alpha, beta = (
        empty(p.B, p.T, p.H) if name in inputs.gates else None for name in ("alpha", "beta")
    )
    projection = None if inputs.projection is None else inputs.projection.to("meta")
    S = z = None
    if inputs.state is not None:
        S = empty(p.B, p.H, p.D, p.V)
        z = None if inputs.state.z is None else empty(p.B, p.H, p.D)
    return Given(q, k, v, alpha, beta, projection, S, z, None)


def compiled(kernel: Any, layout: Any, arguments: list[Any]) -> Any:
    constants = {name: value for name, value in vars(layout).items() if name in kernel.arg_names}
    mocks = [MockTensor(x.dtype) if isinstance(x, Tensor) else x for x in arguments]
    return kernel.warmup(*mocks, **constants, **layout.options, grid=(1,))


def main(arch: str, *cases: str) -> None:
    driver.set_active(Driver(int(arch)))
    for case in cases:
        plan, _, text = case.partition(" ")
        problem = Problem.parse(text)
        offered = plans(problem)
        if plan.partition("-")[0] not in offered:
            raise SystemExit(f"{text} has the plans {', '.join(offered)}, not {plan}")
        for kernel, layout, arguments in launched(problem, plan):
            binary = compiled(kernel, layout, arguments)
            said = {
                "case": case,
                "kernel": kernel.fn.__name__,
                "alone": getattr(layout, "ALONE", False),
                "backwards": getattr(layout, "BACKWARDS", False),
                **resources(binary.asm["cubin"]),
                "shared": binary.metadata.shared,
                "wgmma": len(re.findall(r"wgmma\.mma_async", binary.asm["ptx"])),
                "mma": len(re.findall(r"\bmma\.sync", binary.asm["ptx"])),
            }
            print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
