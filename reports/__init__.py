"""Records in, pages out: nothing here computes a result.

`build_report(runs, output)` writes one self-contained HTML file that opens from disk without a
network and reads without JavaScript.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fwpbench.harness.run_folder import Run

__all__ = ["build_report", "load"]


def build_report(runs: Sequence[Run], output: Path) -> Path:
    """Write the report of one or more runs to the file `output` and return its path."""
    from fwpbench.reports.page import page_of

    output.parent.mkdir(parents=True, exist_ok=True)
    # A lone surrogate is legal in JSON and not in UTF-8.
    output.write_bytes(page_of(runs).encode("utf-8", "replace"))
    return output


def load() -> None:
    """Load and start what draws charts: later a report takes the time of its records alone."""
    import fwpbench.reports.page  # noqa: F401
    from fwpbench.reports.drawing import Figure, library

    library()
    _ = Figure("the first drawing", {"data": {"values": []}, "mark": "point"}).svg
