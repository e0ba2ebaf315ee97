"""The words of `fwpbench report`."""

from __future__ import annotations

from fwpbench.arguments.parser import Commands, Parser, command

DESCRIPTION = """\
Make one HTML file of one run or several, and the same in brief as Markdown; or a site.
All of it opens without a network.
"""
EXAMPLES = """\
examples:
  fwpbench report runs/2026-11-22-101500
  fwpbench report runs/h200 runs/a100 --output comparison.html
  fwpbench report runs/h200 --png               the charts too, for a talk or a README
  fwpbench report runs/h200 --markdown          for a comment or a terminal, nothing written
  fwpbench report --site site results/*/        index.html and all it leads to, to be published
"""


def add(commands: Commands[Parser]) -> None:
    parser = command(
        commands,
        "report",
        help="one self-contained HTML file from runs, or a site",
        description=DESCRIPTION,
        examples=EXAMPLES,
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders")
    parser.add_argument(
        "--output", metavar="FILE.html", help="the page (default: report.html in the first run)"
    )
    parser.add_argument("--png", action="store_true", help="every chart as a picture beside it")
    parser.add_argument(
        "--markdown", action="store_true", help="print the Markdown, and write nothing"
    )
    parser.add_argument(
        "--site", metavar="FOLDER",
        help="a leaderboard, a page a run and pages of all records, of any number of them",
    )  # fmt: skip
