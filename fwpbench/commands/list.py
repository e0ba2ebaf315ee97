"""fwpbench list: what there is, with formulas, sources and reasons."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fwpbench.harness.statuses import STATUSES
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.operators import FEATURE_MAPS, INPUT_FAMILIES, NORMALIZATIONS, UPDATE_RULES
from fwpbench.operators.errors import UserError
from fwpbench.operators.registry import Registry, Unloadable
from fwpbench.suites import SUITES

if TYPE_CHECKING:
    from fwpbench.harness.suite import Suite
    from fwpbench.implementations.base import Implementation
    from fwpbench.operators.feature_maps import FeatureMap
    from fwpbench.operators.problem import Problem
    from fwpbench.operators.update_rules import UpdateRule

Row = dict[str, Any]

TABLES: dict[str, Registry[Any]] = {
    "feature-maps": FEATURE_MAPS,
    "update-rules": UPDATE_RULES,
    "normalizations": NORMALIZATIONS,
    "implementations": IMPLEMENTATIONS,
    "suites": SUITES,
    "inputs": INPUT_FAMILIES,
}


def main(arguments: Namespace) -> int:
    if not arguments.plugin:  # plugins are looked for in tables that names alone do not load
        return _list(arguments)
    from fwpbench.plugins import plugged, shown

    with plugged(shown(arguments.plugin)):
        return _list(arguments)


def _list(arguments: Namespace) -> int:
    if arguments.names:
        return _names(arguments)
    if arguments.kind is None:
        raise UserError("list what? " + ", ".join(ROWS) + "; or --names for all names")
    rows = ROWS[arguments.kind]()
    if arguments.json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
    elif arguments.kind == "problems":
        _print_problems(rows)
    else:
        _print(rows)
    return 0


def _names(arguments: Namespace) -> int:
    """From the tables' rows alone: no row is loaded, so torch is not either."""
    tables = {kind: table.rows() for kind, table in TABLES.items()} | {"statuses": list(STATUSES)}
    if arguments.kind == "problems":
        raise UserError("problems have no names: fwpbench list problems")
    if arguments.kind is not None:
        names: Any = tables[arguments.kind]
        print(json.dumps(names) if arguments.json else "\n".join(names))
        return 0
    if arguments.json:
        print(json.dumps(tables, indent=1))
    else:
        for kind, names in tables.items():
            print(f"{kind}: {' '.join(names)}")
    return 0


def _documented(docstring: str | None) -> tuple[str, str]:
    """The formula, a docstring's first line, and the source, the paragraph after it."""
    lines = [line.strip() for line in (docstring or "").strip().splitlines()]
    formula, *rest = lines or [""]
    return formula, " ".join(line for line in rest if line)


def _each(
    table: Registry[Any], columns: tuple[str, ...], tell: Callable[[Any], tuple[object, ...]]
) -> list[Row]:
    """A row a name; one that cannot be loaded, or fails when asked, says so in its last column."""
    rows = []
    for name in table:
        try:
            told = tell(table[name])
        except Unloadable as error:
            told = (*[""] * (len(columns) - 1), str(error))
        except Exception as error:  # whatever a plugin raises is its row
            told = (*[""] * (len(columns) - 1), f"fails: {type(error).__name__}: {error}")
        rows.append({"name": name} | dict(zip(columns, told, strict=True)))
    return rows


def feature_maps() -> list[Row]:
    def tell(feature_map: FeatureMap) -> tuple[object, ...]:
        function = getattr(feature_map.function, "func", feature_map.function)  # a partial's own
        return (*_documented(function.__doc__), feature_map.size(64))

    return _each(FEATURE_MAPS, ("formula", "source", "D for K = 64"), tell)


def update_rules() -> list[Row]:
    def tell(rule: UpdateRule) -> tuple[object, ...]:
        gates = ", ".join(f"{gate} per {per}" for gate, per in rule.gates.items())
        return (*_documented(rule.step.__doc__), gates)

    return _each(UPDATE_RULES, ("formula", "source", "gates"), tell)


def normalizations() -> list[Row]:
    return _each(
        NORMALIZATIONS, ("formula", "source"), lambda norm: _documented(norm.scale.__doc__)
    )


def implementations() -> list[Row]:
    def tell(implementation: Implementation) -> tuple[object, ...]:
        devices = ", ".join(implementation.devices)
        here = implementation.missing() or "yes"
        return implementation.summary, implementation.origin, devices, here

    return _each(IMPLEMENTATIONS, ("what", "origin", "devices", "here"), tell)


def suites() -> list[Row]:
    def tell(suite: Suite) -> tuple[object, ...]:
        return suite.question, ", ".join(f"{name} [{m.unit}]" for name, m in suite.metrics.items())

    return _each(SUITES, ("question", "metrics"), tell)


def inputs() -> list[Row]:
    return _each(INPUT_FAMILIES, ("meaning",), lambda family: (family.meaning,))


def statuses() -> list[Row]:
    return [
        {"name": name, "group": status.group, "meaning": status.meaning}
        for name, status in STATUSES.items()
    ]


def problems() -> list[Row]:
    """Every triple × implementation: "yes" or a sentence, at the agreement suite's sizes."""
    from fwpbench.operators.operator import enumerate_operators
    from fwpbench.operators.problem import Problem

    sound, senseless = enumerate_operators()
    rows = []
    for operator in sound:
        problem = Problem.of(
            operator,
            B=1,
            T=67,
            H=2,
            K=16,
            V=12,
            dtype="fp32",
            direction="forward+backward",
        )
        answers = {name: _refusal(name, problem) or "yes" for name in IMPLEMENTATIONS}
        rows.append(_row(operator.rule, operator.phi, operator.norm, answers))
    for operator, reason in senseless:
        answers = dict.fromkeys(IMPLEMENTATIONS, reason)
        rows.append(_row(operator.rule, operator.phi, operator.norm, answers))
    return rows


def _refusal(name: str, problem: Problem) -> str | None:
    try:
        return IMPLEMENTATIONS[name].refuses(problem)
    except Unloadable as error:
        return str(error)
    except Exception as error:
        return f"fails: {type(error).__name__}: {error}"


def _row(rule: str, phi: str, norm: str, answers: dict[str, str]) -> Row:
    return {"rule": rule, "phi": phi, "norm": norm, "implementations": answers}


ROWS: dict[str, Callable[[], list[Row]]] = {
    "feature-maps": feature_maps,
    "update-rules": update_rules,
    "normalizations": normalizations,
    "implementations": implementations,
    "suites": suites,
    "problems": problems,
    "inputs": inputs,
    "statuses": statuses,
}


def _print(rows: list[Row]) -> None:
    from fwpbench.terminal import console, table

    lines = table(*rows[0])
    for row in rows:
        lines.add_row(*(str(value) for value in row.values()))
    console().print(lines)


def _print_problems(rows: list[Row]) -> None:
    """Reasons stand once beneath the table, by number."""
    from fwpbench.terminal import console, table

    lines = table("rule", "phi", "norm", *IMPLEMENTATIONS)
    reasons: dict[str, int] = {}
    for row in rows:
        cells = [
            "yes" if answer == "yes" else f"{reasons.setdefault(answer, len(reasons) + 1)}"
            for answer in row["implementations"].values()
        ]
        lines.add_row(row["rule"], row["phi"], row["norm"], *cells)
    out = console()
    out.print(lines)
    for reason, number in reasons.items():
        out.print(f"{number}  {reason}")
