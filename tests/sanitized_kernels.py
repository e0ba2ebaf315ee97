"""CUDA kernels launched in a process that a sanitizer watches.

    python -m tests.sanitized_kernels agrees 'recurrent: rule=sum phi=… …' …
    python -m tests.sanitized_kernels runs 'chunked: rule=gated phi=… …' …
    python -m tests.sanitized_kernels broken 'chunked: rule=delta phi=… …' …

`agrees` takes cases through the gate, at every length; `runs` asks the sanitizer alone, at the T
given; `broken` launches kernels with one tensor a number too short, or null. For each that it tried
it writes a line of JSON: how that ended and what was said on stderr. A child tries it, for what is
found ends the process, and a process under a sanitizer is slow to start.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from fwpbench.harness.agreement import check
from fwpbench.harness.golden import Truths
from fwpbench.implementations.base import Output
from fwpbench.implementations.cuda_kernels.chunk_plan import padded
from fwpbench.implementations.cuda_kernels.launch import launch
from fwpbench.implementations.cuda_kernels.operator import OPERATOR
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.problem import Problem
from tests.sanitized_problems import Case, Launch, launched, launches

Line = dict[str, Any]


def agrees(case: Case) -> None:
    truths, seen = Truths(), []

    def run(problem: Problem, inputs: Inputs) -> Output:
        return OPERATOR.run(problem, inputs, plan=case.plan)

    def watched(one: Launch) -> None:
        seen.append((one.kernel, one.constants))
        stands_alone(one)
        launch(*one)

    def agreed(each: Case, seed: int) -> str:
        seen.clear()
        with launched(watched):
            agreement = check(run, each.problem, truths(each.problem, seed))
        # The same for every T: it is compiled once.
        assert seen == launches(case)[: 1 + each.problem.backward], str(each)
        return "" if agreement.status == "ok" else f"{agreement.status}: {agreement.reason}"

    for each in case.runs():
        said = agreed(each, 0)
        # What is beyond the yardstick by luck, one in hundreds, is right with other numbers, twice.
        assert not said or not (agreed(each, 1) or agreed(each, 2)), f"{each}: {said}"


def runs(case: Case) -> None:
    def watched(one: Launch) -> None:
        stands_alone(one)
        launch(*one)

    with launched(watched):
        case.run()


def stands_alone(one: Launch) -> None:
    """On either side of each tensor lies memory that the sanitizer lets nobody touch."""
    forbidden = ctypes.CDLL(None).__asan_address_is_poisoned
    for name, x in one.tensors().items():
        for address in (x.data_ptr() - 1, x.data_ptr() + x.nbytes):
            assert forbidden(ctypes.c_void_p(address)), f"{one.kernel}: {name} has a neighbour"


def broken(case: Case, before: set[tuple[str, str]]) -> Iterator[tuple[Line, Callable[[], None]]]:
    """Every launch of a case with one tensor too short by a number, and with null in its place; but
    those of kernels that were tried before."""
    found: list[Launch] = []

    def kept(one: Launch) -> None:
        found.append(one)
        launch(*one)

    with launched(kept):
        case.run()
    for one in found:
        for name, x in one.tensors().items():
            if (one.kernel, name) in before:
                continue
            before.add((one.kernel, name))
            # A row of features ends with a few numbers that keep banks apart and nobody asks for.
            fewer = x.numel() - 1 - (padded(0) if name == "rows" else 0)
            short = x.flatten()[:fewer].clone()
            line = {"kernel": one.kernel, "tensor": name, "bytes": short.nbytes}
            yield line | {"how": "short"}, partial(launch, *one.with_tensor(name, short))
            yield line | {"how": "null"}, partial(launch, *one.with_tensor(name, None))


def tried(what: Callable[[], None]) -> Line:
    """By a child: its exit code, negative for a signal; its stderr; the seconds it computed."""
    with tempfile.TemporaryFile() as said:
        if (child := os.fork()) == 0:
            os.dup2(said.fileno(), 2)
            try:
                what()
            except BaseException:  # a child that went on would run its parent's tests
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status, used = os.wait4(child, 0)
        said.seek(0)
        return {
            "code": os.waitstatus_to_exitcode(status),
            "said": said.read().decode(errors="replace"),
            "seconds": used.ru_utime + used.ru_stime,
        }


def main(mode: str, *texts: str) -> None:
    before: set[tuple[str, str]] = set()
    for text in texts:
        case = Case.parse(text)
        way = {"agrees": agrees, "runs": runs}.get(mode)
        attempts = iter([({}, partial(way, case))]) if way else broken(case, before)
        for line, what in attempts:
            print(json.dumps({"case": text, **line, **tried(what)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
