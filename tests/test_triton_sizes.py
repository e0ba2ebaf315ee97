"""Lengths and heads of every kind go through one compiled kernel each."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

#: In a process of its own, because the interpreter replaces the compiler for a whole process.
COUNT = """
from itertools import product
from tests.compile_triton import kernels, argument, use
from fwpbench.operators.problem import Problem
use(90)
for text in (
    "rule=gated phi=identity norm=none K=16 V=16 direction=forward+backward state=in+out",
    "rule=kda phi=identity norm=none K=16 V=16 direction=forward+backward state=in+out",
):
    made = {}
    for T, H in product((1, 7, 32), (1, 3, 16)):
        problem = Problem.parse(f"{text} B=2 T={T} H={H} dtype=fp32")
        for kernel, plan in kernels(problem):
            given = vars(plan)
            constants = {name: given[name] for name in kernel.arg_names if name in given}
            names = [name for name in kernel.arg_names if name not in constants]
            arguments = [argument(name, problem, plan.tiles) for name in names]
            binary = kernel.warmup(*arguments, **constants, **plan.options, grid=(1,))
            made.setdefault(kernel.fn.__name__, set()).add(binary.hash)
    print({name: len(hashes) for name, hashes in made.items()})
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_no_kernel_is_compiled_again_for_another_length_or_number_of_heads():
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", COUNT],
        env=os.environ | {"PYTHONPATH": str(root), "TRITON_INTERPRET": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "{'fwp_chunk_forward': 1, 'fwp_chunk_backward_q': 1, 'fwp_chunk_backward_kv': 1}",
        "{'fwp_recurrent_forward': 1, 'fwp_recurrent_backward': 1}",
    ]
