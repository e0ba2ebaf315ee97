"""A parser whose complaints name what would have been right, and whose help ends in examples."""

from __future__ import annotations

import argparse
from typing import NoReturn

from fwpbench.operators.errors import unknown


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


#: Where a command is added.
Commands = argparse._SubParsersAction  # argparse has no public name for it


def command(
    commands: Commands[Parser], name: str, *, help: str, description: str, examples: str
) -> Parser:
    """A new command: `help` is its line in the list of commands."""
    return described(commands.add_parser(name, help=help), description, examples)


def described(parser: Parser, description: str, examples: str) -> Parser:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = description, examples
    parser.allow_abbrev = False
    return parser
