"""The command line. This file only reads words: nothing here imports torch."""

from __future__ import annotations

import importlib
import io
import os
import sys
import time
from collections.abc import Sequence

from fwpbench import __version__
from fwpbench.arguments import (
    check,
    choose,
    compare,
    doctor,
    export,
    listing,
    merge,
    report,
    run,
    submit_check,
)
from fwpbench.arguments.parser import Parser, described
from fwpbench.operators.errors import UserError

DESCRIPTION = """\
Which implementation of which fast-weight (linear-attention) operator is right, how fast is it,
how does it scale, and what does it learn?
"""
EXAMPLES = """\
examples:
  fwpbench run                                  every suite, quick profile, then the report
  fwpbench run speed --where "rule=delta" --implementations chunked
  fwpbench run --resume runs/2026-11-22-101500  go on where a run stopped
  fwpbench check --where "phi=dpfp-*"           is every implementation right for DPFP?
  fwpbench check mine.py:my_delta --rule delta --norm l2        is my function right?
  fwpbench list problems                        what is computed by whom, and why not
  fwpbench report runs/*                        one HTML file from any number of runs
  fwpbench merge runs/a runs/b --output runs/c  the shards of one plan become one run
  fwpbench compare runs/before runs/after       what became faster or slower
  fwpbench choose --T 8192 --K 64 --gpu H200    which operator by which implementation, by records
  fwpbench submit-check results/h200-2026-11    may this run be published?
  fwpbench export runs/* --output all.csv       one flat table, for pandas or a spreadsheet
  fwpbench doctor                               can this machine's numbers be trusted?
"""
#: In the order in which the help lists them.
COMMANDS = (run, check, listing, report, merge, submit_check, compare, choose, export, doctor)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    for stream in (sys.stdout, sys.stderr):  # "α" must not end a run where the terminal has none
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    began = time.perf_counter()
    words = sys.argv[1:] if arguments is None else list(arguments)
    code = 0
    try:
        parsed = make_parser().parse_args(words)
        parsed.words, parsed.began = words, began
        # What it prints may be cut off at any line; whether all is well is then not said.
        code = 130 if parsed.command in ("run", "check") else 0
        command = importlib.import_module(f"fwpbench.commands.{parsed.command.replace('-', '_')}")
        code = int(command.main(parsed))
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"fwpbench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nfwpbench: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `fwpbench list … | head`
        _let_go_of_the_pipe()
        return code


def _let_go_of_the_pipe() -> None:
    """Python would complain at its end that it cannot write what is left."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def make_parser() -> Parser:
    parser = described(Parser(prog="fwpbench"), DESCRIPTION, EXAMPLES)
    parser.add_argument("--version", action="version", version=f"fwpbench {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser
