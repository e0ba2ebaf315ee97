"""The words of `fwpbench check`."""

from __future__ import annotations

import argparse

from fwpbench.arguments.parser import Commands, Parser, command
from fwpbench.arguments.selection import add_selection

DESCRIPTION = """\
Check implementations, or a function of your own, against float64: outputs, final state and
every gradient. Nothing is written.
"""
EXAMPLES = """\
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


def add(commands: Commands[Parser]) -> None:
    parser = command(
        commands,
        "check",
        help="agreement only: is every implementation right?",
        description=DESCRIPTION,
        examples=EXAMPLES,
    )
    add_selection(parser)
    _add_function(parser)
    parser.add_argument("--json", action="store_true", help="no progress; records as JSON lines")


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
