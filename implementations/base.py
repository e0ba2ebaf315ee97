"""What an implementation is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from jaxtyping import Float
from torch import Tensor

from fwpbench.operators.inputs import Inputs
from fwpbench.operators.problem import Problem
from fwpbench.operators.state import State


class Output(NamedTuple):
    """`o` is None where the problem does not read, `state` where it gives no state out."""

    o: Float[Tensor, "B T H V"] | None
    state: State | None


Run = Callable[[Problem, Inputs], Output]


class Unsupported(Exception):
    """What an implementation cannot do and only a launch shows. Its words are the reason."""


@dataclass(frozen=True)
class Implementation:
    """One way of computing problems: `run(problem, inputs) -> Output`.

    Two functions say in one sentence what stands in the way, or return None: `missing()` for this
    machine, `cannot(problem)` for this problem. Both are asked before every run, so there is no
    silent fallback and nothing fails for a reason that was known beforehand. What only a launch
    shows, `run` raises as `Unsupported`. It is differentiable in everything of `inputs` that
    requires a gradient.
    """

    run: Run
    summary: str
    missing: Callable[[], str | None] = lambda: None
    cannot: Callable[[Problem], str | None] = lambda problem: None
    devices: tuple[str, ...] = ("cpu", "cuda")
    origin: Literal["in-tree", "third-party"] = "in-tree"
    #: A regular expression that the names of its GPU kernels match; "" where it has none.
    kernels: str = ""
    #: What it chose for a problem on a device, in words for the record; "" where it never chooses.
    chosen: Callable[[Problem, str], str] = lambda problem, device: ""
    #: Whether its products round their operands to tf32 where dtype=tf32 asks for it. Who does not
    #: say so is not asked: what it computed would be float32 under another name.
    tf32: bool = False
    #: By name, the plans that it takes for a problem's operator at one size or another, first the
    #: one for this problem on this device: each computes a problem of few tokens by that plan, so
    #: that the gate can judge what only a long one gets. {} where there is one way for all sizes.
    plans: Callable[[Problem, str], Mapping[str, Run]] = lambda problem, device: {}

    def refuses(self, problem: Problem, device: str = "cpu") -> str | None:
        """Why it will not run this here, or None."""
        if (reason := self.missing()) is not None:
            return reason
        if device not in self.devices:
            return f"runs on {' and '.join(self.devices)}, not on {device}"
        if problem.dtype == "tf32" and not self.tf32:
            return "it has no tf32: nothing in it rounds the operands of products to tf32"
        return self.cannot(problem)
