"""The words of `fwpbench choose`."""

from __future__ import annotations

from fwpbench.arguments.parser import Commands, Parser, command
from fwpbench.arguments.values import size

DESCRIPTION = """\
Recommend an operator and its implementation for the sizes you have, from records.
"""
EXAMPLES = """\
examples:
  fwpbench choose --T 8192                      from all runs under results/ and runs/
  fwpbench choose --T 8192 --K 64 --gpu H200 --dtype bf16
  fwpbench choose --T 4096 --direction forward+backward runs/2026-11-22-101500

Times are those of the length asked for, else between two measured lengths, else of the law fitted
to at least four, up to four times beyond the last; of other sizes (K, V, H, B) the nearest. Each
line says which. What no record tells is listed as unknown. Only right results count.

exit codes: 0; 2 no record fits, or wrong usage
"""


def add(commands: Commands[Parser]) -> None:
    parser = command(
        commands,
        "choose",
        help="which operator by which implementation, by records",
        description=DESCRIPTION,
        examples=EXAMPLES,
    )
    parser.add_argument(
        "runs", nargs="*", metavar="RUN", help="run folders (default: all under results/ and runs/)"
    )
    parser.add_argument("--T", type=size, required=True, metavar="N", help="tokens")
    for name, meaning in (("K", "key size"), ("V", "value size"), ("H", "heads"), ("B", "batch")):
        parser.add_argument(f"--{name}", type=size, metavar="N", help=f"{meaning} of a call")
    parser.add_argument("--gpu", "--device", metavar="NAME", help="part of a device's name: H200")
    parser.add_argument("--dtype", metavar="DTYPE", help="fp32, tf32, bf16 … (default: whichever)")
    parser.add_argument(
        "--direction", default="forward", metavar="DIRECTION",
        help="forward, forward+backward, decode (default: forward)",
    )  # fmt: skip
    parser.add_argument(
        "--most", type=size, default=12, metavar="N", help="lines at most (default: 12)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
