"""Few problems in which every CUDA kernel meets every rule and every word of its constants.

A kernel is compiled for its constants; B, T and H are told when it runs. So what a sanitizer has to
compile follows from the words below, and lengths cost their time alone.

    python -m tests.sanitized_problems items    # each word of a kernel once
    python -m tests.sanitized_problems pairs    # every two; the lengths take turns
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from itertools import combinations, product
from random import Random
from typing import Any, NamedTuple
from unittest.mock import patch

from torch import Tensor

from fwpbench.harness.golden import make_cotangents, tensors_of
from fwpbench.implementations._kernel_terms import LAWS, tokens_between
from fwpbench.implementations.cuda_kernels import chunk, recurrent, sources
from fwpbench.implementations.cuda_kernels.chunk_backward_plan import chunk_backward_plan
from fwpbench.implementations.cuda_kernels.chunk_plan import RULES, ChunkPlan, chunk_plan
from fwpbench.implementations.cuda_kernels.operator import OPERATOR
from fwpbench.implementations.cuda_kernels.recurrent_plan import recurrent_plan
from fwpbench.implementations.cuda_kernels.sources import Constants, Word
from fwpbench.operators.inputs import make_inputs
from fwpbench.operators.operator import Operator, undefined
from fwpbench.operators.problem import STATES, Problem
from tests.tables import OPERATORS, problem_of

#: Of a kernel, a name, and its word.
Item = tuple[str, str, str]
#: Constants that are numbers and decide which code there is, beside those that are words.
LAYOUT = ("COLUMNS", "GROUPS", "C", "HEADS")


class Case(NamedTuple):
    """A problem, and the plan by which it is run; T is any."""

    plan: str
    problem: Problem

    @classmethod
    def parse(cls, text: str) -> Case:
        plan, _, problem = text.partition(": ")
        return cls(plan, Problem.parse(problem))

    def __str__(self) -> str:
        return f"{self.plan}: {self.problem}"

    def run(self) -> None:
        """Both ways, by what launch() does."""
        inputs, cotangents = (
            make_inputs(self.problem, seed=0),
            make_cotangents(self.problem, 0, "cpu"),
        )
        run = partial(OPERATOR.run, plan=self.plan)
        tensors_of(run, self.problem, inputs, cotangents)

    def at(self, T: int) -> Case:
        """Many rows where tokens are few: of a few numbers the yardstick may have all right by
        luck. One token reads the state, where that needs no kernel of its own."""
        p = self.problem
        state = "in+out" if T == 1 and self.plan == "recurrent" else p.state
        rows = 8 if T <= 2 else 1 if p.reads else 4
        return Case(self.plan, p.replace(T=T, B=rows, state=state))

    def runs(self) -> Iterator[Case]:
        """At every length, and where it goes token by token, decoding."""
        yield from map(self.at, self.lengths())
        if self.plan == "recurrent" and self.problem.reads:
            one = {"B": 8, "direction": "decode", "state": "in+out"}
            yield Case(self.plan, self.problem.replace(**one))

    def lengths(self) -> tuple[int, ...]:
        """One token, where a chunk begins and ends, a prime that reaches into a third chunk."""
        recurrent = self.plan == "recurrent"
        C = tokens_between(1) if recurrent else _chunk_plans(self.problem)[0].C
        beyond = range(2 * C + 1, 4 * C)
        prime = next(n for n in beyond if all(n % m for m in range(2, n)))
        assert not recurrent or tokens_between(prime) == C
        # What divides reads v itself of one token and no state, whatever q and k: nothing to judge.
        p = self.problem
        nothing = not recurrent and p.operator.divides and not p.state_in
        return (1 + nothing, C - 1, C, C + 1, prime)

    def for_every_number(self) -> Case:
        """Small, at a T that takes all of the room for the states of C tokens."""
        T = tokens_between(1) if self.plan == "recurrent" else 2
        return Case(self.plan, self.problem.replace(B=1, T=T, H=1, V=COLUMNS[0]))


def _chunk_plans(problem: Problem) -> list[ChunkPlan]:
    """Forward and backward, as choice.py has them where there are tokens enough."""
    backward = [chunk_backward_plan(problem)] if problem.backward else []
    forward = chunk_plan(problem, *[plan.C for plan in backward])
    assert forward is not None
    return [forward, *backward]


def launches(case: Case) -> list[tuple[str, Constants]]:
    """The kernels of a case, and what they are compiled for."""
    p, ways = case.problem, (False, True)[: 1 + case.problem.backward]
    if case.plan == "chunked":
        return [
            ("chunk_backward", chunk.constants(p, plan, GRADIENTS_IN_PARTS=plan.tiles > 1))
            if back
            else ("chunk_forward", chunk.constants(p, plan, KEEPS=p.backward))
            for back, plan in zip(ways, _chunk_plans(p), strict=True)
        ]
    found: list[tuple[str, Constants]] = []
    for back in ways:
        plan = recurrent_plan(p, backward=back)
        assert plan is not None
        kernel = "recurrent_forward"
        if back:
            kernel = "recurrent_backward" if p.causal else "unordered_backward"
        parts = {"GRADIENTS_IN_PARTS": plan.tiles > 1} if back else {}
        found.append((kernel, recurrent.constants(p, plan, **parts)))
    return found


@cache
def items(case: Case) -> frozenset[Item]:
    """What a case covers. A rule, with φ narrow or too wide for a block, only where it reads, and
    at every length."""
    p, found = case.problem, set()
    for kernel, constants in launches(case):
        words = {
            name: str(value)
            for name, value in constants.items()
            if isinstance(value, bool | Word) or name in LAYOUT
        }
        of_z = " and z" if p.operator.divides else ""
        words |= {"Number": sources.NUMBERS[p.dtype], "state": p.state + of_z}
        if not p.reads:
            del words["QUERY_MAP"]
        elif 1 in case.lengths():
            words["rule"] = p.rule + (", wide" if constants.get("WIDE") else "")
        found |= {(kernel, name, word) for name, word in words.items()}
    return frozenset(found)


def kernels() -> list[str]:
    """All that there are sources of."""
    return sorted(path.stem for path in sources.FOLDER.glob("*.cu"))


@cache
def pointers(kernel: str) -> tuple[str, ...]:
    """The parameters of a kernel that are addresses, by name; they come first."""
    text = (sources.FOLDER / f"{kernel}.cu").read_text(encoding="utf-8")
    found = re.search(rf"cuda_fwp_{kernel}\((.*?)\)", text, re.DOTALL)
    assert found is not None, f"{kernel}.cu has no kernel of its name"
    named = [parameter for parameter in found[1].split(",") if "*" in parameter]
    return tuple(parameter.rpartition("*")[2].strip() for parameter in named)


class Launch(tuple[Any, ...]):
    """What launch() is called with."""

    #: Where the kernel's arguments begin.
    BEGIN = 7

    @property
    def kernel(self) -> str:
        return str(self[0])

    @property
    def constants(self) -> Constants:
        return self[2]  # type: ignore[no-any-return]

    def tensors(self) -> dict[str, Tensor]:
        """Those with numbers in them, by the kernel's names for them."""
        named = zip(pointers(self.kernel), self[self.BEGIN :], strict=False)
        return {name: x for name, x in named if isinstance(x, Tensor) and x.numel()}

    def with_tensor(self, name: str, other: Tensor | None) -> Launch:
        at = self.BEGIN + pointers(self.kernel).index(name)
        return Launch((*self[:at], other, *self[at + 1 :]))


@contextmanager
def launched(instead: Callable[[Launch], None]) -> Iterator[None]:
    """Every launch is handed over instead of done."""

    def called(*given: Any) -> None:
        instead(Launch(given))

    with patch.object(chunk, "launch", called), patch.object(recurrent, "launch", called):
        yield


# What there is to choose from.

#: A K for every φ: small; for chunks too wide for a block; for tokens, of every layout.
SIZED = {
    9: [*dict.fromkeys(o.phi for o in OPERATORS), "favor-64", "favor-264", "favor-published-264"],
    132: ["dpfp-2", "identity"],
    264: ["dpfp-1"],
    528: ["identity", "elu+1", "relu", "tanh"],
}
DTYPES = {"recurrent": ("fp32", "bf16", "fp16"), "chunked": ("fp32", "tf32", "bf16", "fp16")}
#: Value columns, the fewest first: of one block, then of two, forward or backward.
COLUMNS = (5, 7, 33, 131)


def operators() -> Iterator[tuple[Operator, int]]:
    names = dict.fromkeys((o.rule, o.norm) for o in OPERATORS if o.rule in LAWS)
    for K, maps in SIZED.items():
        for (rule, norm), phi in product(names, maps):
            if undefined(operator := Operator(rule, phi, norm), K) is None:
                yield operator, K


def ways(plan: str, operator: Operator) -> list[dict[str, Any]]:
    """All that a problem says besides its operator and sizes."""
    tokens = plan == "recurrent"
    axes: dict[str, tuple[Any, ...]] = {
        "direction": ("forward", "forward+backward"),
        "dtype": DTYPES[plan],
        "state": STATES,
        "blocks": (1, 2),
        "reads": (True, False),
        "masked": (False, True)[: 1 + tokens],
        "causal": (True, False)[: 1 + (tokens and operator.update_rule.order_free)],
    }
    found = [dict(zip(axes, way, strict=True)) for way in product(*axes.values())]
    # Nor has tf32 gradients of writing alone: its yardstick is for products.
    writes = [way for way in found if not way["reads"] and "out" in way["state"]]
    exact = [way for way in writes if way["dtype"] != "tf32" or way["direction"] == "forward"]
    judged = [way for way in found if way["reads"]] + exact
    if operator.phi.startswith("favor") and operator.update_rule.corrects and operator.divides:
        # The law itself leaves the range of fp16.
        return [way for way in judged if way["dtype"] != "fp16"]
    return judged


def sized(plan: str, operator: Operator, K: int, blocks: int, **way: Any) -> Case | None:
    """None where a kernel has no layout."""
    for V in COLUMNS:
        p = problem_of(operator, **({"B": 1, "T": 37, "H": 1, "K": K, "V": V} | way))
        directions = (False, True)[: 1 + p.backward]
        tokens = [recurrent_plan(p, backward=back) for back in directions]
        plans = _chunk_plans(p) if plan == "chunked" else [each for each in tokens if each]
        if not plans or len(plans) < len(directions):
            return None
        if blocks == 1 or plans[-1].tiles > 1:
            break
    # Heads of fwm: where its clip has a kink a gradient is a toss, and each is one more.
    return Case(plan, p if operator.rule == "fwm" or p.D >= 100 else p.replace(H=2))


def candidates(some: int = 6) -> Iterator[Case]:
    """Of every operator and plan some of all ways, drawn alike each time."""
    draw = Random(0)
    for operator, K in operators():
        for plan in DTYPES:
            if plan == "chunked" and operator.rule not in RULES:
                continue
            for way in draw.sample(ways(plan, operator), some):
                if (case := sized(plan, operator, K, **way)) is not None:
                    yield case


def covering(cases: Iterable[Case], of: Callable[[Case], frozenset[Any]]) -> list[Case]:
    """Few of them that have all that any has; sooner those whose value columns take few threads."""
    by_case = {case: of(case) for case in cases}
    left, found = set().union(*by_case.values()), []
    while left:
        found.append(
            max(by_case, key=lambda case: len(by_case[case] & left) / (32 + case.problem.V))
        )
        left -= by_case[found[-1]]
    return found


def tensors(case: Case) -> frozenset[tuple[str, str]]:
    """The parameters of kernels that are tensors there."""
    found: set[tuple[str, str]] = set()
    with launched(lambda one: found.update((one.kernel, name) for name in one.tensors())):
        case.for_every_number().run()
    return frozenset(found)


def pairs(case: Case) -> frozenset[Any]:
    """Every two words of one kernel."""
    by_kernel: dict[str, list[Item]] = {}
    for item in sorted(items(case)):
        by_kernel.setdefault(item[0], []).append(item)
    return frozenset(pair for each in by_kernel.values() for pair in combinations(each, 2))


if __name__ == "__main__":
    of = {"items": items, "pairs": pairs}[sys.argv[1]]
    for n, case in enumerate(covering(candidates(), of)):
        print(case if of is items else case.at(case.lengths()[n % 5]))
