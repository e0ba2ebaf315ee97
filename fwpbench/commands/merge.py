"""fwpbench merge: the shards of one plan become one run."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from fwpbench.commands.reading import read
from fwpbench.harness.shard import merge
from fwpbench.operators.errors import UserError


def main(arguments: Namespace) -> int:
    runs = [read(Path(path)) for path in arguments.runs]
    for complaint in [line for run in runs for line in run.complaints]:
        raise UserError(f"a shard that cannot be read whole is not merged: {complaint}")
    number = merge(runs, Path(arguments.output))
    print(f"{number} records of {len(runs)} shards → {arguments.output}")
    print(f"report: fwpbench report {arguments.output}")
    return 0
