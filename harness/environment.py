"""What a run was made on and with: everything that may change a number, and nothing personal."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from fwpbench.harness.device import Device, cpu_name
from fwpbench.harness.records import PROTOCOL

Value = str | int | float | bool | None

#: Variables that change numbers; no other is recorded.
VARIABLES = (
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_VISIBLE_DEVICES",
    "FWPBENCH_CUDA_ON_CPU",
    "MKL_NUM_THREADS",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
    "PYTORCH_CUDA_ALLOC_CONF",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "TRITON_INTERPRET",
)


def describe(
    device: Device,
    command: str,
    fwpbench_version: str,
    execution: Mapping[str, Value] | None = None,
) -> dict[str, Value]:
    """`execution` tells how tasks are executed, and has the last word."""
    facts: dict[str, Value] = {
        "fwpbench": fwpbench_version,
        "protocol": PROTOCOL,
        **_commit(),
        "command": command,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device.name,
        "device kind": device.kind,
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "memory bytes": memory_bytes(),
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": package_version("triton"),
        "nvrtc": package_version("nvidia-cuda-nvrtc"),
        "numpy": package_version("numpy"),
        "float32 matmul precision": torch.get_float32_matmul_precision(),
        "isolation": 0,  # implementations share the process of the harness
        **(execution or {}),
    }
    if device.kind == "cuda":
        facts |= _cuda(device)
    return facts | {name: os.environ[name] for name in VARIABLES if name in os.environ}


def _cuda(device: Device) -> dict[str, Value]:
    properties = torch.cuda.get_device_properties()
    return {
        "cuda": torch.version.cuda,
        "driver": _driver(),
        "compute capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "L2 bytes": properties.L2_cache_size,
        "GPU memory bytes": properties.total_memory,
        "clock Hz": device.clocks(),
    }


def _driver() -> str | None:
    try:
        return Path("/sys/module/nvidia/version").read_text(encoding="utf-8").strip()
    except OSError:
        return None


def usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def package_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> dict[str, Value]:
    """Of the checkout these files are in; None where they are installed without one."""
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str | None:
        try:
            answer = subprocess.run(
                ["git", "-C", str(here), *words], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return answer.stdout.strip() if answer.returncode == 0 else None

    tracked = git("ls-files", "--error-unmatch", Path(__file__).name)
    if tracked is None:
        return {"commit": None, "dirty": None}
    return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}


def command_line(words: Sequence[str]) -> str:
    """The command as it can be typed again, the home folder as ~."""
    return " ".join(["fwpbench", *map(_quoted, words)])


def _quoted(word: str) -> str:
    home = os.path.expanduser("~")
    if word.startswith(f"{home}/") and len(home) > 1:
        rest = word.removeprefix(f"{home}/")
        return f"~/{_quoted(rest)}" if rest else "~/"
    if re.fullmatch(r"[\w@%+:,./-][\w@%+=:,./-]*", word):
        return word
    return shlex.quote(word) if re.search(r'["$`\\!]', word) else f'"{word}"'
