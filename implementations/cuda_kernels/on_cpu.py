"""CUDA C++ on a CPU: the kernels' own sources under g++ and sources/on_cpu, for tests.

A kernel that breaks a rule of CUDA ends the process, with a sentence on stderr.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from fwpbench.implementations.cuda_kernels import cache, sources

#: FWPBENCH_CUDA_ON_CPU_FLAGS replaces OPTIMIZED: by -fsanitize=address,undefined in the tests.
FLAGS = ("-std=c++17", "-shared", "-fPIC", "-w", "-x", "c++")
OPTIMIZED = "-O1"


def options() -> tuple[str, ...]:
    more = os.environ.get("FWPBENCH_CUDA_ON_CPU_FLAGS", OPTIMIZED).split()
    return (*FLAGS, *more, f"-I{sources.FOLDER}")


@lru_cache(maxsize=1)
def version() -> str:
    return subprocess.run(
        ["g++", "--version"], capture_output=True, text=True, check=True
    ).stdout.splitlines()[0]


@lru_cache(maxsize=1)
def _digest_of_sources() -> str:
    return sources.digest_of_sources()


@lru_cache(maxsize=4096)
def library(text: str) -> Path:
    """The kernels in `text`, compiled."""
    flags = options()
    return cache.kept(
        (version(), _digest_of_sources(), text, *flags), ".so", lambda: _compiled(text, flags)
    )


@lru_cache(maxsize=4096)
def function(kernel: str, text: str) -> Any:
    """`launch(grid, block, bytes, arguments)` of the kernel in `text`."""
    found = getattr(ctypes.CDLL(str(library(text))), f"launch_cuda_fwp_{kernel}")
    found.restype = None
    return found


def _compiled(text: str, flags: tuple[str, ...]) -> bytes:
    with tempfile.TemporaryDirectory() as place:
        source, library = Path(place, "kernel.cu"), Path(place, "kernel.so")
        source.write_text(text)
        first = [f"-I{folder}" for folder in [_precompiled(flags)] if folder]
        done = _run(*first, *flags, str(source), "-o", str(library))
        if done.returncode:
            raise RuntimeError(f"g++ does not compile this kernel:\n{done.stderr}\n{text}")
        return library.read_bytes()


@lru_cache(maxsize=8)
def _precompiled(flags: tuple[str, ...]) -> Path | None:
    """A folder with what every text includes first, read by the compiler once for all of them: a
    third of its time. None where nothing can be kept."""
    name = sha256("\0".join((version(), _digest_of_sources(), *flags)).encode()).hexdigest()[:32]
    header, made = "portable.cuh", cache.folder() / f"{name}.headers"
    if not made.is_dir():
        try:
            cache.folder().mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache.folder()) as place:
                ready = Path(place, "headers")
                ready.mkdir()
                header_flags = [flag for flag in flags if flag not in ("-shared", "-x", "c++")]
                source, out = sources.FOLDER / header, ready / f"{header}.gch"
                if _run(*header_flags, "-x", "c++-header", str(source), "-o", str(out)).returncode:
                    return None
                ready.rename(made)
        except OSError:  # somebody else has made it, or it is read-only
            pass
    return made if made.is_dir() else None


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["g++", *arguments],
        # A sanitizer that is preloaded for the kernels slows the compiler down.
        env=os.environ | {"LD_PRELOAD": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def launch(
    kernel: str,
    text: str,
    grid: tuple[int, int],
    block: tuple[int, int],
    size: int,
    arguments: list[int],
) -> None:
    numbers = [ctypes.c_int64(number) for number in arguments]
    pointers = (ctypes.c_void_p * len(numbers))(
        *[ctypes.cast(ctypes.byref(number), ctypes.c_void_p) for number in numbers]
    )
    of_grid, of_block = (ctypes.c_uint * 3)(*grid, 1), (ctypes.c_uint * 2)(*block)
    function(kernel, text)(of_grid, of_block, ctypes.c_size_t(size), pointers)
