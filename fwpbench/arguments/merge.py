"""The words of `fwpbench merge`."""

from __future__ import annotations

from fwpbench.arguments.parser import Commands, Parser, command

DESCRIPTION = """\
Make one run of all shards of a plan: the records of a run that was not shared out.
"""
EXAMPLES = """\
examples:
  fwpbench run --shard 1/2 --output runs/a      on one machine
  fwpbench run --shard 2/2 --output runs/b      on another like it
  fwpbench merge runs/a runs/b --output runs/both
"""


def add(commands: Commands[Parser]) -> None:
    parser = command(
        commands,
        "merge",
        help="the shards of one plan become one run",
        description=DESCRIPTION,
        examples=EXAMPLES,
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders, one of each shard")
    parser.add_argument("--output", metavar="DIR", required=True, help="the run folder to make")
