"""Laws of the tables: a name gives its object, a typo the nearest name, and nothing loads early."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.operators import FEATURE_MAPS, INPUT_FAMILIES, NORMALIZATIONS, UPDATE_RULES, registry
from fwpbench.operators.errors import UserError, unknown
from fwpbench.operators.registry import Family, Registry, UnknownName
from fwpbench.suites import SUITES

ROOT = Path(__file__).parent.parent
TABLES: dict[str, Registry[Any]] = {
    "feature maps": FEATURE_MAPS,
    "update rules": UPDATE_RULES,
    "normalizations": NORMALIZATIONS,
    "input families": INPUT_FAMILIES,
    "implementations": IMPLEMENTATIONS,
    "suites": SUITES,
}
each_table = pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)

EVEN = Family(lambda number: f"even {2 * number}", shown=(1, 5))
ODD = Family(lambda number: f"odd {2 * number + 1}", shown=(3,))
ONE, MISSPELT = object(), "not here"


def made(**rows: str) -> Registry[Any]:
    named = {name.replace("_", "-"): f"{__name__}:{target}" for name, target in rows.items()}
    return Registry("test_things", named)


@each_table
def test_every_name_that_is_shown_loads_once_and_is_in_the_table(table: Registry[Any]) -> None:
    assert len(table) > 0
    for name in table:
        assert name in table
        assert table[name] is table[name]


def test_a_kind_is_said_in_the_singular() -> None:
    kinds = [table.kind for table in TABLES.values()]
    assert kinds == [
        *("feature map", "update rule", "normalization", "input family", "implementation", "suite")
    ]


@each_table
def test_a_table_is_a_mapping(table: Registry[Any]) -> None:
    assert len(list(table)) == len(table) == len(set(table)) == len(dict(table))
    assert len(table.rows()) == len(set(table.rows())) <= len(table)


@each_table
def test_a_typo_gets_the_nearest_name(table: Registry[Any]) -> None:
    for name in (name for name in table.rows() if name == name.lower()):
        typo = name[0] + name
        with pytest.raises(UnknownName, match="Did you mean") as raised:
            table[typo]
        sentence = str(raised.value)
        assert sentence.startswith(
            f"no {table.kind} named {typo!r}. Did you mean '{name}'? Known: "
        )
        assert isinstance(raised.value, UserError)
        assert isinstance(raised.value, KeyError)


@each_table
@pytest.mark.parametrize(
    "name", ["", " ", "no such thing", "dpfp-", "dpfp-0", "dpfp-NU", "dpfp-1 "]
)
def test_what_is_no_name_is_not_in_the_table(table: Registry[Any], name: str) -> None:
    assert name not in table
    assert table.get(name) is None


@each_table
@pytest.mark.parametrize("name", [None, 7, ("a",), b"sum"], ids=repr)
def test_what_is_no_string_is_not_in_the_table(table: Registry[Any], name: object) -> None:
    assert name not in table


def test_a_family_makes_its_members_by_number() -> None:
    table = made(even_N="EVEN", even_odd_N="ODD", one="ONE")
    assert (table["even-7"], table["even-odd-7"], table["one"]) == ("even 14", "odd 15", ONE)
    assert list(table) == ["even-1", "even-5", "even-odd-3", "one"]
    assert table.rows() == ["even-N", "even-odd-N", "one"]
    for name in (
        "even-0",
        "even-07",
        "even--1",
        "even-1.0",
        "even-",
        "even-N",
        "even-1000000",
        "even",
    ):
        assert name not in table, name


def test_a_row_is_imported_when_it_is_asked_for() -> None:
    table = Registry[Any](
        "test_things", {"absent": "no_such_module:IT", "unsaid": f"{__name__}:IT"}
    )
    assert list(table) == ["absent", "unsaid"]
    with pytest.raises(ImportError, match=r"the test thing 'absent' cannot .* 'no_such_module'"):
        table["absent"]
    with pytest.raises(ImportError, match=r"AttributeError: .* 'IT'"):
        table["unsaid"]


def plug_in(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """As if installed packages offered these."""
    points = [EntryPoint(name, f"{__name__}:ONE", "fwpbench.test_things") for name in names]
    monkeypatch.setattr(
        registry, "entry_points", lambda group: [p for p in points if p.group == group]
    )


def test_a_package_adds_rows_by_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, "theirs")
    assert list(made(ours="ONE")) == ["ours", "theirs"]
    assert made(ours="ONE")["theirs"] is ONE


@pytest.mark.parametrize("names", [["ours"], ["theirs", "theirs"]])
def test_a_name_that_is_taken_is_an_error_that_names_both(
    monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    plug_in(monkeypatch, *names)
    """When it is used: at import, as for --help, there is nobody to say it to."""
    table = made(ours="ONE")
    for use in (table.rows, lambda: list(table), lambda: table["ours"], lambda: "ours" in table):
        with pytest.raises(UserError, match=f"two test things are named '{names[-1]}': .* and .*"):
            use()


def test_the_tables_are_read_without_torch() -> None:
    modules = "fwpbench.operators, fwpbench.implementations, fwpbench.suites, fwpbench.cli"
    script = f"import sys, {modules}; assert not {{'torch', 'numpy', 'pandas'}} & {{*sys.modules}}"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("dleta", " Did you mean 'delta'?"), ("xyzzy", ""), ("", ""), ("DELTA", "")],
)
def test_the_hint_is_given_only_where_a_name_is_near(name: str, hint: str) -> None:
    sentence = unknown("rule", name, ["sum", "delta"])
    assert sentence == f"no rule named {name!r}.{hint} Known: sum, delta"
