"""What a CUDA launch refuses before it reaches the driver."""

from __future__ import annotations

import pytest
import torch

from fwpbench.implementations.cuda_kernels import launch as launches
from fwpbench.implementations.cuda_kernels import sources
from fwpbench.implementations.cuda_kernels.sources import Word
from fwpbench.operators.errors import UserError


def launch(like: torch.Tensor, *arguments: torch.Tensor | int | None) -> None:
    launches.launch("recurrent_forward", "fp32", {"K": 4}, (1, 1), (32, 1), 0, like, *arguments)


def test_tensors_of_two_devices_are_refused():
    here, there = torch.zeros(1), torch.zeros(1, device="meta")
    with pytest.raises(UserError, match="tensors lie on cpu and on meta: move all to one"):
        launch(here, here, None, 3, there)


def test_tensors_of_a_cpu_are_refused_where_kernels_do_not_run_on_it(monkeypatch):
    monkeypatch.setattr(launches, "ON_CPU", False)
    with pytest.raises(UserError, match="FWPBENCH_CUDA_ON_CPU=1"):
        launch(torch.zeros(1), 1)


def test_a_text_has_the_constants_in_the_words_of_the_sources():
    constants = {"K": 4, "KEY_MAP": Word("Map", "elu+1"), "SCALE": Word("Scale", "l2")}
    text = sources.text("recurrent_forward", "bf16", constants | {"READS": True})
    assert text.splitlines() == [
        '#include "portable.cuh"',
        "typedef __nv_bfloat16 Number;",
        "typedef Number Gradient;",
        "constexpr int K = 4;",
        "constexpr Map KEY_MAP = Map::elu_plus_one;",
        "constexpr Scale SCALE = Scale::l2;",
        "constexpr bool READS = true;",
        '#include "recurrent_forward.cu"',
    ]


@pytest.mark.parametrize("lacks", ["nvrtc", "cudart"])
def test_what_is_not_installed_is_missing_by_the_name_of_its_package(monkeypatch, lacks):
    pathfinder = pytest.importorskip("cuda.pathfinder")
    from fwpbench.implementations.cuda_kernels import nvrtc

    def load(name: str) -> None:
        if name == lacks:
            raise RuntimeError("no such library")

    def find(part: str) -> str | None:
        return None if part == lacks else "somewhere"

    monkeypatch.setattr(pathfinder, "load_nvidia_dynamic_lib", load)
    monkeypatch.setattr(pathfinder, "find_nvidia_header_directory", find)
    monkeypatch.setattr(nvrtc, "_where_installed", lambda: None)
    package = {"nvrtc": "nvidia-cuda-nvrtc", "cudart": "nvidia-cuda-runtime"}[lacks]
    assert nvrtc.missing_part.__wrapped__() == package


def test_without_a_compiler_the_kernels_are_missing_on_a_cpu(monkeypatch):
    from fwpbench.implementations import cuda_kernels

    monkeypatch.setattr(cuda_kernels, "ON_CPU", True)
    monkeypatch.setattr(cuda_kernels, "which", lambda name: None)
    assert cuda_kernels.missing() == "g++ is not installed: apt-get install g++"
