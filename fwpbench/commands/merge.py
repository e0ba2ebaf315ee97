"""fwpbench merge: the shards of one plan become one run."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from fwpbench.harness.records import from_own_line
from fwpbench.harness.run_folder import Run, read_run
from fwpbench.harness.shard import merge
from fwpbench.operators.errors import UserError


def main(arguments: Namespace) -> int:
    runs = [_read(Path(path)) for path in arguments.runs]
    for complaint in [line for run in runs for line in run.complaints]:
        raise UserError(f"a shard that cannot be read whole is not merged: {complaint}")
    number = merge(runs, Path(arguments.output))
    print(f"{number} records of {len(runs)} shards → {arguments.output}")
    print(f"report: fwpbench report {arguments.output}")
    return 0


def _read(path: Path) -> Run:
    try:
        return read_run(path)
    except ModuleNotFoundError:  # what validates the records of strangers may be missing here
        return read_run(path, from_own_line)
