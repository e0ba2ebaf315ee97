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
#: Every layout of plan.BLOCKS, every rule, map, scale and way to divide. Forward alone has other
#: chunks than before a backward.
BOTH = (
    "rule=sum phi=elu+1 norm=attention K=64 V=64 dtype=bf16",
    "rule=sum phi=dpfp-1 norm=sum K=32 V=64 dtype=bf16",
    "rule=sum phi=dpfp-1 norm=sum+attention K=64 V=64 dtype=bf16",
    "rule=sum phi=dpfp-3 norm=sum+attention K=16 V=16 dtype=bf16",
    "rule=sum phi=relu norm=l2 K=256 V=16 dtype=bf16",
    "rule=sum phi=elu+1 norm=attention K=64 V=64 dtype=fp32",
    "rule=sum phi=dpfp-2 norm=sum K=16 V=64 dtype=fp32",
    "rule=sum phi=elu+1 norm=sum+attention K=64 V=64 dtype=fp16",
    "rule=sum phi=identity norm=l2 K=128 V=64 dtype=fp16",
    "rule=sum phi=dpfp-3 norm=sum K=16 V=64 dtype=fp16",
    "rule=gated phi=elu+1 norm=sum+attention K=64 V=64 dtype=bf16",
    "rule=gated phi=elu+1 norm=sum+attention K=128 V=64 dtype=bf16",
    "rule=decay phi=dpfp-2 norm=attention K=32 V=64 dtype=bf16",
    "rule=decay phi=relu norm=l2 K=64 V=64 dtype=fp32",
    "rule=gated phi=dpfp-2 norm=sum+attention K=16 V=64 dtype=fp32",
    "rule=decay phi=elu+1 norm=sum+attention K=64 V=64 dtype=fp16",
    "rule=delta phi=elu+1 norm=sum+attention K=64 V=64 dtype=bf16",
    "rule=gated-delta phi=dpfp-2 norm=sum K=16 V=64 dtype=bf16",
    "rule=gated-delta phi=relu norm=l2 K=128 V=64 dtype=bf16",
    "rule=delta phi=dpfp-1 norm=attention K=64 V=64 dtype=bf16",
    "rule=delta phi=elu+1 norm=sum K=16 V=16 dtype=bf16",
    "rule=gated-delta phi=dpfp-1 norm=sum K=8 V=128 dtype=bf16",
    "rule=gated-delta phi=identity norm=l2 K=32 V=64 dtype=fp32",
    "rule=gated-delta phi=dpfp-1 norm=sum K=8 V=64 dtype=fp32",
    "rule=delta phi=dpfp-2 norm=sum+attention K=8 V=64 dtype=fp32",
    "rule=delta phi=elu+1 norm=sum+attention K=64 V=64 dtype=fp16",
    "rule=gated-delta phi=dpfp-2 norm=sum K=16 V=64 dtype=fp16",
)
FORWARD = (
    "rule=gated phi=elu+1 norm=sum+attention K=64 V=64 dtype=bf16",
    "rule=decay phi=elu+1 norm=sum+attention K=128 V=64 dtype=bf16",
    "rule=delta phi=elu+1 norm=sum+attention K=64 V=64 dtype=bf16",
    "rule=gated-delta phi=dpfp-2 norm=sum K=32 V=64 dtype=bf16",
    "rule=delta phi=dpfp-3 norm=sum K=8 V=16 dtype=bf16",
)
CASES = [
    f"{case} B=2 T=1024 H=16 direction={direction} state=in+out"
    for direction, cases in (("forward+backward", BOTH), ("forward", FORWARD))
    for case in cases
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
                f"\n{k['kernel']:21} {k['problem'].split(' B=')[0]}: {k['registers']} registers, "
                f"{k['stack']} bytes of stack, {k['shared']} of shared memory, "
                f"{k['wgmma']} wgmma, {k['mma']} mma.sync, {k['seconds']} s",
                end="",
            )
    assert len(kernels) == 3 * len(BOTH) + len(FORWARD)
    assert [k for k in kernels if k["stack"]] == []
    # ieee products take no tensor cores; every other does.
    low = [k for k in kernels if "dtype=fp32" not in k["problem"]]
    assert [k for k in low if not k["wgmma"] + k["mma"]] == []
