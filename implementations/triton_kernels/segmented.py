"""The plan `segmented`: T in segments, all at once, for a long sequence of few heads.

Each segment alone, from a state of 0: what it adds to a state, and what it makes of the one that it
finds. A short scan gives the state that each begins with; then all segments at once again, reading.
Backward is the same with the gradients of the states, from the last segment to the first: what a
segment makes of them is the transpose of what it makes of a state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fwpbench.implementations._kernel_operator import Given, Shapes
from fwpbench.implementations.triton_kernels import chunks
from fwpbench.implementations.triton_kernels.chunks import Tensors
from fwpbench.implementations.triton_kernels.plan import plan
from fwpbench.implementations.triton_kernels.scan import keys_before, scan
from fwpbench.operators.problem import Problem


@dataclass(frozen=True)
class Segmented:
    """With segments of so many tokens: a multiple of every chunk's."""

    tokens: int

    def shapes(self, problem: Problem, keeps: bool) -> Shapes:
        """As fused; for a backward pass also what it scans by, and for the rule sum, which keeps
        no state at every chunk, the state that each segment begins with."""
        found = chunks.shapes(problem, keeps)
        if keeps:
            names = ("added", "passed") if "S_kept" in found else ("S_begin", "z_begin")
            rooms = self._rooms(problem)
            found |= {name: (rooms[name], torch.float32) for name in names if name in rooms}
        return found

    def _rooms(self, problem: Problem) -> dict[str, tuple[int, ...]]:
        """All that there is one of for every segment: shapes."""
        p = plan(problem)
        rows = (problem.B, problem.H, -(-problem.T // self.tokens))
        found: dict[str, tuple[int, ...]] = {
            "added": (*rows, p.D, p.V + p.D if p.CORRECTS else p.V),
            "S_begin": (*rows, p.D, p.V),
        }
        if p.DIVIDES:
            found |= {"z_added": (*rows, p.D), "z_begin": (*rows, p.D)}
        if (p.DECAYS or p.GATED) and not p.CORRECTS:
            found["passed"] = rows
        return found

    def forward(self, problem: Problem, given: Given, out: dict[str, Tensor]) -> None:
        p, v = plan(problem, keeps="S_kept" in out), given.v
        of = {
            name: out[name] if name in out else v.new_empty(shape, dtype=torch.float32)
            for name, shape in self._rooms(problem).items()
        }
        summed = p.DIVIDES and p.CORRECTS
        if summed:
            keys_before(p, problem, given, self.tokens, of["z_begin"], out.get("z"))
        alone = replace(p, ALONE=True, KEEPS=False, STATE_IN=summed, STATE_OUT=True)
        alone = replace(alone, COLUMNS=of["added"].shape[-1])
        results: Tensors = {"S": of["added"], "z": of.get("z_added"), "passed": of.get("passed")}
        chunks.sweep(alone, problem, given._replace(z=of.get("z_begin")), results, self.tokens)
        M, passed = of["added"] if p.CORRECTS else None, of.get("passed")
        scan(p, v, of["added"], of["S_begin"], given.S, out.get("S"), M=M, passed=passed)
        if p.DIVIDES and not summed:
            scan(p, v, of["z_added"], of["z_begin"], given.z, out.get("z"), passed=passed)
        begun = given._replace(S=of["S_begin"], z=of.get("z_begin"))
        p = replace(p, STATE_IN=True, STATE_OUT=False)
        chunks.sweep(p, problem, begun, out, self.tokens)

    def backward(
        self,
        problem: Problem,
        given: Given,
        out: dict[str, Tensor],
        do: Tensor,
        dS_out: Tensor | None,
        dz_out: Tensor | None,
    ) -> Tensors:
        p = plan(problem, backward=True)
        found = chunks.gradient_room(p, given)
        begun = given._replace(S=out.get("S_begin"), z=out.get("z_begin"))
        chunks.queries(replace(p, STATE_IN=True), problem, begun, out, do, found, self.tokens)
        dS, dz = (None if x is None else torch.empty_like(x) for x in (given.S, given.z))
        ends = self._ends(problem, given, out, do, found, (dS_out, dz_out), (dS, dz))
        p = replace(p, STATE_IN=False, STATE_OUT=True)
        chunks.reverse_sweep(p, problem, given, out, do, {**found, **ends}, self.tokens)
        return {**chunks.gradients(found, given), "S": dS, "z": dz}

    def _ends(
        self,
        problem: Problem,
        given: Given,
        out: dict[str, Tensor],
        do: Tensor,
        found: Tensors,
        after: tuple[Tensor | None, Tensor | None],
        before: tuple[Tensor | None, Tensor | None],
    ) -> Tensors:
        """The gradients of the state and of z that each segment ends with.

        They begin as `after`, those of the states that went out, and those of the states that came
        in are written to `before`.
        """
        p, v, rooms, call = (
            plan(problem, backward=True),
            given.v,
            self._rooms(problem),
            (problem, given, out, do),
        )
        M, passed = out.get("added") if p.CORRECTS else None, out.get("passed")
        S, z = v.new_empty(rooms["S_begin"], dtype=torch.float32), None
        if p.DIVIDES:
            z = v.new_empty(p.tiles, *rooms["z_begin"], dtype=torch.float32)
        alone = replace(p, ALONE=True, STATE_IN=True, STATE_OUT=False)
        into: Tensors = {"S": S, "z": None if p.CORRECTS else z}
        chunks.reverse_sweep(alone, *call, into, self.tokens)
        S_end, z_end = torch.empty_like(S), None
        scan(p, v, S, S_end, after[0], before[0], M=M, passed=passed, backwards=True)
        if z is not None:
            z_end = torch.zeros_like(z[0])
            if p.CORRECTS:
                # What a key adds to dz depends on dS, through what it found divided by z: one more
                # sweep, whose gradients the last one overwrites. Without them, this spilled.
                into = {**found, "S_out": S_end, "z_out": z_end, "S": S, "z": z}
                whole = replace(p, STATE_IN=True, STATE_OUT=True)
                chunks.reverse_sweep(whole, *call, into, self.tokens)
            scan(p, v, z.sum(0), z_end, after[1], before[1], passed=passed, backwards=True)
        return {"S_out": S_end, "z_out": z_end}
