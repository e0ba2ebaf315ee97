"""Laws that hold without any reference: an implementation is compared with itself.

Each compares what two calls return that should be the same. Both may be off by what the gate allows
an implementation (agreement.py), so two results may differ by twice that, as a fraction of their
size, and sums of two may differ from a third by three times that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fwpbench.harness.agreement import (
    YARDSTICKS,
    compare,
    copied,
    rms,
    row_errors,
    vanishes,
    yardstick_of,
)
from fwpbench.harness.golden import Run, Tensors, Truth, named
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.problem import Problem
from fwpbench.operators.state import State

Cannot = Callable[[Problem], str | None]

#: What each law says; the names are those of records and reports.
LAWS = {
    "causality": "changing a token never changes what was read before it",
    "two halves": "two calls with the state between them make the whole",
    "rows": "rows of a batch do not meet",
    "heads": "heads do not meet",
    "order of heads": "permuting the heads permutes the outputs",
    "beta = 0": "β = 0 leaves the state",
    "alpha = 1": "α = 1 is the rule without a gate",
    "linear in v": "the outputs of a sum of values are the sum of the outputs",
    "padding": "what fills up a chunk never shows",
    "memory": "what was computed before never shows, at the same address either",
}
#: The rule that is left when nothing decays.
UNGATED = {"decay": "sum", "gla": "sum", "gated-delta": "delta", "kda": "delta"}
REPEATS = 5
NO_STATE = "no state goes in and comes out"


@dataclass
class Laws:
    """`ratios` are differences as fractions of what is allowed: above 1 the law is broken.

    `exempt` says which laws do not apply, and why. `distinct` counts the different bit patterns
    among REPEATS calls on the same inputs: 1 is deterministic, more is no failure.
    """

    ratios: dict[str, float] = field(default_factory=dict)
    exempt: dict[str, str] = field(default_factory=dict)
    distinct: int = 1

    @property
    def broken(self) -> list[str]:
        return [name for name, ratio in self.ratios.items() if not ratio <= 1]

    def as_json(self) -> dict[str, object]:
        return {
            "broken": self.broken,
            "ratios": dict(self.ratios),
            "exempt": dict(self.exempt),
            "distinct of 5": self.distinct,
        }


def applicable(problem: Problem) -> bool:
    """Whether the laws can be asked of this problem: forward, causal, more than two tokens."""
    whole = problem.direction == "forward" and problem.causal and problem.reads
    return whole and not problem.masked and problem.T > 2


@torch.no_grad()
def find_broken(
    run: Run,
    problem: Problem,
    truth: Truth,
    device: str = "cpu",
    cannot: Cannot = lambda problem: None,
    agreed: bool = True,
) -> Laws:
    """Ask `run` every law that applies. Exceptions of `run` are the caller's.

    `agreed` says that an earlier call on the truth's inputs gave what the golden gives, so that
    later ones must too.
    """
    laws = Laws()
    judge = _Judge(truth, laws)
    base = copied(truth.inputs, device)
    first, other = _remember(run, problem, base, judge, laws, device, agreed)
    _ask_variants(run, problem, base, first, other, judge, cannot)
    _ask_halves(run, problem, base, first, judge, cannot)
    return laws


@dataclass
class _Judge:
    truth: Truth
    laws: Laws

    def __call__(self, law: str, got: Tensors, wanted: Tensors, results: int = 2) -> None:
        """`results` is how many results of the implementation meet in this comparison."""
        for name, like in wanted.items():
            self.note(law, self._ratio(name, got[name], like, results))

    def note(self, law: str, ratio: float) -> None:
        self.laws.ratios[law] = max(ratio, self.laws.ratios.get(law, 0.0))

    def exempt(self, law: str, reason: str) -> None:
        self.laws.exempt[law] = reason

    def _ratio(self, name: str, got: Tensor, like: Tensor, results: int) -> float:
        golden = self.truth.golden[name]
        if vanishes(self.truth, name):
            return 0.0
        got, like = got.cpu(), like.cpu().double()
        if not got.isfinite().all():
            return math.inf
        u = torch.finfo(self.truth.yardsticks[0][name].dtype).eps / 2
        error, error_row = yardstick_of(self.truth, name)
        allowed = results * (YARDSTICKS * error / rms(golden) + u)
        allowed_row = results * (YARDSTICKS * error_row + u)
        size = rms(like)
        if size == 0:
            return math.inf if got.any() else 0.0
        row = float(row_errors(got, like).max())
        return max(rms(got.double() - like) / size / allowed, row / allowed_row)


def _remember(
    run: Run,
    problem: Problem,
    base: Inputs,
    judge: _Judge,
    laws: Laws,
    device: str,
    agreed: bool,
) -> tuple[Tensors, Tensors]:
    """The same call five times, between them one with other contents in the same buffers: what
    the first returned, and what that one did."""
    buffers = copied(base, device)
    # Copies: an implementation may give the same memory every time.
    first = {name: tensor.clone() for name, tensor in named(run(problem, buffers)).items()}
    overwrite(buffers, _changed(base, problem.T // 2))
    other = {name: tensor.clone() for name, tensor in named(run(problem, buffers)).items()}
    overwrite(buffers, base)
    patterns = [first]
    for _ in range(REPEATS - 1):
        again = {name: tensor.clone() for name, tensor in named(run(problem, buffers)).items()}
        judge("memory", again, first)
        if not any(all(torch.equal(again[n], p[n]) for n in again) for p in patterns):
            patterns.append(again)
    laws.distinct = len(patterns)
    for name, tensor in again.items() if agreed else ():
        found = compare(judge.truth, name, tensor.cpu())
        judge.note("memory", math.inf if found.verdict == "not-finite" else found.ratio)
    return first, other


def _ask_variants(
    run: Run,
    problem: Problem,
    base: Inputs,
    first: Tensors,
    other: Tensors,
    judge: _Judge,
    cannot: Cannot,
) -> None:
    """Every variant is a row of one batch, and the inputs as they are the last: that rows do not
    meet is seen there."""
    p, gates = problem, problem.operator.update_rule.gates
    at = p.T // 2
    crosses = p.state_in and p.state_out
    rows: dict[str, Inputs] = {"causality": _changed(base, at)}
    if p.H > 1:
        rows["heads"], rows["order of heads"] = _other_head(base), _turned(base)
    if p.rule == "fwm":
        judge.exempt("linear in v", "fwm clips its state and normalises what it reads")
    else:
        rows["linear even"], rows["linear odd"] = _split_values(base, problem)
    if "beta" not in gates:
        judge.exempt("beta = 0", f"{p.rule} has no β")
    elif "alpha" in gates or p.rule == "fwm":
        judge.exempt("beta = 0", f"{p.rule} changes its state by more than what β writes")
    elif not crosses:
        judge.exempt("beta = 0", NO_STATE)
    else:
        rows["beta = 0"] = _gate(base, "beta", 0.0)
    ungated = None
    if "alpha" not in gates:
        judge.exempt("alpha = 1", f"{p.rule} has no α")
    else:
        ungated = p.replace(rule=UNGATED[p.rule]) if p.rule in UNGATED else None
        if ungated is None:
            judge.exempt("alpha = 1", f"which rule {p.rule} is without its gate is not known")
        elif (reason := cannot(ungated)) is not None:
            judge.exempt("alpha = 1", reason)
            ungated = None
        else:
            rows["alpha = 1"] = _gate(base, "alpha", 1.0)
    rows["base"] = base
    batch = p.replace(B=p.B * len(rows))
    if (reason := cannot(batch)) is not None:
        for law in ("rows", *(name for name in rows if name in LAWS), "linear in v"):
            judge.exempt(law, reason)
        return
    got = _rows_of(named(run(batch, _stacked(list(rows.values())))), list(rows), p.B)
    judge("rows", got["base"], first)
    judge("memory", other, got["causality"])
    judge("causality", {"o": got["causality"]["o"][:, :at]}, {"o": first["o"][:, :at]})
    if "heads" in rows:
        seen, before = got["heads"], first
        judge("heads", {"o": seen["o"][:, :, :-1]}, {"o": before["o"][:, :, :-1]})
        if "S" in before:
            judge("heads", {"S": seen["S"][:, :-1]}, {"S": before["S"][:, :-1]})
        judge("order of heads", _turned_back(got["order of heads"]), first)
    if "linear even" in rows:
        even, odd, whole = got["linear even"], got["linear odd"], got["base"]
        tensors = ["o", "S"] if "S" in whole else ["o"]
        tensors = ["o"] if p.operator.update_rule.keeps_tokens else tensors
        total = {name: even[name].double() + odd[name].double() for name in tensors}
        judge("linear in v", total, {name: whole[name] for name in tensors}, results=3)
    if "beta = 0" in rows:
        assert base.state is not None
        judge("beta = 0", {"S": got["beta = 0"]["S"]}, {"S": base.state.S}, results=1)
    if ungated is not None:
        left = {name: gate for name, gate in base.gates.items() if name != "alpha"}
        wanted = named(run(ungated, base._replace(gates=left)))
        judge("alpha = 1", got["alpha = 1"], wanted)


def _ask_halves(
    run: Run, problem: Problem, base: Inputs, first: Tensors, judge: _Judge, cannot: Cannot
) -> None:
    """At the border of the largest chunk in use that fits, and at a cut inside every chunk."""
    T = problem.T
    border = next((C for C in (64, 32, 16) if C < T), None)
    for cut in sorted({T // 2 - 4 if T > 10 else 1, *([border] if border else [])}):
        halves = problem.replace(T=cut), problem.replace(T=T - cut)
        if reason := cannot(halves[0]) or cannot(halves[1]):
            judge.exempt("two halves", reason)
            continue
        front = run(halves[0], _cut(base, slice(cut), base.state))
        assert front.o is not None
        # The first ends with its chunk, the whole does not.
        judge("padding", {"o": front.o}, {"o": first["o"][:, :cut]})
        if not (problem.state_in and problem.state_out):
            judge.exempt("two halves", NO_STATE)
            continue
        back = run(halves[1], _cut(base, slice(cut, None), front.state))
        assert back.o is not None
        whole = named(back) | {"o": torch.cat([front.o, back.o], dim=1)}
        judge("two halves", whole, first)


def _each(inputs: Inputs, change: Callable[[Tensor, str], Tensor]) -> Inputs:
    """`change(tensor, name)` of everything that has tokens or a head."""
    state = inputs.state
    if state is not None:
        state = State(change(state.S, "S"), None if state.z is None else change(state.z, "z"))
    return inputs._replace(
        q=None if inputs.q is None else change(inputs.q, "q"),
        k=change(inputs.k, "k"),
        v=change(inputs.v, "v"),
        gates={name: change(gate, name) for name, gate in inputs.gates.items()},
        state=state,
    )


def _by_name(inputs: Inputs) -> Tensors:
    found: Tensors = {}

    def note(x: Tensor, name: str) -> Tensor:
        found[name] = x
        return x

    _each(inputs, note)
    return found


def _heads_of(name: str) -> int:
    return 1 if name in ("S", "z") else 2


def _turned(inputs: Inputs) -> Inputs:
    return _each(inputs, lambda x, name: x.roll(1, _heads_of(name)))


def _turned_back(tensors: Tensors) -> Tensors:
    return {name: x.roll(-1, _heads_of(name)) for name, x in tensors.items()}


def overwrite(buffers: Inputs, contents: Inputs) -> None:
    """Other contents at the same addresses."""
    sources = _by_name(contents)
    _each(buffers, lambda x, name: x.copy_(sources[name]))
    if buffers.projection is not None and contents.projection is not None:
        buffers.projection.copy_(contents.projection)


def _changed(inputs: Inputs, at: int) -> Inputs:
    """Other keys, values, queries and gates from token `at` on: those of the time reversed."""

    def change(x: Tensor, name: str) -> Tensor:
        if name in ("S", "z"):
            return x
        return torch.cat([x[:, :at], x[:, at:].flip(1)], dim=1)

    return _each(inputs, change)


def _other_head(inputs: Inputs) -> Inputs:
    """The last head sees everything in the reverse order."""

    def change(x: Tensor, name: str) -> Tensor:
        if name in ("S", "z"):
            return x
        return torch.cat([x[:, :, :-1], x[:, :, -1:].flip(1)], dim=2)

    return _each(inputs, change)


def _split_values(inputs: Inputs, problem: Problem) -> tuple[Inputs, Inputs]:
    """v of even tokens and the state before; v of odd tokens and a state of 0. z stays with both,
    and so do the keys that softmax attention remembers."""
    even = torch.arange(inputs.v.shape[1], device=inputs.v.device) % 2 == 0
    even = even[None, :, None, None]
    odd = inputs._replace(v=torch.where(even, 0.0, inputs.v))
    inputs = inputs._replace(v=torch.where(even, inputs.v, 0.0))
    if inputs.state is None:
        return inputs, odd
    S = torch.zeros_like(inputs.state.S)
    if problem.operator.update_rule.keeps_tokens:
        S = inputs.state.S.clone()
        S[..., problem.K :] = 0
    return inputs, odd._replace(state=inputs.state._replace(S=S))


def _gate(inputs: Inputs, name: str, value: float) -> Inputs:
    return inputs._replace(gates=inputs.gates | {name: torch.full_like(inputs.gates[name], value)})


def _cut(inputs: Inputs, at: slice, state: State | None) -> Inputs:
    cut = _each(inputs, lambda x, name: x if name in ("S", "z") else x[:, at].contiguous())
    return cut._replace(state=state)


def _stacked(rows: list[Inputs]) -> Inputs:
    columns = [_by_name(row) for row in rows]
    return _each(rows[0], lambda x, name: torch.cat([column[name] for column in columns]))


def _rows_of(tensors: Tensors, names: list[str], B: int) -> dict[str, Tensors]:
    return {
        name: {what: x[n * B : (n + 1) * B] for what, x in tensors.items()}
        for n, name in enumerate(names)
    }
