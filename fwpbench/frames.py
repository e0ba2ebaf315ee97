"""Records as a table."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas


def load(run: str | PathLike[str]) -> pandas.DataFrame:
    """The records of a run folder as a pandas DataFrame, one row a record.

    Columns: the record's fields, the problem's axes (rule, phi, norm, B, T, H, K, V, dtype …), what
    the suite varies, and each metric with `<metric>.low` and `<metric>.high`; times in seconds,
    sizes in bytes. A metric named like an axis has its suite before it: `memory.state`. Warns of
    lines that cannot be read. Raises UserError where `run` is no run.

        frame = fwpbench.load("runs/2026-11-22-101500")
        frame[frame.suite == "speed"].pivot_table("time", ["name", "T"], "implementation")
    """
    import warnings

    from fwpbench.harness.records import to_frame
    from fwpbench.harness.run_folder import read_run

    found = read_run(Path(run))
    for complaint in found.complaints:
        warnings.warn(complaint, stacklevel=2)
    return to_frame(found.records)
