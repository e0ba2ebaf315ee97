"""The words that choose what is run, in more than one command."""

from __future__ import annotations

import argparse

from fwpbench.arguments.values import number, seconds
from fwpbench.implementations import IMPLEMENTATIONS


def add_selection(parser: argparse.ArgumentParser) -> None:
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
        "--timeout", type=seconds, metavar="TIME",
        help="a case that takes longer hangs, and is ended: 90s, 10m, 1h30m (default: about 2m)",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=number, default=1, metavar="N",
        help="processes at work at once on each device, where nothing is timed (default: 1)",
    )  # fmt: skip
    add_plugin(parser)
    parser.add_argument("--seed", type=int, metavar="N", help="of all inputs (default: 0)")


def add_plugin(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--plugin", action="append", metavar="FILE.py",
        help="a file that defines IMPLEMENTATIONS, FEATURE_MAPS, UPDATE_RULES, SUITES … "
        "(repeatable)",
    )  # fmt: skip
