"""Triton's compiler on the default layouts, for a GPU that is not there: no register is spilled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from fwpbench.implementations.triton_kernels.refusal import cannot
from fwpbench.operators.problem import Problem

ROOT = Path(__file__).parent.parent
#: Every layout of plan.BLOCKS and plan.WIDE_BLOCKS, every map, scale and way to divide.
CASES = [
    f"rule=sum {case} B=2 T=1024 H=16 direction=forward+backward state=in+out"
    for case in (
        "phi=elu+1 norm=attention K=64 V=64 dtype=bf16",
        "phi=dpfp-1 norm=sum K=32 V=64 dtype=bf16",
        "phi=dpfp-1 norm=sum+attention K=64 V=64 dtype=bf16",
        "phi=dpfp-3 norm=sum+attention K=16 V=16 dtype=bf16",
        "phi=relu norm=l2 K=256 V=16 dtype=bf16",
        "phi=elu+1 norm=attention K=64 V=64 dtype=fp32",
        "phi=dpfp-2 norm=sum K=16 V=64 dtype=fp32",
        "phi=elu+1 norm=sum+attention K=64 V=64 dtype=fp16",
        "phi=identity norm=l2 K=128 V=64 dtype=fp16",
        "phi=dpfp-3 norm=sum K=16 V=64 dtype=fp16",
        "phi=tanh norm=l2 K=64 V=64 dtype=fp32",
        "phi=favor-32 norm=sum+attention K=32 V=64 dtype=fp32",
        "phi=favor-16 norm=l2 K=256 V=64 dtype=bf16",
        "phi=favor-64 norm=sum K=16 V=16 dtype=bf16",
        "phi=favor-published-64 norm=attention K=64 V=64 dtype=fp16",
        # φ in tiles
        "phi=dpfp-3 norm=sum+attention K=16 V=16 dtype=fp32",
        "phi=dpfp-3 norm=l2 K=128 V=128 dtype=fp32",
        "phi=favor-512 norm=sum K=64 V=64 dtype=fp32",
        "phi=elu+1 norm=sum+attention K=256 V=256 dtype=fp32",
        "phi=dpfp-3 norm=sum+attention K=32 V=32 dtype=bf16",
        "phi=dpfp-3 norm=sum K=64 V=64 dtype=bf16",
        "phi=dpfp-3 norm=sum+attention K=64 V=64 dtype=bf16",
        "phi=dpfp-3 norm=none K=128 V=128 dtype=bf16",
        "phi=favor-512 norm=sum+attention K=64 V=64 dtype=bf16",
        "phi=dpfp-2 norm=l2 K=256 V=256 dtype=bf16",
        "phi=dpfp-3 norm=attention K=64 V=64 dtype=fp16",
        "phi=favor-512 norm=l2 K=128 V=128 dtype=fp16",
        "phi=identity norm=l2 K=256 V=64 dtype=fp16",
    )
]


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_nothing_is_spilled_on_sm_90(capsys):
    assert [case for case in CASES if cannot(Problem.parse(case))] == []
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.compile_triton", "90", *CASES],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kernels = [json.loads(line) for line in done.stdout.splitlines()]
    with capsys.disabled():
        for k in kernels:
            print(
                f"\n{k['kernel']:20} {k['problem'].split(' B=')[0]}: {k['registers']} registers, "
                f"{k['stack']} bytes of stack, {k['shared']} of shared memory, "
                f"{k['wgmma']} wgmma, {k['mma']} mma.sync, {k['seconds']} s",
                end="",
            )
    assert len(kernels) == 3 * len(CASES)
    assert [k for k in kernels if k["stack"]] == []
    # ieee products take no tensor cores; every other does.
    low = [k for k in kernels if "dtype=fp32" not in k["problem"]]
    assert [k for k in low if not k["wgmma"] + k["mma"]] == []
