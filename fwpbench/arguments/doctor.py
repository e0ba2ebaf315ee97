"""The words of `fwpbench doctor`."""

from __future__ import annotations

from fwpbench.arguments.parser import Commands, Parser, command

DESCRIPTION = """\
Look at the clock, the caches, the power limit, other processes and the noise, for some seconds.
A run that times does so too, briefly, and keeps it with its records: compare takes the noise
as its margin.
"""
EXAMPLES = """\
examples:
  fwpbench doctor
  fwpbench doctor --device cpu --json

exit codes: 0 grades A and B; 1 grade C; 2 wrong usage
"""


def add(commands: Commands[Parser]) -> None:
    parser = command(
        commands,
        "doctor",
        help="can this machine's numbers be trusted, and why not?",
        description=DESCRIPTION,
        examples=EXAMPLES,
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), metavar="DEVICE", help="cpu or cuda (default: best)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
