"""A problem's kernel as one text: the shared parts, the problem's constants, the kernel."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent
#: What q, k, v and o are stored as.
NUMBERS = {"fp32": "float", "tf32": "float", "bf16": "__nv_bfloat16", "fp16": "__half"}


class Word(NamedTuple):
    """A value of an enumeration of portable.cuh, by the name that the project has for it."""

    of: str
    value: str

    def __str__(self) -> str:
        return f"{self.of}::{self.value.replace('elu+1', 'elu_plus_one').replace('-', '_')}"


Constant = int | bool | Word
Constants = dict[str, Constant]


def text(kernel: str, dtype: str, constants: Constants) -> str:
    """Includes are found in FOLDER."""
    lines = ['#include "portable.cuh"', f"typedef {NUMBERS[dtype]} Number;"]
    # Parts of a gradient are added up afterwards, in float32.
    gradient = "float" if constants.get("GRADIENTS_IN_PARTS") else "Number"
    lines.append(f"typedef {gradient} Gradient;")
    for name, value in constants.items():
        kind = {bool: "bool", int: "int"}.get(type(value)) or str(getattr(value, "of", ""))
        lines.append(
            f"constexpr {kind} {name} = {str(value).lower() if kind == 'bool' else value};"
        )
    return "\n".join([*lines, f'#include "{kernel}.cu"', ""])


def digest_of_sources() -> str:
    """Of every file that a text may include: what was compiled from others is not used again."""
    from hashlib import sha256

    found = sha256()
    for path in sorted(FOLDER.rglob("*.*")):
        if path.suffix in (".cu", ".cuh", ".h"):
            found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()
