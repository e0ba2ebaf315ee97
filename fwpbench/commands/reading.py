"""A run folder, read for a command."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from fwpbench.harness.records import from_own_line
from fwpbench.harness.run_folder import Run, read_run


def read(path: Path) -> Run:
    """Validated, or as it stands where what validates the records of strangers is missing."""
    try:
        return read_run(path)
    except ModuleNotFoundError:
        return read_run(path, from_own_line)


def complain(runs: Iterable[Run]) -> None:
    """Say which lines were not read."""
    for line in (line for run in runs for line in run.complaints):
        print(f"not read: {line}", file=sys.stderr)
