"""What an exhibit is: a published defect, in a few lines of our own, and how it shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from fwpbench.harness.golden import Run, Truth
from fwpbench.harness.mutants.form import Form
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.problem import Problem

FLA = "https://github.com/fla-org/flash-linear-attention"


@dataclass(frozen=True)
class Credit:
    """Who published it, or found it, or mended it: what stands at `url`, in a few words."""

    text: str
    url: str


@dataclass(frozen=True)
class Shown:
    """What the gate must say of the published form: its status, and which tensors are wrong.

    `suspect` is the mutant that it must look like, where there is one of this bug.
    """

    status: str
    tensors: frozenset[str]
    suspect: str = ""


def shows(status: str, tensors: str, suspect: str = "") -> Shown:
    return Shown(status, frozenset(tensors.split()), suspect)


@dataclass(frozen=True)
class Exhibit:
    """`published` is the defect as a run, `mended` the same lines without it.

    Both are asked `problem` on its inputs after `given` made of them what the defect shows on.
    `fixed` says what became of it. `beside` is what else was claimed, for a defect that is no
    operator: the sentence that says what was seen, or None where the claim does not hold.
    """

    wrong: str
    credits: tuple[Credit, ...]
    fixed: str
    problem: Problem
    published: Run
    must: Shown
    mended: Run = field(default_factory=lambda: Form(16))
    given: Callable[[Inputs], Inputs] = lambda inputs: inputs
    beside: Callable[[Problem, Truth], str | None] | None = None
