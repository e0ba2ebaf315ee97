"""--plugin FILE.py: rows of a plain file, added to the tables for as long as a command runs.

The file defines one or more dicts from name to object, as the tables here are called:

    IMPLEMENTATIONS = {"my-kernel": fwpbench.Implementation(run, "what it is")}
    FEATURE_MAPS = {"square": fwpbench.FeatureMap(square, nonnegative=True)}

What such a dict offers is third-party, whatever it says.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.operators import FEATURE_MAPS, INPUT_FAMILIES, NORMALIZATIONS, UPDATE_RULES
from fwpbench.operators.errors import UserError
from fwpbench.operators.registry import Registry
from fwpbench.python_file import digest, load_file
from fwpbench.suites import SUITES

TABLES: dict[str, Registry[Any]] = {
    "FEATURE_MAPS": FEATURE_MAPS,
    "UPDATE_RULES": UPDATE_RULES,
    "NORMALIZATIONS": NORMALIZATIONS,
    "INPUT_FAMILIES": INPUT_FAMILIES,
    "IMPLEMENTATIONS": IMPLEMENTATIONS,
    "SUITES": SUITES,
}

Added = list[tuple[Registry[Any], str]]


@contextmanager
def plugged(paths: Iterable[str]) -> Iterator[None]:
    """The rows of these files are in the tables until the block ends."""
    added: Added = []
    try:
        load_plugins(paths, added)
        yield
    finally:
        for table, name in added:
            table.remove(name)


def load_plugins(paths: Iterable[str], added: Added | None = None) -> None:
    """Add the rows of these files, and tell in `added` which. A process of its own calls this.

    A file that raises has one row, the implementation of its own name, which is missing and says
    why. Raises UserError where there is no such file, it offers nothing, or a name is taken.
    """
    for path in dict.fromkeys(paths):
        source = Path(path).expanduser()
        try:
            rows = list(_rows(load_file(source), path))
        except ImportError as error:
            print(f"fwpbench: --plugin {error}; nothing of it is there", file=sys.stderr)
            rows = [(IMPLEMENTATIONS, source.name, error)]
        for table, name, thing in rows:
            table.add(name, thing, path)
            if added is not None:
                added.append((table, name))


def _rows(module: ModuleType, path: str) -> Iterator[tuple[Registry[Any], str, object]]:
    offered = {name: getattr(module, name) for name in TABLES if hasattr(module, name)}
    if not offered:
        raise UserError(
            f"{path} offers nothing: it should define one of {', '.join(TABLES)}, "
            'as in IMPLEMENTATIONS = {"my-kernel": fwpbench.Implementation(…)}'
        )
    for kind, rows in offered.items():
        if not isinstance(rows, dict) or not all(isinstance(name, str) for name in rows):
            raise UserError(f"{path}: {kind} should be a dict from names to objects, got {rows!r}")
        for name, thing in rows.items():
            if not name or any(character in name for character in ' ,"'):
                raise UserError(f'{path}: {kind} has {name!r}; names are words without , and "')
            yield TABLES[kind], name, _third_party(thing)


def _third_party(thing: object) -> object:
    from fwpbench.implementations.base import Implementation

    return replace(thing, origin="third-party") if isinstance(thing, Implementation) else thing


def as_json(paths: Iterable[str]) -> list[dict[str, str]]:
    """What plan.json keeps of them."""
    return [
        {"path": path, "sha256": digest(Path(path).expanduser())} for path in dict.fromkeys(paths)
    ]


def shown(paths: Iterable[str] | None) -> tuple[str, ...]:
    """Paths as they are recorded: the home folder, which names its user, as ~."""
    home = str(Path.home())
    return tuple(
        path.replace(home, "~", 1) if path.startswith(f"{home}/") else path for path in paths or ()
    )


def paths_of(plan: Mapping[str, Any]) -> tuple[str, ...]:
    """The plugins of a plan written earlier. Raises UserError where one is not what it was."""
    paths = []
    for plugin in plan.get("plugins", []):
        match plugin:
            case {"path": str(path), "sha256": str(wanted)}:
                paths.append(path)
            case _:
                raise UserError(f"plan.json is damaged: it names the plugin {plugin!r}")
        if digest(Path(path).expanduser()) != wanted:
            raise UserError(
                f"the plugin {path} is not what it was when this run was planned (its SHA-256 was "
                f"{wanted[:12]}…): bring the old one back, or begin a new run"
            )
    return tuple(paths)
