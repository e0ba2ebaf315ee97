"""What goes from segment to segment: launches of the scan, and the sums of keys before each."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fwpbench.implementations._kernel_operator import Given
from fwpbench.implementations.triton_kernels.launch import launch
from fwpbench.implementations.triton_kernels.plan import Plan
from fwpbench.implementations.triton_kernels.prepare import fwp_key_sums
from fwpbench.implementations.triton_kernels.segment_scan import fwp_segment_scan
from fwpbench.operators.problem import Problem


@dataclass(frozen=True)
class Scan:
    """The constants of one scan. z is a state of one column."""

    V: int
    D: int
    BV: int
    BD: int
    #: Of what is added; the matrix M may stand beside it.
    ADDED_COLUMNS: int
    MATRIX: bool
    PASSED: bool
    STATE_IN: bool
    STATE_OUT: bool
    BACKWARDS: bool
    SOLVE: str

    @property
    def tiles(self) -> int:
        return -(-self.V // self.BV)

    @property
    def options(self) -> dict[str, int]:
        return {"num_warps": 8, "num_stages": 1}


def scan(
    p: Plan,
    v: Tensor,
    added: Tensor,
    begin: Tensor,
    S_in: Tensor | None,
    S_out: Tensor | None,
    *,
    M: Tensor | None = None,
    passed: Tensor | None = None,
    backwards: bool = False,
) -> None:
    """From S_in: the state that each segment begins with to `begin`, that after the last to S_out.

    `added` and `begin` are [B, H, segments, D, …] of a state, [B, H, segments, D] of z.
    """
    segments, D, *columns = added.shape[2:]
    constants = Scan(
        V=p.V if columns else 1,
        D=D,
        BV=16,
        BD=p.BD,
        ADDED_COLUMNS=columns[0] if columns else 1,
        MATRIX=M is not None,
        PASSED=passed is not None,
        STATE_IN=S_in is not None,
        STATE_OUT=S_out is not None,
        BACKWARDS=backwards,
        # Exact: between chunks a state is not rounded either.
        SOLVE=p.SOLVE,
    )
    launch(fwp_segment_scan, constants, v, added, M, passed, S_in, begin, S_out, segments)


def keys_before(
    p: Plan, problem: Problem, given: Given, tokens: int, begin: Tensor, z_out: Tensor | None
) -> None:
    """To `begin` [B, H, segments, D] the sum of all keys before each segment of so many tokens."""
    sums = torch.empty_like(begin)
    launch(
        fwp_key_sums, replace(p, COLUMNS=1), given.v,
        given.k, given.projection, sums, problem.T, problem.H, tokens,
        chunks=begin.shape[2],
    )  # fmt: skip
    scan(p, given.v, sums, begin, given.z, z_out)
