"""The words of `fwpbench compare`."""

from __future__ import annotations

from fwpbench.arguments.parser import Commands, Parser, command
from fwpbench.arguments.values import fraction

DESCRIPTION = """\
Compare the times of two runs, cell by cell.
"""
EXAMPLES = """\
examples:
  fwpbench run speed --output runs/before       then change something
  fwpbench run speed --output runs/after
  fwpbench compare runs/before runs/after
  fwpbench compare runs/before runs/after --where "rule=delta" --fail-on slower

A cell is slower or faster where its ratio of medians lies beyond the margin by more than noise
explains, with at most 5 % false ones among all such verdicts; the same where its 95 % interval
lies within the margin; else undecided: take more samples (--profile standard). On another machine
there are ratios and no verdicts.

exit codes: 0; with --fail-on slower 1 where something is slower; with --fail-on undecided 3 where
something is undecided; 2 wrong usage
"""


def add(commands: Commands[Parser]) -> None:
    parser = command(
        commands,
        "compare",
        help="what became faster or slower from run to run",
        description=DESCRIPTION,
        examples=EXAMPLES,
    )
    parser.add_argument("before", metavar="BEFORE", help="a run folder")
    parser.add_argument("after", metavar="AFTER", help="another of the same machine")
    parser.add_argument("--where", default="", metavar="FILTER", help='e.g. "rule=delta T>=1024"')
    parser.add_argument(
        "--metric", default="time", metavar="METRIC", help="of which samples (default: time)"
    )
    parser.add_argument(
        "--margin", type=fraction, metavar="X",
        help="what counts as a change: 0.02 is 2 %% (default: 0.01, or the noise of the machine)",
    )  # fmt: skip
    parser.add_argument(
        "--fail-on", action="append", default=[], choices=("slower", "undecided"),
        metavar="VERDICT", help="slower (exit code 1) or undecided (3); repeatable",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object")
