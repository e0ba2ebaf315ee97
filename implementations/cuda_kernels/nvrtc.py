"""CUDA C++ for a GPU: NVRTC through cuda.core, launched on torch's current stream."""

from __future__ import annotations

import io
import os
import re
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch

from fwpbench.implementations.base import Unsupported
from fwpbench.implementations.cuda_kernels import cache, sources


class Compiled(NamedTuple):
    """Machine code of one GPU architecture, and what the compiler said of it."""

    cubin: bytes
    log: str

    @property
    def registers(self) -> int:
        return int(_number(r"Used (\d+) registers", self.log))

    @property
    def spilled_bytes(self) -> int:
        return int(_number(r"(\d+) bytes spill stores", self.log))

    @property
    def stack_bytes(self) -> int:
        return int(_number(r"(\d+) bytes stack frame", self.log))


def _number(pattern: str, log: str) -> str:
    found = re.search(pattern, log)
    if found is None:
        raise ValueError(f"the compiler's log has no {pattern!r}:\n{log}")
    return found[1]


def _core() -> Any:
    """cuda.core, by the name that older versions have for it."""
    from importlib import import_module

    try:
        core = import_module("cuda.core")
        if hasattr(core, "Program"):
            return core
    except ImportError:
        pass
    return import_module("cuda.core.experimental")


#: What is included besides the sources, by the name that pathfinder has for it, and its package.
HEADERS = {"cudart": "nvidia-cuda-runtime", "crt": "nvidia-cuda-crt"}


@lru_cache(maxsize=1)
def missing_part() -> str | None:
    """The package that NVRTC or its headers lack, or None."""
    from cuda.pathfinder import load_nvidia_dynamic_lib

    try:
        load_nvidia_dynamic_lib("nvrtc")
    except RuntimeError:
        return "nvidia-cuda-nvrtc"
    # The compiler's own headers are needed by few includes, and older packages have them elsewhere.
    return None if _headers("cudart") else HEADERS["cudart"]


def _headers(part: str) -> str | None:
    import cuda.pathfinder

    # A pathfinder older than this function leaves looking where pip and toolkits put them.
    find = getattr(cuda.pathfinder, "find_nvidia_header_directory", lambda part: None)
    try:
        found: str | None = find(part)
    except RuntimeError:  # it does not know every part by name
        found = None
    return found or (_where_installed() if part == "cudart" else None)


def _where_installed() -> str | None:
    packages = find_spec("nvidia")
    folders = map(Path, (packages and packages.submodule_search_locations) or ())
    found = [path.parent for folder in folders for path in folder.glob("*/include/cuda_fp16.h")]
    toolkits = filter(None, (os.environ.get("CUDA_HOME"), "/usr/local/cuda"))
    found += [Path(toolkit, "include") for toolkit in toolkits]
    return next((str(each) for each in found if (each / "cuda_fp16.h").is_file()), None)


@lru_cache(maxsize=1)
def include_path() -> list[str]:
    return [str(sources.FOLDER), *filter(None, map(_headers, HEADERS))]


def compiled(text: str, arch: str) -> Compiled:
    """For `arch`, such as sm_90a; no GPU and no driver are needed.

    Raises Unsupported where this NVRTC cannot compile for it.
    """
    Program, ProgramOptions = _core().Program, _core().ProgramOptions

    options = ProgramOptions(
        arch=arch, std="c++17", include_path=include_path(), ptxas_options=["-v"]
    )
    log = io.StringIO()
    try:
        code = Program(text, "c++", options).compile("cubin", logs=log)
    except Exception as error:  # its own exceptions are NVRTC's, by numbers
        if "architecture" in str(error) or "INVALID_OPTION" in str(error):
            raise Unsupported(f"{version()} does not compile for {arch}: {error}") from None
        raise RuntimeError(f"NVRTC does not compile this kernel: {error}\n{text}") from error
    return Compiled(bytes(code.code), log.getvalue())


@lru_cache(maxsize=1)
def version() -> str:
    from cuda.bindings import nvrtc

    _, *numbers = nvrtc.nvrtcVersion()
    return "NVRTC " + ".".join(map(str, numbers))


@lru_cache(maxsize=1)
def _digest_of_sources() -> str:
    return sources.digest_of_sources()


def arch_of(device: torch.device) -> str:
    """The features of Hopper are compiled only for sm_90a."""
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}" + ("a" if (major, minor) == (9, 0) else "")


@lru_cache(maxsize=4096)
def function(kernel: str, text: str, index: int, size: int) -> Any:
    """The kernel in `text`, loaded on the device of this index, for `size` bytes of shared memory.

    Raises Unsupported where the device has less.
    """
    arch = arch_of(torch.device("cuda", index))
    path = cache.kept(
        (version(), _digest_of_sources(), text, arch), ".cubin", lambda: compiled(text, arch).cubin
    )
    found = _core().ObjectCode.from_cubin(cache.payload(path)).get_kernel(f"cuda_fwp_{kernel}")
    most = _core().Device(index).properties.max_shared_memory_per_block_optin
    if size > most:
        raise Unsupported(
            f"its kernel takes {size} bytes of shared memory a block, and this GPU has {most}"
        )
    if size > WITHOUT_ASKING:
        _allow(found, size, index)
    return found


#: Bytes of shared memory that every kernel may take.
WITHOUT_ASKING = 48 * 1024


def _allow(kernel: Any, size: int, index: int) -> None:
    """cuda.core only reads this attribute."""
    from cuda.bindings import driver

    attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    handle = driver.CUkernel(int(getattr(kernel, "handle", None) or kernel._handle))
    (error,) = driver.cuKernelSetAttribute(attribute, size, handle, driver.CUdevice(index))
    if error:
        raise Unsupported(f"{size} bytes of shared memory a block: the driver says {error.name}")


def launch(
    kernel: str,
    text: str,
    grid: tuple[int, int],
    block: tuple[int, int],
    size: int,
    arguments: list[int],
    device: torch.device,
) -> None:
    core = _core()
    with torch.cuda.device(device):
        index = torch.cuda.current_device()
        core.Device(index).set_current()
        config = core.LaunchConfig(grid=grid, block=block, shmem_size=size)
        stream = core.Stream.from_handle(torch.cuda.current_stream().cuda_stream)
        core.launch(stream, config, function(kernel, text, index, size), *arguments)
