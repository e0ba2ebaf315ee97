"""Room for the frames of Python functions.

CPython keeps frames in pieces of 16 KB. A call that does not fit maps another piece, and unmaps it
when it returns: a loop that stands just before the end of a piece does so at each of its calls. How
deep a program happens to stand decided whether a token loop took 2.1 ms or 3.8 ms. A frame larger
than a piece gets one of its own, a power of two, and what it calls lies in what is left of that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Words on the stack of a frame that has room after it: half a megabyte and a little, so that its
#: piece is of one megabyte. A thousand frames, as deep as Python goes, need about a hundred each.
WORDS = 1 << 16


def with_room(call: Callable[[], T]) -> T:
    """What `call()` returns; as fast wherever it is called from."""
    return call()


with_room.__code__ = with_room.__code__.replace(co_stacksize=WORDS)
