"""A filter of cases: problems, in the grammar that prints them, and what a suite varies besides."""

from __future__ import annotations

import operator as comparisons
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from fwpbench.operators import FEATURE_MAPS, NORMALIZATIONS, UPDATE_RULES
from fwpbench.operators.errors import UserError, unknown
from fwpbench.operators.problem import CHOICES, Problem, field_names, parse_value, show_value
from fwpbench.operators.registry import Registry

COMPARE = {
    "<": comparisons.lt,
    "<=": comparisons.le,
    ">": comparisons.gt,
    ">=": comparisons.ge,
}


@dataclass(frozen=True)
class Where:
    """A filter of problems: `rule=delta,sum phi=dpfp-* T>=1024`; every word must hold.

    `parameters` are the names, beside the fields of a problem, that it may speak of.
    """

    text: str
    parameters: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for name, sign, values in self._terms():
            if name in self.parameters and name not in field_names():
                _check_parameter(name, sign, values)
                continue
            if name not in field_names():
                raise UserError(
                    unknown("field of a problem", name, [*field_names(), *sorted(self.parameters)])
                )
            for value in values:
                parse_value(name, value)
                if name in CHOICES and "*" not in value and value not in CHOICES[name]():
                    raise UserError(unknown(name, value, CHOICES[name]()))
                if name in ("rule", "phi", "norm") and "*" not in value:
                    _known_operator_word(name, value)
            if sign not in ("=", "!=") and name not in "BTHKV":
                raise UserError(f"{name} is a word: it can be = or !=, not {sign}")
            if sign not in ("=", "!=") and len(values) > 1:
                raise UserError(f"{name}{sign} takes one number, not {','.join(values)}")

    def _terms(self) -> list[tuple[str, str, list[str]]]:
        terms = []
        for word in self.text.split():
            match = re.fullmatch(r"([A-Za-z]+)(<=|>=|!=|=|<|>)(\S+)", word)
            if match is None:
                raise UserError(
                    f"{word!r} is not a condition; write name=value, name!=value or, for B T H K "
                    "V, name>=value, as in 'rule=delta T>=1024'"
                )
            terms.append((match[1], match[2], match[3].split(",")))
        return terms

    def matches(self, problem: Problem, parameters: Mapping[str, int | float | str] = {}) -> bool:
        """A case that lacks a parameter has no value of it, so no condition on it holds."""
        return all(
            _holds(getattr(problem, name), sign, values)
            if name in field_names()
            else name in parameters and _parameter_holds(parameters[name], sign, values)
            for name, sign, values in self._terms()
        )


def _holds(actual: Any, sign: str, values: list[str]) -> bool:
    if sign not in ("=", "!="):
        return bool(COMPARE[sign](actual, int(values[0])))
    if type(actual) is int:  # 067 is 67
        return (actual in map(int, values)) == (sign == "=")
    return any(fnmatchcase(show_value(actual), value) for value in values) == (sign == "=")


def _check_parameter(name: str, sign: str, values: list[str]) -> None:
    if sign not in ("=", "!=") and (len(values) > 1 or _number(values[0]) is None):
        raise UserError(f"{name}{sign} takes one number, not {','.join(values)}")


def _parameter_holds(actual: int | float | str, sign: str, values: list[str]) -> bool:
    if isinstance(actual, str):
        found = any(fnmatchcase(actual, value) for value in values)
        return sign in ("=", "!=") and found == (sign == "=")
    if sign in COMPARE:
        return bool(COMPARE[sign](actual, float(values[0])))
    return ("*" in values or actual in map(_number, values)) == (sign == "=")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _known_operator_word(name: str, value: str) -> None:
    """Raises UnknownName, with the nearest name there is."""
    tables: dict[str, Registry[Any]] = {
        "rule": UPDATE_RULES,
        "phi": FEATURE_MAPS,
        "norm": NORMALIZATIONS,
    }
    tables[name][value]
