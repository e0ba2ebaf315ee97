"""Errors a user can mend, said in sentences."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something the user gave cannot be used. The message says what was expected and what came."""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """`no update rule named 'dleta'. Did you mean 'delta'? Known: …`"""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"no {kind} named {name!r}.{hint} Known: {', '.join(names)}"
