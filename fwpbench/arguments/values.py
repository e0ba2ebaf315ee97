"""What a word after an option may be: each takes the word and raises what argparse prints.

Its first line of documentation is what it accepts.
"""

from __future__ import annotations

import argparse
import re


def fraction(text: str) -> float:
    """0.01."""
    if re.fullmatch(r"0?\.\d{1,9}|0", text) is None:
        raise argparse.ArgumentTypeError(f"expected a fraction such as 0.01, not {text!r}")
    return float(text)


def size(text: str) -> int:
    """8192."""
    if re.fullmatch(r"[1-9]\d{0,11}", text) is None:
        raise argparse.ArgumentTypeError(f"expected a size such as 64 or 8192, not {text!r}")
    return int(text)


def names(text: str) -> list[str]:
    """a,b."""
    return [name.strip() for name in text.split(",") if name.strip()]


def seconds(text: str) -> float:
    """90, 90s, 10m, 1.5h, 1h30m."""
    digits = r"(\d{1,9}(?:\.\d{1,9})?)"
    said = re.fullmatch(rf"(?:{digits}h)?(?:{digits}m)?(?:{digits}s?)?", text)
    parts = [float(part or 0) for part in said.groups()] if said else [0.0]
    total = sum(part * unit for part, unit in zip(parts, (3600, 60, 1), strict=False))
    if not total:
        raise argparse.ArgumentTypeError(
            f"expected a time such as 90 (seconds), 90s, 10m or 1h30m, not {text!r}"
        )
    return total


def number(text: str) -> int:
    """3."""
    if re.fullmatch(r"[1-9]\d{0,2}", text) is None:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to 999, not {text!r}")
    return int(text)


def shard(text: str) -> tuple[int, int]:
    """3/8."""
    said = re.fullmatch(r"([1-9]\d{0,5})/([1-9]\d{0,5})", text)
    if said is None or int(said[1]) > int(said[2]):
        raise argparse.ArgumentTypeError(f"expected a part such as 1/8, 2/8 … 8/8, not {text!r}")
    return int(said[1]), int(said[2])
