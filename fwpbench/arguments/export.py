"""The words of `fwpbench export`."""

from __future__ import annotations

from fwpbench.arguments.parser import Commands, Parser, command
from fwpbench.arguments.values import names

DESCRIPTION = """\
Make one flat table of the records of one run or several.
"""
EXAMPLES = """\
examples:
  fwpbench export runs/a                        CSV, to the terminal or a pipe
  fwpbench export runs/h200 runs/a100 --output all.csv
  fwpbench export runs/a --to json --where "rule=delta"        one flat object a line
  fwpbench export runs/a --output a.parquet     needs pyarrow
  fwpbench export runs/a --to markdown --suites speed          to paste into an issue

One row a record. First the columns that every export has, in this order: run, machine, suite, name,
problem … and the axes of the problem; then, in alphabetical order, what the suites vary and their
metrics, each with .low and .high, the ends of its 95 % interval. Seconds, bytes, joules, fractions.
Raw samples stay in the records (records.jsonl). What is not known is empty, in JSON null.
"""


def add(commands: Commands[Parser]) -> None:
    parser = command(
        commands,
        "export",
        help="records as CSV, JSON lines, Parquet or Markdown",
        description=DESCRIPTION,
        examples=EXAMPLES,
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders")
    parser.add_argument(
        "--to", choices=("csv", "json", "parquet", "markdown"), metavar="FORMAT",
        help="csv, json (lines), parquet or markdown (default: what FILE ends in, else csv)",
    )  # fmt: skip
    parser.add_argument("--output", metavar="FILE", help="where to (default: standard output)")
    parser.add_argument(
        "--suites", type=names, default=[], metavar="A,B", help="only records of these suites"
    )
    parser.add_argument("--where", default="", metavar="FILTER", help='e.g. "rule=delta T>=1024"')
