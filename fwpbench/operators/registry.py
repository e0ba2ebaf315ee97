"""Named things: our own in a table we can read, other people's through entry points."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Generic, TypeVar, cast

from fwpbench.operators.errors import UserError, unknown

T = TypeVar("T")


class UnknownName(UserError, KeyError):
    """A name that no row of a registry has."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Family(Generic[T]):
    """A row with a whole number in its name, as in `dpfp-NU`: `make(3)` is `dpfp-3`.

    `shown` are the numbers that stand for the family in every enumeration.
    """

    make: Callable[[int], T]
    shown: tuple[int, ...]


class Registry(Mapping[str, T]):
    """A read-only mapping from name to object.

    `rows` is the whole list of what ships with fwpbench, as `"module:object"`: a module is imported
    when one of its names is asked for, never before. A name that ends in upper case (`dpfp-NU`) is
    a Family. Packages add rows by entry points in the group `fwpbench.<kind>`; a name that is
    already taken is an error, raised when the table is used.
    """

    def __init__(self, kind: str, rows: Mapping[str, str]):
        self.kind = re.sub("ies$", "y", kind.replace("_", " ")).removesuffix("s")
        self._targets = dict(rows)
        self._loaded: dict[str, T] = {}
        self._clash: str | None = None
        for plugin in entry_points(group=f"fwpbench.{kind}"):
            if plugin.name in self._targets:
                # Said when the table is used: at import there is nobody to say it to.
                self._clash = (
                    f"two {kind.replace('_', ' ')} are named {plugin.name!r}: "
                    f"{self._targets[plugin.name]} and {plugin.value}; uninstall one of them"
                )
            self._targets[plugin.name] = plugin.value

    def __getitem__(self, name: str) -> T:
        self._check()
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def _load(self, name: str) -> T:
        if name in self._targets and not _is_family(name):
            return cast(T, self._object(name))
        for row in filter(_is_family, self._targets):
            stem = row.rpartition("-")[0]
            if number := re.fullmatch(rf"{re.escape(stem)}-([1-9]\d{{0,5}})", name):
                return cast("Family[T]", self._object(row)).make(int(number[1]))
        raise UnknownName(unknown(self.kind, name, self._targets))

    def _object(self, row: str) -> object:
        module, _, attribute = self._targets[row].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        try:
            self[name]
        except UnknownName:
            return False
        return True

    def rows(self) -> list[str]:
        """The names as they are written in the table, families too; nothing is loaded."""
        self._check()
        return list(self._targets)

    def __iter__(self) -> Iterator[str]:
        """The names that stand for the whole table: each row, a family by a few of its members."""
        for row in self.rows():
            if _is_family(row):
                stem = row.rpartition("-")[0]
                for number in cast("Family[T]", self._object(row)).shown:
                    yield f"{stem}-{number}"
            else:
                yield row

    def __len__(self) -> int:
        return sum(1 for _ in self)  # list(self) would ask for the length first

    def _check(self) -> None:
        if self._clash is not None:
            raise UserError(self._clash)


def _is_family(row: str) -> bool:
    return re.fullmatch(r".*-[A-Z]+", row) is not None
