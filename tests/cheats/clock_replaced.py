"""Importing it replaces the clock."""

from __future__ import annotations

import time

from tests.cheats.honest import made, run

_real = time.monotonic
time.perf_counter = lambda: _real() / 1000

IMPLEMENTATIONS = {"clock-replaced": made(run, "Every second takes a thousandth.")}
