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


class Unloadable(UserError, ImportError):
    """A row whose module cannot be imported, or gives no object of its kind."""


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
    already taken is an error, raised when the table is used. A row that cannot be loaded, whatever
    its module raises, is Unloadable when it is asked for. `of` is the class of the objects, as
    `"module:class"`.
    """

    def __init__(self, kind: str, rows: Mapping[str, str], of: str | None = None):
        self.kind = re.sub("ies$", "y", kind.replace("_", " ")).removesuffix("s")
        self._plural, self._of = kind.replace("_", " "), of
        self._targets = dict(rows)
        self._loaded: dict[str, T] = {}
        self._added: dict[str, object] = {}
        self._clash: str | None = None
        for plugin in entry_points(group=f"fwpbench.{kind}"):
            package = f" of {plugin.dist.name}" if plugin.dist is not None else ""
            if (other := self._taken(plugin.name)) is not None:
                # Said when the table is used: at import there is nobody to say it to.
                self._clash = (
                    f"two {self._plural} are named {plugin.name!r}: {other} and "
                    f"{plugin.value}{package}; uninstall one of them"
                )
            self._targets[plugin.name] = plugin.value

    def add(self, name: str, thing: object, source: str) -> None:
        """One more row: the object, or the exception in its place; `source` says whose it is."""
        if (other := self._taken(name)) is not None:
            raise UserError(
                f"two {self._plural} are named {name!r}: {other} and {source}; rename one of them"
            )
        if isinstance(thing, Family) != _is_family(name) and not isinstance(thing, Exception):
            raise UserError(
                f"{source}: a name that ends in upper case, as dpfp-NU, is for a Family and a "
                f"Family for such a name; {name!r} is a {type(thing).__name__}"
            )
        self._targets[name], self._added[name] = source, thing

    def remove(self, name: str) -> None:
        """Take away what `add` added."""
        del self._added[name], self._targets[name]
        for made in [made for made in self._loaded if made == name or _makes(name, made)]:
            del self._loaded[made]

    def _taken(self, name: str) -> str | None:
        """Where the row that has this name, or makes it, comes from."""
        if name in self._targets:
            return self._targets[name]
        if _is_family(name):
            name = f"{name.rpartition('-')[0]}-1"
        return next((self._targets[row] for row in self._families() if _makes(row, name)), None)

    def _families(self) -> list[str]:
        return [row for row in self._targets if _is_family(row)]

    def __getitem__(self, name: str) -> T:
        self._check()
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def _load(self, name: str) -> T:
        if name in self._targets and not _is_family(name):
            return cast(T, self._object(name, name))
        for row in self._families():
            if _makes(row, name):
                number = int(name.rpartition("-")[2])
                return cast("Family[T]", self._object(row, name)).make(number)
        raise UnknownName(unknown(self.kind, name, self._targets))

    def _object(self, row: str, name: str) -> object:
        try:
            return self._checked(row)
        except (Exception, SystemExit) as error:
            said = f"{type(error).__name__}: {error}" * (not isinstance(error, ImportError))
            raise Unloadable(
                f"the {self.kind} {name!r} cannot be imported: {said or error}"
            ) from error

    def _checked(self, row: str) -> object:
        target = self._targets[row]
        thing = self._added[row] if row in self._added else _imported(target)
        if isinstance(thing, Exception):
            raise thing
        wanted = Family if _is_family(row) else _imported(self._of) if self._of else object
        if not isinstance(thing, cast(type, wanted)):
            class_ = cast(type, wanted).__name__
            raise ImportError(
                f"{target} should be of the class {class_}, not {type(thing).__name__}"
            )
        return thing

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
                yield from self._members(row)
            else:
                yield row

    def _members(self, row: str) -> list[str]:
        try:
            shown = cast("Family[T]", self._object(row, row)).shown
        except Unloadable:  # its one row says so
            return [f"{row.rpartition('-')[0]}-1"]
        return [f"{row.rpartition('-')[0]}-{number}" for number in shown]

    def __len__(self) -> int:
        return sum(1 for _ in self)  # list(self) would ask for the length first

    def _check(self) -> None:
        if self._clash is not None:
            raise UserError(self._clash)


def _is_family(row: str) -> bool:
    return re.fullmatch(r".*-[A-Z]+", row) is not None


def _makes(row: str, name: str) -> bool:
    """Whether the family has a member of this name."""
    stem = row.rpartition("-")[0]
    return re.fullmatch(rf"{re.escape(stem)}-[1-9]\d{{0,5}}", name) is not None


def _imported(target: str) -> object:
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
