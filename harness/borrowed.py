"""Whether a call went through another implementation: who falls back silently times somebody else.

Seen from Python: every function that is called while `call` runs is looked at, and one that stands
in the file of an in-tree implementation is not the third party's own.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import fwpbench.implementations as in_tree

#: Peers are others' kernels, called by files of ours; base says what an implementation is.
NOBODYS = ("peers", "base")
HERE = Path(in_tree.__file__).resolve().parent


def borrowed(call: Callable[[], object], run: Callable[..., Any]) -> list[str]:
    """The in-tree implementations whose code ran, by name of their file or folder, but for that of
    `run`, what the call is a call of: torch's own attention is called by a file of ours."""
    seen: set[str] = set()

    def look(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            seen.add(frame.f_code.co_filename)

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        call()
    finally:
        sys.setprofile(before)
    owners = {_owner(Path(file)) for file in seen if "implementations" in file}
    own = getattr(inspect.unwrap(run), "__code__", None)
    owners -= {None, own and _owner(Path(own.co_filename))}
    return sorted(owner for owner in owners if owner is not None)


def _owner(file: Path) -> str | None:
    resolved = file.resolve()
    if not resolved.is_relative_to(HERE):
        return None
    name = resolved.relative_to(HERE).parts[0].removesuffix(".py")
    return None if name in NOBODYS or name.startswith("_") else name
