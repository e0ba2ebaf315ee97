"""The words of `fwpbench run`."""

from __future__ import annotations

from fwpbench.arguments.parser import Commands, Parser, command
from fwpbench.arguments.selection import add_selection
from fwpbench.arguments.values import names, number, seconds, shard
from fwpbench.suites import SUITES

DESCRIPTION = """\
Run suites and write the report. Every case × implementation gives one record.
"""
EXAMPLES = """\
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


def add(commands: Commands[Parser]) -> None:
    parser = command(
        commands,
        "run",
        help="run suites, record everything, write the report",
        description=DESCRIPTION,
        examples=EXAMPLES,
    )
    parser.add_argument(
        "suites", nargs="*", metavar="SUITE", help=f"which ({', '.join(SUITES)}; default: all)"
    )
    add_selection(parser)
    parser.add_argument("--output", metavar="DIR", help="the run folder (default: runs/<time>)")
    parser.add_argument("--resume", metavar="DIR", help="go on with a run that did not finish")
    parser.add_argument(
        "--budget", type=seconds, metavar="TIME",
        help="end, report included, after so long: 90 (seconds), 10m, 1h30m",
    )  # fmt: skip
    parser.add_argument(
        "--shard", type=shard, metavar="I/N", help="part I of N of the plan: 3/8; see merge"
    )
    parser.add_argument(
        "--processes", type=number, metavar="N",
        help="time each case in N fresh processes: their interval shows what differs from process "
        "to process (default: 1; 3 in the full profile)",
    )  # fmt: skip
    parser.add_argument(
        "--executor", choices=("local", "ray"), default="local", metavar="EXECUTOR",
        help="local: a process for each GPU of this machine (the default); ray: for each GPU of a "
        "Ray cluster, or each of its machines",
    )  # fmt: skip
    parser.add_argument(
        "--ray-address", metavar="ADDRESS", help="of the cluster (default: Ray on this machine)"
    )
    parser.add_argument(
        "--data", type=names, default=[], metavar="A,B",
        help="data sets for the quality suites: wikitext-2, multi30k … (default: embedded ones)",
    )  # fmt: skip
    parser.add_argument(
        "--data-dir", metavar="DIR", help="where they lie, a folder each (default: $FWPBENCH_DATA)"
    )
    parser.add_argument(
        "--domains", type=names, default=[], metavar="A,B",
        help="what speed times besides its default: call, device, kernels, throughput or all, cold "
        "and warm; or default, nothing besides (default: all in the full profile)",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    parser.add_argument(
        "--json", action="store_true", help="no progress; one JSON object at the end"
    )
