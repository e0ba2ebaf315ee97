"""The command line. This file only reads words: nothing here imports torch."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import re
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

from fwpbench import __version__
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.operators.errors import UserError, unknown
from fwpbench.suites import SUITES

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
CHOOSE_EXAMPLES = """\
examples:
  fwpbench choose --T 8192                      from all runs under results/ and runs/
  fwpbench choose --T 8192 --K 64 --gpu H200 --dtype bf16
  fwpbench choose --T 4096 --direction forward+backward runs/2026-11-22-101500

Times are those of the length asked for, else between two measured lengths, else of the law fitted
to at least four, up to four times beyond the last; of other sizes (K, V, H, B) the nearest. Each
line says which. What no record tells is listed as unknown. Only right results count.

exit codes: 0; 2 no record fits, or wrong usage
"""
EXPORT_EXAMPLES = """\
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
DOCTOR_EXAMPLES = """\
examples:
  fwpbench doctor
  fwpbench doctor --device cpu --json

exit codes: 0 grades A and B; 1 grade C; 2 wrong usage
"""
COMPARE_EXAMPLES = """\
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
MERGE_EXAMPLES = """\
examples:
  fwpbench run --shard 1/2 --output runs/a      on one machine
  fwpbench run --shard 2/2 --output runs/b      on another like it
  fwpbench merge runs/a runs/b --output runs/both
"""
RUN_EXAMPLES = """\
examples:
  fwpbench run
  fwpbench run agreement --profile standard --workers 8
  fwpbench run speed scaling --where "rule=sum,delta T>=1024"
  fwpbench run agreement speed --plugin my_kernel.py
  fwpbench run language-modeling --data wikitext-2 --data-dir DIR
  fwpbench run speed --domains all              by call, kernels, throughput too, cold and warm
  fwpbench run --dry-run                        what would be run, and nothing else
  fwpbench run --budget 10m --output runs/a     what can be done in ten minutes
  fwpbench run --resume runs/a --budget 1h30m   and what is left of it in ninety
  fwpbench run --profile full --executor ray --ray-address auto    on all GPUs of a cluster

A budget counts from the start of the command to its end, the report included; starting and
reporting take some seconds of it. Suites are run one after another, in the order of the plan, so it
is the last ones that it leaves: choose suites or --where to have those first that matter. What was
not run, or not to its end, is recorded as skipped; --resume runs it.

A filter is a list of conditions that must all hold: name=value, name!=value, with commas between
alternatives and * for anything; T, B, H, K and V also take <, <=, > and >=. Names: rule phi norm
B T H K V dtype direction state inputs causal masked reads; and what a suite varies besides: trial,
setting, data, pairs, load, domain, cache.

A plugin is a Python file that defines one or more of IMPLEMENTATIONS, FEATURE_MAPS, UPDATE_RULES,
NORMALIZATIONS, INPUT_FAMILIES and SUITES, each a dict from names to objects.

exit codes: 0 nothing wrong or crashed; 1 something was; 2 wrong usage; 130 interrupted
"""
CHECK_EXAMPLES = """\
examples:
  fwpbench check
  fwpbench check --implementations chunked --where "rule=delta dtype=fp32"
  fwpbench check --profile standard --workers 8     all dtypes and input families
  fwpbench check mine.py:my_delta --rule delta --phi dpfp-1 --norm sum
  fwpbench check mine.py:my_kernel --rule gated-delta --norm l2 --layout head-first --dtype bf16
  fwpbench check mine.py:core --rule delta --phi elu+1 --norm sum --features given

A function is given what its parameters ask for by name: q, k, v, beta, alpha or log_alpha (gates
are float32), projection, initial_state (S, or (S, z) where the normalisation divides), scale (1),
return_state; query, h0, output_final_state … are other names of these. It returns o, (o, S),
(o, (S, z)) or (o, None). A state it does not return is not judged.

exit codes: 0 nothing wrong or crashed; 1 something was; 2 wrong usage; 130 interrupted
"""
LIST_EXAMPLES = """\
examples:
  fwpbench list feature-maps                    names, formulas and sources
  fwpbench list problems --json                 every combination: "yes" or the reason
  fwpbench list implementations --plugin my_kernel.py
  fwpbench list --names                         every name there is, at once
"""
REPORT_EXAMPLES = """\
examples:
  fwpbench report runs/2026-11-22-101500
  fwpbench report runs/h200 runs/a100 --output comparison.html
  fwpbench report runs/h200 --png               the charts too, for a talk or a README
  fwpbench report runs/h200 --markdown          for a comment or a terminal, nothing written
  fwpbench report --site site results/*/        index.html and all it leads to, to be published
"""
SUBMIT_EXAMPLES = """\
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


class Parser(argparse.ArgumentParser):
    """Wrong usage exits 2, with the nearest word that would have been right."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\nhelp: {self.prog} --help\n")

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        """Nothing may be left over, here or in a command."""
        known, rest = super().parse_known_args(args, namespace)
        if rest and rest[0].startswith("-"):
            options = [name for name in self._option_string_actions if name.startswith("--")]
            self.error(unknown("option", rest[0].partition("=")[0], options))
        if rest:
            self.error(f"cannot use {' '.join(rest)}")
        return known, rest

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices:
            what = action.metavar if isinstance(action.metavar, str) else action.dest
            raise argparse.ArgumentError(None, unknown(what.lower(), str(value), action.choices))


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


def make_parser() -> argparse.ArgumentParser:
    parser = _parser(Parser(prog="fwpbench", add_help=True), DESCRIPTION, EXAMPLES)
    parser.add_argument("--version", action="version", version=f"fwpbench {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = _parser(
        commands.add_parser("run", help="run suites, record everything, write the report"),
        "Run suites and write the report. Every case × implementation gives one record.",
        RUN_EXAMPLES,
    )
    run.add_argument(
        "suites", nargs="*", metavar="SUITE", help=f"which ({', '.join(SUITES)}; default: all)"
    )
    _add_selection(run)
    run.add_argument("--output", metavar="DIR", help="the run folder (default: runs/<time>)")
    run.add_argument("--resume", metavar="DIR", help="go on with a run that did not finish")
    run.add_argument(
        "--budget", type=_seconds, metavar="TIME",
        help="end, report included, after so long: 90 (seconds), 10m, 1h30m",
    )  # fmt: skip
    run.add_argument(
        "--shard", type=_shard, metavar="I/N", help="part I of N of the plan: 3/8; see merge"
    )
    run.add_argument(
        "--processes", type=_number, metavar="N",
        help="time each case in N fresh processes: their interval shows what differs from process "
        "to process (default: 1; 3 in the full profile)",
    )  # fmt: skip
    run.add_argument(
        "--executor", choices=("local", "ray"), default="local", metavar="EXECUTOR",
        help="local: a process for each GPU of this machine (the default); ray: for each GPU of a "
        "Ray cluster, or each of its machines",
    )  # fmt: skip
    run.add_argument(
        "--ray-address", metavar="ADDRESS", help="of the cluster (default: Ray on this machine)"
    )
    run.add_argument(
        "--data", type=_names, default=[], metavar="A,B",
        help="data sets for the quality suites: wikitext-2, multi30k … (default: embedded ones)",
    )  # fmt: skip
    run.add_argument(
        "--data-dir", metavar="DIR", help="where they lie, a folder each (default: $FWPBENCH_DATA)"
    )
    run.add_argument(
        "--domains", type=_names, default=[], metavar="A,B",
        help="what speed times besides its default: call, device, kernels, throughput or all, cold "
        "and warm; or default, nothing besides (default: all in the full profile)",
    )  # fmt: skip
    run.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    run.add_argument("--json", action="store_true", help="no progress; one JSON object at the end")

    check = _parser(
        commands.add_parser("check", help="agreement only: is every implementation right?"),
        "Check implementations, or a function of your own, against float64: outputs, final state "
        "and\nevery gradient. Nothing is written.",
        CHECK_EXAMPLES,
    )
    _add_selection(check)
    _add_function(check)
    check.add_argument("--json", action="store_true", help="no progress; records as JSON lines")

    listing = _parser(
        commands.add_parser("list", help="what there is, with formulas, sources and reasons"),
        "List what there is.",
        LIST_EXAMPLES,
    )
    listing.add_argument("kind", nargs="?", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    _add_plugin(listing)
    listing.add_argument("--json", action="store_true", help="as JSON")
    listing.add_argument("--names", action="store_true", help="names alone, at once")

    report = _parser(
        commands.add_parser("report", help="one self-contained HTML file from runs, or a site"),
        "Make one HTML file of one run or several, and the same in brief as Markdown; or a site.\n"
        "All of it opens without a network.",
        REPORT_EXAMPLES,
    )
    report.add_argument("runs", nargs="+", metavar="RUN", help="run folders")
    report.add_argument(
        "--output", metavar="FILE.html", help="the page (default: report.html in the first run)"
    )
    report.add_argument("--png", action="store_true", help="every chart as a picture beside it")
    report.add_argument(
        "--markdown", action="store_true", help="print the Markdown, and write nothing"
    )
    report.add_argument(
        "--site", metavar="FOLDER",
        help="a leaderboard, a page a run and pages of all records, of any number of them",
    )  # fmt: skip

    merge = _parser(
        commands.add_parser("merge", help="the shards of one plan become one run"),
        "Make one run of all shards of a plan: the records of a run that was not shared out.",
        MERGE_EXAMPLES,
    )
    merge.add_argument("runs", nargs="+", metavar="RUN", help="run folders, one of each shard")
    merge.add_argument("--output", metavar="DIR", required=True, help="the run folder to make")

    submit = _parser(
        commands.add_parser("submit-check", help="may this run be published under results/?"),
        "Check a submission as the publishing workflow does, and print every error with its line.",
        SUBMIT_EXAMPLES,
    )
    submit.add_argument("folders", nargs="+", metavar="FOLDER", help="run folders, as results/NAME")

    compare = _parser(
        commands.add_parser("compare", help="what became faster or slower from run to run"),
        "Compare the times of two runs, cell by cell.",
        COMPARE_EXAMPLES,
    )
    compare.add_argument("before", metavar="BEFORE", help="a run folder")
    compare.add_argument("after", metavar="AFTER", help="another of the same machine")
    compare.add_argument("--where", default="", metavar="FILTER", help='e.g. "rule=delta T>=1024"')
    compare.add_argument(
        "--metric", default="time", metavar="METRIC", help="of which samples (default: time)"
    )
    compare.add_argument(
        "--margin", type=_fraction, metavar="X",
        help="what counts as a change: 0.02 is 2 %% (default: 0.01, or the noise of the machine)",
    )  # fmt: skip
    compare.add_argument(
        "--fail-on", action="append", default=[], choices=("slower", "undecided"),
        metavar="VERDICT", help="slower (exit code 1) or undecided (3); repeatable",
    )  # fmt: skip
    compare.add_argument("--json", action="store_true", help="one JSON object")

    choose = _parser(
        commands.add_parser("choose", help="which operator by which implementation, by records"),
        "Recommend an operator and its implementation for the sizes you have, from records.",
        CHOOSE_EXAMPLES,
    )
    choose.add_argument(
        "runs", nargs="*", metavar="RUN", help="run folders (default: all under results/ and runs/)"
    )
    choose.add_argument("--T", type=_size, required=True, metavar="N", help="tokens")
    for size, meaning in (("K", "key size"), ("V", "value size"), ("H", "heads"), ("B", "batch")):
        choose.add_argument(f"--{size}", type=_size, metavar="N", help=f"{meaning} of a call")
    choose.add_argument("--gpu", "--device", metavar="NAME", help="part of a device's name: H200")
    choose.add_argument("--dtype", metavar="DTYPE", help="fp32, tf32, bf16 … (default: whichever)")
    choose.add_argument(
        "--direction", default="forward", metavar="DIRECTION",
        help="forward, forward+backward, decode (default: forward)",
    )  # fmt: skip
    choose.add_argument(
        "--most", type=_size, default=12, metavar="N", help="lines at most (default: 12)"
    )
    choose.add_argument("--json", action="store_true", help="one JSON object")

    export = _parser(
        commands.add_parser("export", help="records as CSV, JSON lines, Parquet or Markdown"),
        "Make one flat table of the records of one run or several.",
        EXPORT_EXAMPLES,
    )
    export.add_argument("runs", nargs="+", metavar="RUN", help="run folders")
    export.add_argument(
        "--to", choices=("csv", "json", "parquet", "markdown"), metavar="FORMAT",
        help="csv, json (lines), parquet or markdown (default: what FILE ends in, else csv)",
    )  # fmt: skip
    export.add_argument("--output", metavar="FILE", help="where to (default: standard output)")
    export.add_argument(
        "--suites", type=_names, default=[], metavar="A,B", help="only records of these suites"
    )
    export.add_argument("--where", default="", metavar="FILTER", help='e.g. "rule=delta T>=1024"')

    doctor = _parser(
        commands.add_parser("doctor", help="can this machine's numbers be trusted, and why not?"),
        "Look at the clock, the caches, the power limit, other processes and the noise, for some "
        "seconds.\nA run that times does so too, briefly, and keeps it with its records: compare "
        "takes the noise\nas its margin.",
        DOCTOR_EXAMPLES,
    )
    doctor.add_argument(
        "--device", choices=("cpu", "cuda"), metavar="DEVICE", help="cpu or cuda (default: best)"
    )
    doctor.add_argument("--json", action="store_true", help="one JSON object")
    return parser


def _fraction(text: str) -> float:
    """0.01."""
    if re.fullmatch(r"0?\.\d{1,9}|0", text) is None:
        raise argparse.ArgumentTypeError(f"expected a fraction such as 0.01, not {text!r}")
    return float(text)


def _size(text: str) -> int:
    """8192."""
    if re.fullmatch(r"[1-9]\d{0,11}", text) is None:
        raise argparse.ArgumentTypeError(f"expected a size such as 64 or 8192, not {text!r}")
    return int(text)


def _names(text: str) -> list[str]:
    """a,b."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _seconds(text: str) -> float:
    """90, 90s, 10m, 1.5h, 1h30m."""
    number = r"(\d{1,9}(?:\.\d{1,9})?)"
    said = re.fullmatch(rf"(?:{number}h)?(?:{number}m)?(?:{number}s?)?", text)
    parts = [float(part or 0) for part in said.groups()] if said else [0.0]
    seconds = sum(part * unit for part, unit in zip(parts, (3600, 60, 1), strict=False))
    if not seconds:
        raise argparse.ArgumentTypeError(
            f"expected a time such as 90 (seconds), 90s, 10m or 1h30m, not {text!r}"
        )
    return seconds


def _number(text: str) -> int:
    """3."""
    if re.fullmatch(r"[1-9]\d{0,2}", text) is None:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to 999, not {text!r}")
    return int(text)


def _shard(text: str) -> tuple[int, int]:
    """3/8."""
    said = re.fullmatch(r"([1-9]\d{0,5})/([1-9]\d{0,5})", text)
    if said is None or int(said[1]) > int(said[2]):
        raise argparse.ArgumentTypeError(f"expected a part such as 1/8, 2/8 … 8/8, not {text!r}")
    return int(said[1]), int(said[2])


def _parser(
    parser: argparse.ArgumentParser, description: str, examples: str
) -> argparse.ArgumentParser:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = description, examples
    parser.allow_abbrev = False
    return parser


def _add_plugin(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--plugin", action="append", metavar="FILE.py",
        help="a file that defines IMPLEMENTATIONS, FEATURE_MAPS, UPDATE_RULES, SUITES … "
        "(repeatable)",
    )  # fmt: skip


def _add_function(check: argparse.ArgumentParser) -> None:
    """What `check` is told of a function of the user's own."""
    check.add_argument(
        "function", nargs="?", metavar="FILE.py:FUNCTION", help="a function of your own"
    )
    own = check.add_argument_group("with FILE.py:FUNCTION")
    own.add_argument("--rule", metavar="RULE", help="the update rule it computes")
    own.add_argument("--phi", metavar="PHI", help="its feature map (default: identity)")
    own.add_argument("--norm", metavar="NORM", help="its normalisation (default: none)")
    own.add_argument("--dtype", metavar="A,B", help="fp32, tf32, bf16, fp16 (default: fp32,bf16)")
    own.add_argument(
        "--layout", choices=("time-first", "head-first"), metavar="LAYOUT",
        help="time-first, [B, T, H, K] (the default), or head-first, [B, H, T, K]",
    )  # fmt: skip
    own.add_argument(
        "--features", choices=("raw", "given"), metavar="FEATURES",
        help="raw: it applies the feature map itself (the default); given: it gets φ(q) and φ(k), "
        "normalised",
    )  # fmt: skip
    own.add_argument(
        "--sizes", metavar="SIZES", help='default: "B=2 H=3 K=16 V=12 T=1,63,64,65,131"'
    )
    own.add_argument(
        "--inputs", metavar="A,B", help="input families (default: normal,realistic,saturated-gates)"
    )
    own.add_argument("--direction", metavar="A,B", help="default: forward+backward,forward")


def _add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--profile", choices=("quick", "standard", "full"), metavar="PROFILE",
        help="quick (minutes, the default), standard or full",
    )  # fmt: skip
    parser.add_argument("--where", default="", metavar="FILTER", help='e.g. "rule=delta T>=1024"')
    parser.add_argument(
        "--implementations", default=None, metavar="A,B",
        help=f"which ({', '.join(IMPLEMENTATIONS)}; default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        metavar="DEVICE",
        help="cpu or cuda (default: the best)",
    )
    parser.add_argument(
        "--timeout", type=_seconds, metavar="TIME",
        help="a case that takes longer hangs, and is ended: 90s, 10m, 1h30m (default: about 2m)",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=_number, default=1, metavar="N",
        help="processes at work at once on each device, where nothing is timed (default: 1)",
    )  # fmt: skip
    _add_plugin(parser)
    parser.add_argument("--seed", type=int, metavar="N", help="of all inputs (default: 0)")
