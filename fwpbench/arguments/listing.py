"""The words of `fwpbench list`."""

from __future__ import annotations

from fwpbench.arguments.parser import Commands, Parser, command
from fwpbench.arguments.selection import add_plugin

DESCRIPTION = """\
List what there is.
"""
EXAMPLES = """\
examples:
  fwpbench list feature-maps                    names, formulas and sources
  fwpbench list problems --json                 every combination: "yes" or the reason
  fwpbench list implementations --plugin my_kernel.py
  fwpbench list --names                         every name there is, at once
"""
KINDS = (
    "feature-maps",
    "update-rules",
    "normalizations",
    "implementations",
    "suites",
    "problems",
    "inputs",
    "statuses",
)


def add(commands: Commands[Parser]) -> None:
    parser = command(
        commands,
        "list",
        help="what there is, with formulas, sources and reasons",
        description=DESCRIPTION,
        examples=EXAMPLES,
    )
    parser.add_argument("kind", nargs="?", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    add_plugin(parser)
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--names", action="store_true", help="names alone, at once")
