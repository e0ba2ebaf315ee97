"""One colour and one shape an implementation, everywhere on the page.

The colours are Okabe and Ito's, told apart by people with any colour vision; their black is
`currentColor`, which is legible in light and dark, and their yellow is left out (1.3 : 1 on white).
"""

from __future__ import annotations

from dataclasses import dataclass

COLOURS = ("currentColor", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
#: The shapes as vega names them, each with its outline in a box of −6 … 6 for our own legends.
SHAPES = {
    "circle": "M0,-4.5a4.5,4.5 0 1,0 .01,0z",
    "square": "M-4,-4h8v8h-8z",
    "triangle-up": "M0,-5L5,4H-5z",
    "diamond": "M0,-5.5L5,0L0,5.5L-5,0z",
    "cross": "M-1.7,-5h3.4v3.3h3.3v3.4h-3.3v3.3h-3.4v-3.3h-3.3v-3.4h3.3z",
    "triangle-down": "M0,5L5,-4H-5z",
}
DASHES: tuple[tuple[int, ...], ...] = ((1, 0), (6, 3), (2, 2), (8, 3, 2, 3), (1, 3))


@dataclass(frozen=True)
class Style:
    colour: str
    shape: str
    dash: tuple[int, ...] = DASHES[0]

    @property
    def outline(self) -> str:
        return SHAPES.get(self.shape, "")


def style(place: int, dash: int = 0) -> Style:
    """Seven colours and six shapes: 42 places before a pair comes again."""
    shapes = list(SHAPES)
    return Style(
        COLOURS[place % len(COLOURS)], shapes[place % len(shapes)], DASHES[dash % len(DASHES)]
    )


def styles(number: int) -> list[Style]:
    return [style(place) for place in range(number)]
