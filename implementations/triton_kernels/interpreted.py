"""Triton's interpreter without what it does again at every call inside a kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from triton.runtime import interpreter

from fwpbench.implementations._room import with_room


def quickly(launch: Callable[[], None]) -> None:
    """One launch. Functions that kernels call find the interpreter's language in the place of
    Triton's; it is put there once a module instead of at every call, which is half of all time."""
    ready: set[int] = set()

    def call(function: Any, *arguments: Any, **more: Any) -> Any:
        if (module := id(function.fn.__globals__)) not in ready:
            ready.add(module)
            interpreter._patch_lang(function.fn)
        return function.rewrite()(*arguments, **more)

    with patch.object(interpreter.InterpretedFunction, "__call__", call):
        with_room(launch)
