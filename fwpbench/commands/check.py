"""fwpbench check: of what is listed, or of anybody's function; nothing is written."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable

#: Set in the process that judges a function: told which problem is next.
begin: Callable[[str], None] | None = None


def main(arguments: Namespace) -> int:
    # The parent of a function's process imports no torch: what is slow is imported once.
    if arguments.function is not None and begin is None and os.name == "posix":
        from fwpbench.commands.own_process import judged_in_own_process

        return judged_in_own_process(arguments)
    from fwpbench.plugins import plugged, shown

    with plugged(shown(arguments.plugin)):
        if arguments.function is not None:
            from fwpbench.commands import check_function

            return check_function.main(arguments, begin or (lambda command: None))
        from fwpbench.commands import check_listed

        return check_listed.main(arguments)
