"""Importing it changes torch's default dtype for everybody."""

from __future__ import annotations

import torch

from tests.cheats.honest import made, run

torch.set_default_dtype(torch.float16)

IMPLEMENTATIONS = {"half-by-default": made(run, "Left as its author likes it.")}
