"""NVRTC on the CUDA kernels, for GPUs that are not there: nothing is spilled, blocks fit."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from fwpbench.implementations.cuda_kernels import block_plan, chunk
from fwpbench.implementations.cuda_kernels.chunk_backward_plan import chunk_backward_plan
from fwpbench.implementations.cuda_kernels.chunk_plan import RULES, chunk_plan
from fwpbench.implementations.cuda_kernels.refusal import cannot
from fwpbench.operators.problem import Problem

if find_spec("cuda") is None or find_spec("cuda.core") is None:
    pytest.skip("cuda-core is not installed", allow_module_level=True)

from tests.compile_cuda import launched, row, shown

#: Registers of a multiprocessor, shared memory that a block may ask of the smallest (sm_120).
REGISTERS, SHARED_BYTES = 65536, 99 * 1024
SIZES = "B=2 T=100 H=2 direction=forward+backward state=in+out"
#: Every rule, map, normalisation and dtype, small, ordinary and wide; on sm_90a.
PROBLEMS = (
    "rule=sum phi=elu+1 norm=attention K=16 V=16 dtype=bf16",
    "rule=sum phi=dpfp-3 norm=sum K=64 V=64 dtype=fp32",
    "rule=sum phi=favor-64 norm=sum+attention K=64 V=64 dtype=fp16",
    "rule=sum phi=dpfp-2 norm=l2 K=256 V=256 dtype=bf16",
    "rule=decay phi=relu norm=l2 K=128 V=128 dtype=bf16",
    "rule=decay phi=dpfp-1 norm=attention K=32 V=64 dtype=fp32",
    "rule=gla phi=identity norm=none K=64 V=64 dtype=bf16",
    "rule=gla phi=dpfp-2 norm=sum+attention K=64 V=32 dtype=fp16",
    "rule=gated phi=favor-published-16 norm=attention K=64 V=64 dtype=bf16",
    "rule=gated phi=elu+1 norm=sum K=192 V=128 dtype=fp32",
    "rule=delta phi=elu+1 norm=sum K=16 V=16 dtype=bf16",
    "rule=delta phi=identity norm=l2 K=128 V=128 dtype=bf16",
    "rule=delta phi=dpfp-3 norm=sum+attention K=64 V=64 dtype=bf16",
    "rule=delta phi=dpfp-2 norm=attention K=256 V=64 dtype=fp32",
    "rule=delta phi=favor-256 norm=sum K=64 V=64 dtype=fp16",
    "rule=gated-delta phi=tanh norm=l2 K=256 V=256 dtype=bf16",
    "rule=gated-delta phi=dpfp-1 norm=sum K=8 V=12 dtype=fp32",
    "rule=gated-delta phi=relu norm=none K=64 V=64 dtype=fp16",
    "rule=kda phi=identity norm=l2 K=128 V=128 dtype=bf16",
    "rule=kda phi=dpfp-3 norm=sum K=64 V=64 dtype=fp32",
    "rule=fwm phi=tanh norm=none K=64 V=64 dtype=fp32",
    "rule=fwm phi=dpfp-2 norm=none K=16 V=64 dtype=bf16",
)
DECODED = (
    "rule=delta phi=elu+1 norm=sum K=16 V=16 dtype=bf16",
    "rule=kda phi=identity norm=l2 K=32 V=64 dtype=bf16",
    "rule=sum phi=elu+1 norm=attention K=128 V=128 dtype=bf16",
    "rule=delta phi=dpfp-3 norm=sum K=64 V=64 dtype=bf16",
    "rule=fwm phi=tanh norm=none K=128 V=128 dtype=bf16",
)
ARCHS = ("sm_80", "sm_90a", "sm_100", "sm_120")
#: On the other architectures, a problem a rule.
BY_RULE = tuple({text.split()[0]: text for text in reversed(PROBLEMS)}.values())
CASES = [("sm_90a", f"{text} {SIZES}") for text in PROBLEMS]
CASES += [("sm_90a", f"{text} B=2 T=100 H=2 direction=decode") for text in DECODED]
CASES += [(arch, f"{text} {SIZES}") for arch in ("sm_80", "sm_100", "sm_120") for text in BY_RULE]


@pytest.mark.parametrize(("arch", "text"), CASES)
def test_nothing_is_spilled(arch, text):
    problem = Problem.parse(text)
    assert cannot(problem) is None
    rows = [row(problem, each, arch) for each in launched(problem)]
    print(shown(rows))
    assert len(rows) == 1 + problem.backward
    for each in rows:
        assert (each.spilled, each.stack) == (0, 0), each
        assert each.registers * each.threads <= REGISTERS, each
        assert each.shared <= SHARED_BYTES, each


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize(("n", "rule"), list(enumerate(RULES)), ids=str)
def test_several_heads_a_block_spill_nothing(monkeypatch, n, rule, backward):
    """The architectures take turns; one warp a head, and two, which have barriers by number."""
    from fwpbench.implementations.cuda_kernels import nvrtc, sources

    monkeypatch.setattr(block_plan, "BYTES_OF_SEVERAL", 1 << 20)
    norm = "none" if rule == "gated-delta" else "attention"
    K, arch = (16, 32)[(n + backward) % 2], ARCHS[(n + 2 * backward) % 4]
    text = f"rule={rule} phi=elu+1 norm={norm} K={K} V={K} dtype=bf16 {SIZES}"
    problem = Problem.parse(text)
    if backward:
        name, plan = "chunk_backward", chunk_backward_plan(problem)
        given = chunk.constants(problem, plan, GRADIENTS_IN_PARTS=False)
    else:
        name, plan = "chunk_forward", chunk_plan(problem)
        given = chunk.constants(problem, plan, KEEPS=True)
    assert plan.HEADS * plan.WARPS == 4
    found = nvrtc.compiled(sources.text(name, problem.dtype, given), arch)
    assert (found.spilled_bytes, found.stack_bytes) == (0, 0)
    # Of a barrier whose number only registers say, it would be all 16.
    expected = 0 if plan.WARPS == 1 else plan.HEADS + 1
    assert f"used {expected} barriers" in found.log


def test_an_architecture_that_nvrtc_does_not_know_is_unsupported():
    from fwpbench.implementations.base import Unsupported
    from fwpbench.implementations.cuda_kernels import nvrtc

    (first, *_) = launched(Problem.parse(f"{PROBLEMS[0]} {SIZES}"))
    with pytest.raises(Unsupported, match=r"NVRTC [0-9.]+ does not compile for sm_1"):
        nvrtc.compiled(first.text, "sm_1")


def test_what_does_not_compile_is_shown_with_its_source():
    from fwpbench.implementations.cuda_kernels import nvrtc

    with pytest.raises(RuntimeError, match=r"undefined(.|\n)*int x = nothing;"):
        nvrtc.compiled("int x = nothing;", "sm_90a")
