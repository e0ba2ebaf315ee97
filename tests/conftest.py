"""What holds for every test: checked shapes, its share of the cores, no network."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jaxtyping
import pytest

# Before torch is imported, because OpenMP reads it once. Processes that tests start inherit it.
# Two workers with all cores' threads each are six times slower than with their share.
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // int(workers)))


def _checked_implementations() -> Iterator[str]:
    """Every module but those that Triton compiles: it reads their source, and wants it unchanged.

    A package's name would stand for all of its modules, so packages are left out.
    """
    root = Path(__file__).parent.parent
    for file in sorted((root / "implementations").rglob("*.py")):
        if file.stem != "__init__" and "@triton.jit" not in file.read_text(encoding="utf-8"):
            yield ".".join(("fwpbench", *file.relative_to(root).with_suffix("").parts))


# Before fwpbench is imported. A machine that only measures has no beartype.
if find_spec("beartype"):
    jaxtyping.install_import_hook(
        ["fwpbench.operators", *_checked_implementations()], "beartype.beartype"
    )

#: Fixtures of several files.
pytest_plugins = ["tests.small_run"]
LOCAL = ("127.", "::1", "localhost")


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    """Tests pass on a machine without network; one that reaches out is told so."""
    connect = socket.socket.connect

    def connect_locally(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not address[0].startswith(LOCAL):
            raise OSError(f"a test reached for {address[0]}:{address[1]}; tests need no network")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect_locally)
        yield
