"""The same kernels in blocks that were timed on this GPU: the implementation `triton-tuned`.

    python -m fwpbench.implementations.triton_kernels.tuning 'rule=delta phi=… B=8 T=4096 …' …

times the layout of each problem, every smaller one and either number of warps, and keeps the
fastest under ~/.cache/fwpbench (XDG_CACHE_HOME), by GPU, version of Triton, source of the kernels
and problem. Nothing is timed in a run: `triton-tuned` looks there, and takes for a problem that was
not timed what was fastest for the same operator, K, V, dtype and direction at other lengths, so
that the gate judges the blocks that are timed; where there is nothing, the layout of `triton`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import torch

from fwpbench.implementations.base import Implementation, Output, Unsupported
from fwpbench.implementations.triton_kernels import missing as missing_for_all
from fwpbench.implementations.triton_kernels.choice import by_plan
from fwpbench.implementations.triton_kernels.fit import sizes, smaller
from fwpbench.implementations.triton_kernels.plan import (
    REPLACED,
    TUNED,
    Plan,
    as_laid_out,
    key,
    plan,
)
from fwpbench.implementations.triton_kernels.recurrent_plan import is_recurrent
from fwpbench.implementations.triton_kernels.refusal import cannot
from fwpbench.operators.inputs import Inputs, make_inputs
from fwpbench.operators.problem import Problem

#: By direction, sizes of blocks.
Found = dict[str, dict[str, int]]
#: What a call takes, in seconds.
Timer = Callable[[Callable[[], object]], float]


def candidates(problem: Problem, *, backward: bool) -> Iterator[Plan]:
    layout = plan(problem, backward=backward, keeps=problem.backward and not backward)
    for blocks in (layout, *smaller(problem, layout, keeps=problem.backward)):
        for warps in (8, 4):
            yield replace(blocks, warps=warps)


def fastest(problem: Problem, inputs: Inputs, seconds: Timer) -> Found:
    """Forward first, then backward behind the forward that was the fastest."""
    found: Found = {}
    call = _call(problem, inputs)
    as_laid_out(problem)
    TUNED.add(problem)
    for direction, which in directions(problem).items():
        best = math.inf
        for blocks in list(candidates(problem, backward=direction == "backward")):
            REPLACED[which] = sizes(blocks)
            with suppress(Unsupported):
                if (taken := seconds(call)) < best:
                    # What was launched: what does not fit was replaced by what does.
                    best, found[direction] = taken, REPLACED[which]
        if direction in found:
            REPLACED[which] = found[direction]
    return found


def directions(problem: Problem) -> dict[str, tuple[Problem, bool, bool]]:
    """The keys of what its calls launch."""
    forward = {"forward": key(problem, backward=False, keeps=problem.backward)}
    return forward | ({"backward": key(problem, True, False)} if problem.backward else {})


def _call(problem: Problem, inputs: Inputs) -> Callable[[], object]:
    from fwpbench.implementations.triton_kernels.operator import run

    if not problem.backward:
        return torch.no_grad()(lambda: run(problem, inputs))
    assert inputs.q is not None, "its kernels read"
    q, k, v = (x.detach().requires_grad_() for x in (inputs.q, inputs.k, inputs.v))
    gates = {name: gate.detach().requires_grad_() for name, gate in inputs.gates.items()}
    leaves = inputs._replace(q=q, k=k, v=v, gates=gates)

    def forward_and_backward() -> object:
        o = run(problem, leaves).o
        assert o is not None
        return torch.autograd.grad(o, [q, k, v, *gates.values()], torch.ones_like(o))

    return forward_and_backward


# What is kept


def place() -> Path:
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "fwpbench" / "triton-layouts.json"


@cache
def here() -> str:
    """What a time depends on beside the problem."""
    import triton

    source = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        source.update(file.read_bytes())
    name = torch.cuda.get_device_name()
    return f"{name}, Triton {triton.__version__}, kernels {source.hexdigest()[:12]}"


def kept() -> dict[str, dict[str, Found]]:
    try:
        read: dict[str, dict[str, Found]] = json.loads(place().read_text())
    except FileNotFoundError:
        return {}
    return read


def keep(problem: Problem, found: Found) -> None:
    everything = kept()
    everything.setdefault(here(), {})[sentence(problem)] = found
    place().parent.mkdir(parents=True, exist_ok=True)
    half_written = place().with_suffix(".part")
    half_written.write_text(json.dumps(everything, indent=1))
    half_written.replace(place())
    look_up.cache_clear()


def sentence(problem: Problem) -> str:
    """Which numbers go in takes no time."""
    return str(problem.replace(inputs="normal"))


@cache
def look_up(problem: Problem) -> Found:
    at_all_lengths = kept().get(here(), {})
    if (exact := at_all_lengths.get(sentence(problem))) is not None:
        return exact
    alike = [text for text in at_all_lengths if _kind(Problem.parse(text)) == _kind(problem)]
    longest = max(alike, key=lambda text: Problem.parse(text).tokens, default=None)
    return {} if longest is None else at_all_lengths[longest]


def _kind(problem: Problem) -> Problem:
    state = "in+out" if problem.direction == "decode" else "none"
    return problem.replace(B=1, T=1, H=1, inputs="normal", state=state)


# The implementation


def missing() -> str | None:
    if (reason := missing_for_all()) is not None:
        return reason
    if not torch.cuda.is_available():
        return "torch sees no CUDA device here, and interpreted there is nothing to time"
    return None


def run(problem: Problem, inputs: Inputs, plan: str | None = None) -> Output:
    # Here, because whoever only asks what it cannot do may have no Triton.
    from fwpbench.implementations.triton_kernels.operator import run

    # A backward pass that another implementation's call comes before is as right in its blocks.
    if problem not in TUNED and (found := look_up(problem)):
        as_laid_out(problem)
        TUNED.add(problem)
        REPLACED.update({which: found[name] for name, which in directions(problem).items()})
    return run(problem, inputs, plan)


IMPLEMENTATION = Implementation(
    run,
    "the same Triton kernels in blocks that were timed on this GPU",
    missing=missing,
    cannot=cannot,
    devices=("cuda",),
    kernels="^fwp_",
    tf32=True,
    plans=partial(by_plan, run),
)


def main(*problems: str) -> None:
    from triton.testing import do_bench

    for text in problems:
        problem = Problem.parse(text)
        if (reason := IMPLEMENTATION.refuses(problem, "cuda")) is not None:
            raise SystemExit(f"{problem}: {reason}")
        if is_recurrent(problem):
            raise SystemExit(f"{problem}: its kernels go token by token and have one layout")
        inputs = make_inputs(problem, seed=0, device="cuda")
        found = fastest(problem, inputs, lambda call: do_bench(call, return_mode="median") / 1e3)
        keep(problem, found)
        print(f"{problem}: {found}", flush=True)
    print(f"kept in {place()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
