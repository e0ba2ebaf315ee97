"""Numbers as people read them: three digits, the unit scaled. Records keep s, B and fractions."""

from __future__ import annotations

import math

TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
SIZES = ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))
ENERGIES = ((1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ"))
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
#: A string of a record or an environment is cut here; a command is allowed more.
LONGEST_TEXT = 600
LONGEST_COMMAND = 2000


def digits(value: float, significant: int = 3) -> str:
    """`0.0123`, `1,230`, `4.56 × 10⁻⁹`."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    exponent = math.floor(math.log10(abs(float(f"{value:.{significant - 1}e}"))))
    if not -4 < exponent < 6:
        mantissa = value / 10.0**exponent
        return f"{mantissa:.2f} × 10{str(exponent).translate(SUPERSCRIPTS)}"
    return f"{value:,.{max(0, significant - 1 - exponent)}f}"


def count(value: float) -> str:
    return f"{value:,.0f}"


def plural(number: int, noun: str, many: str = "") -> str:
    """`1 record`, `4,200 records`."""
    return f"{number:,} {noun if number == 1 else many or noun + 's'}"


def shown(value: float | None, unit: str = "1") -> str:
    """The value with its unit, scaled; a dash where there is none."""
    if value is None:
        return "–"
    if unit == "s":
        return _scaled(value, TIMES)
    if unit == "B":
        return _scaled(value, SIZES)
    if unit == "J":
        return _scaled(value, ENERGIES)
    if unit == "fraction":
        return f"{digits(100 * value)} %"
    return digits(value)


def between(low: float | None, high: float | None, unit: str = "1") -> str:
    """An interval, its unit written once where both ends share it."""
    if low is None or high is None:
        return "–"
    first, last = shown(low, unit), shown(high, unit)
    first_number, _, first_unit = first.rpartition(" ")
    if first_unit == last.rpartition(" ")[2] and first_number:
        return f"{first_number} – {last}"
    return f"{first} – {last}"


def clipped(text: str, longest: int = LONGEST_TEXT) -> str:
    return text if len(text) <= longest else f"{text[:longest]}… (cut; {len(text):,} characters)"


def _scaled(value: float, steps: tuple[tuple[float, str], ...]) -> str:
    for size, unit in steps:
        if abs(value) >= size * 0.9995:
            return f"{digits(value / size)} {unit}"
    size, unit = steps[-1]
    return f"{digits(value / size)} {unit}"
