"""Triton's compiler on the default layouts, for a GPU that is not there: no register is spilled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from fwpbench.implementations.triton_kernels.plan import DOTS, is_wide
from fwpbench.implementations.triton_kernels.recurrent_plan import is_recurrent
from fwpbench.implementations.triton_kernels.refusal import cannot
from fwpbench.implementations.triton_kernels.unordered_plan import is_unordered
from fwpbench.operators.problem import Problem
from tests.compiled_selection import selection

ROOT = Path(__file__).parent.parent
#: The recurrent kernel: every rule, every width and shape of a state tile, every way z follows;
#: then with gradients, up to the largest state.
RECURRENT = [
    f"{case} B=2 T=1024 H=16 direction={direction}"
    for direction, cases in {
        "decode": (
            "rule=sum phi=elu+1 norm=attention K=16 V=64 dtype=bf16",
            "rule=decay phi=dpfp-1 norm=sum+attention K=30 V=64 dtype=fp32",
            "rule=gated phi=relu norm=sum+attention K=128 V=128 dtype=fp16",
            "rule=delta phi=identity norm=l2 K=128 V=128 dtype=bf16",
            "rule=delta phi=dpfp-3 norm=sum+attention K=64 V=64 dtype=bf16",
            "rule=gated-delta phi=tanh norm=l2 K=256 V=256 dtype=fp32",
            "rule=kda phi=dpfp-4 norm=sum K=128 V=100 dtype=fp16 masked=yes",
            "rule=fwm phi=tanh norm=none K=128 V=128 dtype=bf16",
            "rule=sum phi=favor-64 norm=attention K=64 V=64 dtype=bf16",
            "rule=delta phi=favor-512 norm=sum K=64 V=64 dtype=fp32",
        ),
        "forward": (
            "rule=gla phi=dpfp-2 norm=sum+attention K=60 V=64 dtype=bf16 state=in+out",
            "rule=gla phi=identity norm=l2 K=1024 V=20 dtype=fp32 masked=yes",
            "rule=kda phi=elu+1 norm=sum K=64 V=128 dtype=fp16 state=in+out",
            "rule=kda phi=tanh norm=l2 K=16 V=16 dtype=bf16 state=out reads=no",
            "rule=fwm phi=dpfp-3 norm=none K=40 V=60 dtype=fp32 state=in+out masked=yes",
        ),
        "forward+backward": (
            "rule=fwm phi=tanh norm=none K=16 V=16 dtype=bf16 state=in+out",
            "rule=fwm phi=tanh norm=none K=100 V=60 dtype=fp32 state=in+out masked=yes",
            "rule=fwm phi=elu+1 norm=none K=16 V=500 dtype=fp16",
            "rule=fwm phi=identity norm=none K=200 V=16 dtype=bf16 state=in+out",
            "rule=fwm phi=dpfp-3 norm=none K=20 V=32 dtype=fp32 state=in+out",
            "rule=fwm phi=dpfp-1 norm=none K=64 V=64 dtype=bf16 state=out reads=no",
            "rule=fwm phi=favor-64 norm=none K=64 V=64 dtype=fp32 state=in+out",
            "rule=sum phi=elu+1 norm=attention K=16 V=16 dtype=fp32 masked=yes",
            "rule=decay phi=dpfp-1 norm=sum K=32 V=64 dtype=fp16 state=out reads=no",
            "rule=gla phi=dpfp-2 norm=sum+attention K=60 V=64 dtype=bf16 state=in+out masked=yes",
            "rule=gla phi=favor-published-64 norm=attention K=128 V=100 dtype=fp32",
            "rule=gated phi=relu norm=sum+attention K=256 V=64 dtype=fp16 state=in masked=yes",
            "rule=delta phi=favor-512 norm=sum+attention K=64 V=64 dtype=bf16 masked=yes",
            "rule=delta phi=dpfp-3 norm=attention K=100 V=64 dtype=fp32 state=in+out masked=yes",
            "rule=gated-delta phi=favor-512 norm=l2 K=64 V=32 dtype=fp32 state=in masked=yes",
            "rule=kda phi=tanh norm=l2 K=64 V=64 dtype=bf16 state=in+out",
            "rule=kda phi=identity norm=l2 K=128 V=128 dtype=bf16 state=in+out",
            "rule=kda phi=dpfp-4 norm=sum K=128 V=64 dtype=fp32 state=in+out",
            "rule=kda phi=identity norm=l2 K=1024 V=20 dtype=fp16 state=in+out masked=yes",
        ),
    }.items()
    for case in cases
]


#: What needs no order of its tokens: writing, reading and the gradient, of queries and of keys.
UNORDERED = [
    f"{case} B=2 T=1024 H=16 direction=forward+backward"
    for case in (
        "rule=sum phi=elu+1 norm=attention K=64 V=64 dtype=bf16 causal=no masked=yes state=in+out",
        "rule=sum phi=dpfp-3 norm=sum+attention K=64 V=64 dtype=fp16 causal=no",
        "rule=sum phi=favor-512 norm=l2 K=128 V=128 dtype=bf16 causal=no masked=yes",
        "rule=sum phi=identity norm=none K=256 V=256 dtype=fp32 causal=no state=in",
        "rule=sum phi=dpfp-2 norm=sum K=256 V=64 dtype=fp32 reads=no masked=yes state=out",
        "rule=sum phi=favor-64 norm=sum+attention K=32 V=16 dtype=fp32 causal=no",
    )
]
#: For the other architectures one of each rule, in both directions where it has them.
ELSEWHERE = [
    f"{case} B=2 T=1024 H=16 direction={direction} state=in+out"
    for direction, cases in {
        "forward+backward": (
            "rule=sum phi=elu+1 norm=attention K=64 V=64 dtype=bf16",
            "rule=decay phi=relu norm=l2 K=64 V=64 dtype=fp32",
            "rule=gated phi=elu+1 norm=sum+attention K=64 V=64 dtype=bf16",
            "rule=delta phi=elu+1 norm=sum+attention K=64 V=64 dtype=tf32",
            "rule=gated-delta phi=dpfp-1 norm=sum K=8 V=64 dtype=fp32",
            "rule=fwm phi=tanh norm=none K=16 V=16 dtype=bf16",
        ),
        "forward": (
            "rule=gla phi=dpfp-2 norm=sum+attention K=60 V=64 dtype=bf16",
            "rule=kda phi=elu+1 norm=sum K=64 V=128 dtype=fp16",
            "rule=gated-delta phi=tanh norm=l2 K=64 V=64 dtype=bf16",  # had spilled on sm_100
        ),
    }.items()
    for case in cases
]
#: What had spilled on an architecture, once its layout was chosen by other kernels.
HAD_SPILLED = {
    arch: [f"{case} B=2 T=1024 H=16 direction=forward+backward state=in+out" for case in cases]
    for arch, cases in {
        80: (
            "rule=sum phi=relu norm=sum+attention K=16 V=16 dtype=tf32",
            "rule=decay phi=favor-512 norm=attention K=64 V=128 dtype=bf16",
            "rule=gated phi=elu+1 norm=sum+attention K=32 V=64 dtype=fp32",
            "rule=gated phi=favor-64 norm=sum+attention K=64 V=64 dtype=bf16",
            "rule=gated phi=dpfp-3 norm=sum+attention K=64 V=64 dtype=bf16",
            "rule=delta phi=elu+1 norm=sum+attention K=64 V=64 dtype=fp16",
            "rule=delta phi=favor-64 norm=sum+attention K=64 V=64 dtype=bf16",
            "rule=gated-delta phi=relu norm=l2 K=128 V=64 dtype=bf16",
        ),
        90: (
            "rule=sum phi=favor-64 norm=l2 K=128 V=128 dtype=fp32",
            "rule=gated phi=favor-published-64 norm=sum+attention K=16 V=16 dtype=bf16",
            "rule=delta phi=dpfp-3 norm=sum+attention K=64 V=64 dtype=fp16",
        ),
        100: (
            "rule=sum phi=dpfp-2 norm=sum+attention K=16 V=16 dtype=tf32",
            "rule=sum phi=favor-512 norm=sum+attention K=64 V=64 dtype=bf16",
            "rule=decay phi=favor-64 norm=sum+attention K=128 V=128 dtype=tf32",
            "rule=gated phi=favor-16 norm=sum+attention K=64 V=64 dtype=tf32",
            "rule=gated phi=dpfp-3 norm=sum+attention K=128 V=128 dtype=fp16",
            "rule=delta phi=favor-64 norm=sum+attention K=64 V=64 dtype=fp16",
        ),
        120: (
            "rule=sum phi=favor-published-64 norm=sum K=128 V=128 dtype=tf32",
            "rule=decay phi=elu+1 norm=attention K=128 V=128 dtype=fp16",
            "rule=gated phi=favor-16 norm=sum+attention K=64 V=64 dtype=tf32",
            "rule=gated phi=favor-64 norm=sum+attention K=64 V=64 dtype=fp32",
            "rule=delta phi=favor-64 norm=sum+attention K=64 V=64 dtype=fp16",
            "rule=delta phi=favor-64 norm=sum+attention K=64 V=64 dtype=bf16",
            "rule=delta phi=favor-512 norm=sum+attention K=64 V=64 dtype=fp32",
        ),
    }.items()
}
with_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")


def compiled(arch: int, cases: list[str], capsys: pytest.CaptureFixture[str]) -> list[dict]:
    """What the compiler says of every kernel of the cases; printed too."""
    assert [case for case in cases if cannot(Problem.parse(case))] == []
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.compile_triton", str(arch), *cases],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kernels = [json.loads(line) for line in done.stdout.splitlines()]
    assert {k["problem"] for k in kernels} == set(cases)
    with capsys.disabled():
        for k in kernels:
            print(
                f"\nsm_{arch} {k['kernel']:21} {k['problem'].split(' B=')[0]}: {k['registers']} "
                f"registers, {k['stack']} bytes of stack, {k['shared']} of shared memory, "
                f"{k['wgmma']} wgmma, {k['tcgen05']} tcgen05, {k['mma']} mma.sync, "
                f"{k['seconds']} s",
                end="",
            )
    return kernels


def spilled(kernels: list[dict]) -> list[dict]:
    return [k for k in kernels if k["stack"]]


def without_products(kernels: list[dict]) -> list[dict]:
    """ieee products take no tensor cores, one token has no products; every other does."""
    problems = [Problem.parse(k["problem"]) for k in kernels]
    low = [
        k
        for k, p in zip(kernels, problems, strict=True)
        if DOTS[p.dtype] != "ieee"
        if not is_recurrent(p)
    ]
    return [k for k in low if not k["wgmma"] + k["tcgen05"] + k["mma"]]


def launches(problem: Problem) -> int:
    """How many kernels it has."""
    if is_unordered(problem):
        return 6 if problem.reads else 3
    if is_recurrent(problem):
        return 1 + problem.backward
    # What the delta rule finds has a kernel of its own where φ is wide.
    found = "delta" in problem.rule and is_wide(problem)
    return 3 + found if problem.backward else 1


@with_triton
def test_nothing_is_spilled_on_sm_90(capsys):
    given = [*RECURRENT, *UNORDERED, *HAD_SPILLED[90]]
    cases = given + [str(problem) for problem in selection(list(map(Problem.parse, given)))]
    kernels = compiled(90, cases, capsys)
    assert len(kernels) == sum(launches(Problem.parse(case)) for case in cases)
    assert spilled(kernels) == []
    assert without_products(kernels) == []


@with_triton
@pytest.mark.parametrize("arch", [80, 100, 120])
def test_nothing_is_spilled_on_other_architectures(arch, capsys):
    kernels = compiled(arch, ELSEWHERE + HAD_SPILLED[arch], capsys)
    assert spilled(kernels) == []
    assert without_products(kernels) == []


@with_triton
def test_the_product_is_compiled_once_and_fails_where_one_spills(tmp_path):
    one = "rule=sum phi=relu norm=l2 K=16 dtype=fp16 direction=decode"
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}

    def asked() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tests.compile_all", "--arch", "90", "--where", one],
            cwd=ROOT,
            env=environment | {"XDG_CACHE_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )

    first = asked()
    assert first.returncode == 0, first.stderr
    assert "1 kernels, 0 of them compiled before" in first.stdout
    kept = tmp_path / "fwpbench" / "compiled.jsonl"
    kept.write_text(kept.read_text().replace('"stack": 0', '"stack": 8') + '{"key": "cut o')
    second = asked()
    assert "1 kernels, 1 of them compiled before" in second.stdout
    assert "1 of them spill" in second.stdout
    assert second.returncode == 1
