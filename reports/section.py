"""What a page is made of: sections, and the panels of charts inside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fwpbench.reports.charts import Series
from fwpbench.reports.drawing import Figure
from fwpbench.reports.palette import Style


@dataclass(frozen=True)
class Link:
    """To another page of the same site."""

    address: str
    text: str


@dataclass(frozen=True)
class Key:
    """One line of a legend."""

    label: str
    style: Style
    note: str = ""


@dataclass(frozen=True)
class Panels:
    """Charts that share axes and a legend."""

    caption: str
    keys: Sequence[Key]
    figures: Sequence[Figure]
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """`question` is what the section answers; `template` is filled with `content`."""

    anchor: str
    title: str
    question: str
    template: str
    content: Mapping[str, Any] = field(default_factory=dict)


def keys_of(series: Sequence[Series]) -> list[Key]:
    seen = {one.label: one.style for one in series}
    return [Key(label, style) for label, style in seen.items()]
