"""Randomness: one stream a purpose, so that none depends on which others are drawn."""

from __future__ import annotations

import hashlib

from torch import Generator


def stream(seed: int, purpose: str) -> Generator:
    """The generator of `purpose` (on the CPU) under `seed`: the same on every machine."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:7], "big"))
