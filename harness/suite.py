"""What a suite is: cases, a function that answers one, and what its numbers mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fwpbench.harness.device import Device
from fwpbench.harness.profiles import Profile
from fwpbench.harness.records import Measurement
from fwpbench.implementations.base import Implementation
from fwpbench.operators.problem import Problem


@dataclass(frozen=True)
class Metric:
    """What a number of a suite means. `unit` is s, B, J, fraction or 1."""

    unit: str
    better: Literal["lower", "higher"]
    meaning: str


@dataclass(frozen=True)
class Case:
    """One question: a problem, and what the suite varies besides (`parameters`)."""

    problem: Problem
    parameters: Mapping[str, float | str] = field(default_factory=dict)
    name: str = ""
    #: Implementations that are not asked this, each with the sentence that says why.
    excluded: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What a suite says of one case on one implementation; the engine makes the record of it."""

    status: str = "ok"
    reason: str = ""
    metrics: Mapping[str, Measurement] = field(default_factory=dict)
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)
    tags: Sequence[str] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)


#: Says how far a long case is: so much done, of so much (0: who knows), and a few words.
Tell = Callable[[int, int, str], None]


def tell_nobody(done: int, total: int, words: str) -> None:
    """Where nobody waits for the case."""


@dataclass(frozen=True)
class Setting:
    """Under which circumstances a case is answered."""

    device: Device
    profile: Profile
    seed: int
    #: Files given with --plugin.
    plugins: tuple[str, ...] = ()
    #: Who loads them in another process, as "module:object".
    load_plugins: str | None = None
    #: Where the data sets lie that are not part of this package; --data-dir.
    data_dir: Path | None = None
    #: The folder where a long case keeps what it needs to be gone on with, under the key of the
    #: record to come; None: it starts anew.
    checkpoints: Path | None = None
    task: str = ""
    #: A case that tells is not hanging: its time limit starts anew.
    tell: Tell = tell_nobody


@dataclass(frozen=True)
class Suite:
    """`cases(profile)` lists the questions, `answer(case, implementation, setting)` asks one."""

    question: str
    cases: Callable[[Profile], Sequence[Case]]
    answer: Callable[[Case, Implementation, Setting], Answer]
    metrics: Mapping[str, Metric]
    #: The data sets it knows, by name (`Profile.data`).
    data: Sequence[str] = ()
    #: Whether several of its cases may be at work on one device: nothing timed, no room measured.
    side_by_side: bool = False
