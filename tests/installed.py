"""Packages built as wheels and installed beside the tests, without network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
QUIET = ["--quiet", "--no-deps", "--no-index"]


def run(*words: str | Path, cwd: Path, code: int = 0, **environment: str) -> str:
    """What the command printed, on both channels; it must end with this exit code."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


def built(source: Path, folder: Path) -> Path:
    """The wheel of a source tree."""
    run(*PIP, "wheel", *QUIET, "--no-build-isolation", "-w", folder, source, cwd=folder.parent)
    (wheel,) = folder.glob("*.whl")
    return wheel


def installed(source: Path, folder: Path) -> dict[str, str]:
    """The environment in which the package and this checkout can be imported."""
    site = folder / "site"
    run(*PIP, "install", *QUIET, "--target", site, built(source, folder / "dist"), cwd=folder)
    return {"PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}
