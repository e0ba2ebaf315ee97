"""Whether inputs are answered faster the second time: results that are remembered, not computed.

After MLPerf's TEST04, for kernels: contents that were never seen before are timed, then the very
same again. Whoever computes takes as long; whoever looks results up does not.
"""

from __future__ import annotations

from collections.abc import Callable

#: The second time takes less than this part of the first in every pair. On a machine under load
#: a call of a millisecond was that much faster in every third pair.
REMEMBERED = 0.7
#: Where two of five honest pairs look so, all do once in 60,000 cases.
PAIRS = 12


def remembered(first: Callable[[int], float], again: Callable[[], float]) -> float | None:
    """The largest part of the first time that a second one took, or None where one took as long.

    `first(n)` gives the seconds of a call on the n-th new contents, `again()` those of the same
    call once more. Who computes is believed after one pair, as a rule.
    """
    parts = []
    for n in range(PAIRS):
        seconds = first(n)
        parts.append(again() / seconds if seconds > 0 else 1.0)
        if parts[-1] >= REMEMBERED:
            return None
    return max(parts)
