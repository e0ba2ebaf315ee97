"""Each floor imports only from its own folder and from the floors below it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = ["operators", "implementations", "harness", "suites", "reports", "front door"]
FILES = [  # rglob does not follow links, so each file comes once
    file for folder in ["fwpbench", *FLOORS[1:-1]] for file in sorted((ROOT / folder).rglob("*.py"))
]
#: Slow to import, or not on every machine.
HEAVY = ["torch", "triton", "cuda", "ray", "altair", "fla", "vl_convert", "msgspec", "pandas"]


def each(files: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("file", files, ids=lambda path: str(path.relative_to(ROOT)))


def floor_of(file: Path) -> str:
    first, second, *_ = [*file.relative_to(ROOT).parts, ""]
    return next((part for part in (first, second) if part in FLOORS), "front door")


def imported(file: Path) -> set[str]:
    """The dotted names a file imports, wherever in the file it does."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


@each(FILES)
def test_imports_only_from_below(file: Path) -> None:
    here = floor_of(file)
    for name in imported(file):
        top, _, rest = name.partition(".")
        assert top, f"{file}: say `fwpbench.…`, not `{name}`"
        assert top not in FLOORS, f"{file}: say `fwpbench.{name}`, not `{name}`"
        if top == "fwpbench":
            used = rest.split(".")[0]
            used = used if used in FLOORS else "front door"
            assert FLOORS.index(used) <= FLOORS.index(here), f"{file} ({here}) reaches up: {name}"


@each([file for file in FILES if floor_of(file) == "implementations"])
def test_an_implementation_imports_no_other(file: Path) -> None:
    own = file.relative_to(ROOT / "implementations").parts[0].removesuffix(".py")
    for name in imported(file):
        if name.startswith("fwpbench.implementations."):
            other = name.split(".")[2]
            private = other.startswith("_")  # plumbing that two implementations share
            assert private or other in (own, "base"), f"{file} imports {other!r}"


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["list", "--help"], ["list", "--names"]],
    ids=" ".join,
)
def test_the_front_door_opens_without_heavy_packages(arguments: list[str]) -> None:
    program = f"""
import sys
import fwpbench
from fwpbench.cli import main
sys.argv = ["fwpbench", *{arguments}]
try:
    main()
except SystemExit as done:
    assert not done.code, done.code
assert not (loaded := set({HEAVY}) & set(sys.modules)), loaded
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_an_operator_of_kernels_is_made_without_torchs_compiler() -> None:
    """Importing it takes a second, which would be one of every first call."""
    program = (
        "import sys; from fwpbench.implementations._kernel_operator import KernelOperator;"
        "KernelOperator('made_for_a_test', None, None); print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
