"""Watch a memory forget: what the state answers to every key it was shown, token by token.

Three acts for a memory with room for eight keys, in exact arithmetic but for float64. Eight
orthogonal keys fill it; four of them come again, three times, each time with a new value; then four
keys come that lie between those that are there. The sum rule adds every value to those before it
and so answers with a mixture; the delta rule replaces what it finds, until there is no room.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch

from fwpbench.operators import law
from fwpbench.operators.operator import Operator
from fwpbench.operators.state import State
from fwpbench.operators.streams import stream

ROOM = 8
RULES = ("sum", "delta")
#: Which pair each token writes: all eight, then four of them three times, then four more.
WRITES = (*range(8), *(pair for _ in range(3) for pair in range(4)), *range(8, 12))
PAIRS = max(WRITES) + 1
#: The last token of each act.
ACTS = (8, 20, 24)
VALUES = 64


@dataclass(frozen=True)
class Answer:
    """Of one memory after `token` tokens, asked for one pair, counted from 1.

    `likeness` is the cosine between what it answers and the value that was stored last: 1 is a
    memory that knows it, 0 one that has never heard of it. `writes` counts the values the pair has
    been given.
    """

    rule: str
    token: int
    pair: int
    likeness: float
    writes: int


@cache
def answers() -> tuple[Answer, ...]:
    return tuple(answer for rule in RULES for answer in _answers(rule))


def _answers(rule: str) -> list[Answer]:
    operator = Operator(rule, "identity", "none")
    keys, found = _keys(), []
    state = State(torch.zeros(ROOM, VALUES, dtype=torch.float64))
    stored: dict[int, torch.Tensor] = {}
    values = _unit(torch.randn(len(WRITES), VALUES, generator=stream(0, "values")).double())
    gates = {name: torch.ones((), dtype=torch.float64) for name in operator.update_rule.gates}
    for token, (pair, value) in enumerate(zip(WRITES, values, strict=True), start=1):
        state = law.write(operator, state, keys[pair], value, gates)
        stored[pair] = value
        for known, last in stored.items():
            answer = law.read(operator, state, keys[known])
            likeness = torch.cosine_similarity(answer, last, dim=0).item()
            found.append(Answer(rule, token, known + 1, likeness, WRITES[:token].count(known)))
    return found


def _keys() -> torch.Tensor:
    """[pairs, room]: orthogonal as long as there is room, then in no particular direction."""
    drawn = torch.randn(PAIRS, ROOM, generator=stream(0, "keys")).double()
    orthogonal = torch.linalg.qr(drawn[:ROOM]).Q
    return torch.cat([orthogonal, _unit(drawn[ROOM:])])


def _unit(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(x, dim=-1)
