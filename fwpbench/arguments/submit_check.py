"""The words of `fwpbench submit-check`."""

from __future__ import annotations

from fwpbench.arguments.parser import Commands, Parser, command

DESCRIPTION = """\
Check a submission as the publishing workflow does, and print every error with its line.
"""
EXAMPLES = """\
examples:
  fwpbench run --output results/h200-2026-11    a run, in a folder named by the machine
  rm -r results/h200-2026-11/logs results/h200-2026-11/report.*
  fwpbench submit-check results/h200-2026-11    then open a pull request that adds the folder
  fwpbench submit-check results/*/

Every error is printed as file:line, what was expected, what came, and what to do. It checks each
record against the schema, that every planned case has one (no choice of the good ones), intervals
and medians against the samples, protocol and environment, sizes (records.jsonl 64 MiB, plan.json
16 MiB, a line 4 MiB), and that no folder or address of the machine's user is told.

exit codes: 0 no error; 1 some; 2 wrong usage
"""


def add(commands: Commands[Parser]) -> None:
    parser = command(
        commands,
        "submit-check",
        help="may this run be published under results/?",
        description=DESCRIPTION,
        examples=EXAMPLES,
    )
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="run folders, as results/NAME")
