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
from fwpbench.operators.registry import Registry
from fwpbench.suites import SUITES

if TYPE_CHECKING:
    from fwpbench.operators.problem import Problem

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


def _documented(docstring: str | None) -> Row:
    """A docstring's first line is the formula, the paragraph after it the source."""
    lines = [line.strip() for line in (docstring or "").strip().splitlines()]
    formula, *rest = lines or [""]
    return {"formula": formula, "source": " ".join(line for line in rest if line)}


def feature_maps() -> list[Row]:
    rows = []
    for name in FEATURE_MAPS:
        feature_map = FEATURE_MAPS[name]
        function = getattr(feature_map.function, "func", feature_map.function)  # a partial's own
        rows.append(
            {"name": name, **_documented(function.__doc__), "D for K = 64": feature_map.size(64)}
        )
    return rows


def update_rules() -> list[Row]:
    return [
        {
            "name": name,
            **_documented(rule.step.__doc__),
            "gates": ", ".join(f"{gate} per {per}" for gate, per in rule.gates.items()),
        }
        for name, rule in UPDATE_RULES.items()
    ]


def normalizations() -> list[Row]:
    return [
        {"name": name, **_documented(normalization.scale.__doc__)}
        for name, normalization in NORMALIZATIONS.items()
    ]


def implementations() -> list[Row]:
    return [_implementation(name) for name in IMPLEMENTATIONS]


def _implementation(name: str) -> Row:
    try:
        implementation = IMPLEMENTATIONS[name]
    except ImportError as error:
        here = f"cannot be imported: {error}"
        return {"name": name, "what": "", "origin": "", "devices": "", "here": here}
    return {
        "name": name,
        "what": implementation.summary,
        "origin": implementation.origin,
        "devices": ", ".join(implementation.devices),
        "here": implementation.missing() or "yes",
    }


def suites() -> list[Row]:
    return [
        {
            "name": name,
            "question": suite.question,
            "metrics": ", ".join(f"{metric} [{m.unit}]" for metric, m in suite.metrics.items()),
        }
        for name, suite in SUITES.items()
    ]


def inputs() -> list[Row]:
    return [{"name": name, "meaning": family.meaning} for name, family in INPUT_FAMILIES.items()]


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
    except ImportError as error:
        return f"cannot be imported: {error}"


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
