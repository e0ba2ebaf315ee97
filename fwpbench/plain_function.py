"""Anybody's function as an implementation: parameters by name, either layout, state or none.

What a function can be given, by the names of its parameters:
    q, query, queries · k, key, keys · v, value, values
    beta, betas, b             the share of a pair that is written
    alpha, a                   the share of the state that stays; log_alpha: its logarithm
    projection, omega          [K, M], where the feature map has one
    initial_state, state, h0, S0          S, or (S, z) where the normalisation divides by z·φ(q)
    scale, sm_scale, softmax_scale        1, or 1/√K for softmax-attention
    return_state, return_final_state, output_final_state      True
    head_first                 whether the layout is
It returns o, (o, S), (o, (S, z)) or (o, None).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fwpbench.implementations.base import Output
from fwpbench.operators.errors import UserError
from fwpbench.operators.features import features
from fwpbench.operators.inputs import Inputs, make_inputs
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import Problem
from fwpbench.operators.state import State

SYNONYMS = {
    "q": ("q", "query", "queries"),
    "k": ("k", "key", "keys"),
    "v": ("v", "value", "values"),
    "beta": ("beta", "betas", "b"),
    "alpha": ("alpha", "a"),
    "log_alpha": ("log_alpha",),
    "projection": ("projection", "omega"),
    "initial_state": ("initial_state", "state", "h0", "S0"),
    "scale": ("scale", "sm_scale", "softmax_scale"),
    "return_state": ("return_state", "return_final_state", "output_final_state"),
    "head_first": ("head_first",),
}
#: What different libraries mean different things by.
AMBIGUOUS = ("g", "gk", "gv", "gate", "gates", "decay", "forget_gate", "lr")
LAYOUTS = ("time-first", "head-first")
FEATURES = ("raw", "given")


class NoGradientError(Exception):
    """What was returned does not depend on the inputs, as autograd sees it."""


class PlainFunction:
    """`run(problem, inputs)` calls `function` as it likes to be called; the same for all sizes.

    features="given" puts φ(q) and φ(k), normalised and in the problem's dtype, where q and k would
    be. Raises UserError where a parameter cannot be filled or a gate of the rule has none.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        operator: Operator,
        layout: str = "time-first",
        features: str = "raw",
    ) -> None:
        self._function, self.name, self._operator = function, name, operator
        self._head_first, self._given = layout == "head-first", features == "given"
        self._parameters = self._matched()
        self.takes_state = "initial_state" in self._parameters.values()
        self.gives_state = False
        #: What should be known of the answer besides the verdict.
        self.notes: list[str] = []
        #: The last exception of the function itself.
        self.error: BaseException | None = None

    def _available(self) -> list[str]:
        operator, rule = self._operator, self._operator.update_rule
        names = ["q", "k", "v", *rule.gates]
        names += ["log_alpha"] if "alpha" in rule.gates else []
        if operator.feature_map.projection_columns is not None and not self._given:
            names.append("projection")
        names += [] if rule.keeps_tokens else ["initial_state", "return_state"]
        return [*names, "scale", "head_first"]

    def _matched(self) -> dict[str, str]:
        """Each parameter that is filled, and with what."""
        try:
            signature = inspect.signature(self._function)
        except (TypeError, ValueError):
            raise UserError(
                f"the parameters of {self.name} cannot be read: wrap it as def f(q, k, v): …"
            ) from None
        available, has_rest = self._available(), False
        matched: dict[str, str] = {}
        for name, parameter in signature.parameters.items():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                has_rest = has_rest or parameter.kind is parameter.VAR_KEYWORD
                continue
            what = next((what for what, names in SYNONYMS.items() if name in names), None)
            if what in available and what not in matched.values():
                matched[name] = what
            elif parameter.default is parameter.empty:
                raise UserError(self._unfilled(name, what, available))
        if has_rest:
            needed = [what for what in self._needed() if what not in matched.values()]
            matched |= {what: what for what in needed if what in available}
        self._positional = [
            name
            for name, parameter in signature.parameters.items()
            if parameter.kind is parameter.POSITIONAL_ONLY and name in matched
        ]
        self._optional_state = any(
            matched.get(name) == "initial_state" and parameter.default is not parameter.empty
            for name, parameter in signature.parameters.items()
        )
        for what in self._needed():
            filled = set(matched.values())
            if what not in filled and not (what == "alpha" and "log_alpha" in filled):
                ambiguous = [name for name in signature.parameters if name in AMBIGUOUS]
                hint = f" {_ambiguous(ambiguous[0])}" if ambiguous else ""
                raise UserError(
                    f"{self._operator} has {what}, and {self.name} has no parameter of that name "
                    f"(it has {', '.join(signature.parameters) or 'none'}).{hint}"
                )
        return matched

    def _needed(self) -> list[str]:
        projected = self._operator.feature_map.projection_columns is not None and not self._given
        return ["q", "k", "v", *self._operator.update_rule.gates, *["projection"] * projected]

    def _unfilled(self, name: str, what: str | None, available: list[str]) -> str:
        sentence = (
            f"{self.name} needs {name!r}, which cannot be filled for {self._operator}; it can be "
            f"given {', '.join(available)}. "
        )
        if what is not None and what not in available:
            return sentence + f"This operator has no {what}"
        if what is not None:
            return sentence + f"{what} has another parameter already"
        if name in AMBIGUOUS:
            return sentence + _ambiguous(name)
        return sentence + "Rename it, or give it a default"

    @property
    def needs_state(self) -> bool:
        """Whether there is no calling it without a state."""
        return self.takes_state and not self._optional_state

    @property
    def takes_logarithm(self) -> bool:
        return "log_alpha" in self._parameters.values()

    def probe(self, problem: Problem, device: str) -> None:
        """Call it once to see whether it returns a state. What it raises is for later."""
        state = "in" if self.needs_state else "none"
        small = problem.replace(direction="forward", state=state)
        inputs = make_inputs(small, seed=0, device=device)
        try:
            with torch.no_grad():
                returned = self._call(small, inputs)
        except Exception:
            return
        _, S, z = self._parts(returned)
        self._note_what_is_not_judged(S is not None, z is not None)

    def _note_what_is_not_judged(self, S: bool, z: bool) -> None:
        keeps, norm = self._operator.update_rule.keeps_tokens, self._operator.norm
        divides = self._operator.divides
        self.gives_state = S and not keeps and (z or not divides)
        if not S:
            self.notes.append("it returns no state: neither that nor its gradients are judged")
        elif not self.gives_state and divides:
            self.notes.append("it returns S without z: the state it returns is not judged")
        if not self.takes_state and not keeps:
            self.notes.append("it takes no initial_state: it is judged from an empty state only")
        if self._given and divides:
            self.notes.append(f"under norm={norm} dividing by z·φ(q) is left to it")

    def run(self, problem: Problem, inputs: Inputs) -> Output:
        try:
            o, S, z = self._parts(self._call(problem, inputs))
        except Exception as error:
            self.error = error
            raise
        o = self._rounded("o", self._laid_out(o), problem.torch_dtype)
        state = None
        if problem.state_out and S is not None:
            S = self._rounded("S", S, problem.state_dtype)
            z = self._rounded("z", z, problem.state_dtype) if problem.operator.divides else None
            state = State(S, z)
        outputs = [x for x in (o, *(state or ())) if isinstance(x, Tensor)]
        if problem.backward and not any(x.requires_grad for x in outputs):
            raise NoGradientError(
                "what it returns has no gradient: it is detached or computed under no_grad"
            )
        return Output(o, state)

    def _call(self, problem: Problem, inputs: Inputs) -> Any:
        filled = self._filling(problem, inputs)
        values = {name: filled[what] for name, what in self._parameters.items() if what in filled}
        positional = [values.pop(name) for name in self._positional if name in values]
        return self._function(*positional, **values)

    def _filling(self, problem: Problem, inputs: Inputs) -> dict[str, Any]:
        q, k = inputs.q, inputs.k
        assert q is not None, "every problem it is asked reads"
        if self._given:
            projection, dtype = inputs.projection, problem.arithmetic_dtype
            q = features(self._operator, q.to(dtype), projection, query=True).to(k.dtype)
            k = features(self._operator, k.to(dtype), projection).to(k.dtype)
        tensors = {"q": q, "k": k, "v": inputs.v, **inputs.gates}
        if self.takes_logarithm:
            tensors["log_alpha"] = inputs.gates["alpha"].log()
        filled: dict[str, Any] = {name: self._laid_out(x) for name, x in tensors.items()}
        filled["projection"] = inputs.projection
        if inputs.state is not None:
            filled["initial_state"] = inputs.state if problem.operator.divides else inputs.state.S
        softmax = problem.operator.update_rule.keeps_tokens
        filled["scale"] = problem.K**-0.5 if softmax else 1.0
        return filled | {"return_state": True, "head_first": self._head_first}

    def _laid_out(self, x: Any) -> Any:
        """From [B, T, H, …] to [B, H, T, …] and back, where the function has the other one."""
        if self._head_first and isinstance(x, Tensor) and x.dim() > 2:
            return x.transpose(1, 2)
        return x

    def _parts(self, returned: Any) -> tuple[Any, Any, Any]:
        """o, S and z; what is not returned is None."""
        o, S, z = returned, None, None
        if isinstance(returned, tuple | list) and len(returned) == 2:
            o, S = returned
            if isinstance(S, tuple | list) and len(S) == 2:
                S, z = S
        if all(isinstance(x, Tensor) or x is None for x in (S, z)) and isinstance(o, Tensor):
            return o, S, z
        raise UserError(
            f"{self.name} should return o, (o, S), (o, (S, z)) or (o, None), all of them tensors; "
            f"it returned {_described(returned)}"
        )

    def _rounded(self, name: str, x: Any, dtype: torch.dtype) -> Any:
        if isinstance(x, Tensor) and x.dtype != dtype and x.is_floating_point():
            note = f"{name} comes in {x.dtype} where {dtype} is asked for: converted"
            if note not in self.notes:
                self.notes.append(note)
            return x.to(dtype)
        return x


def _described(returned: Any) -> str:
    if isinstance(returned, tuple | list):
        return f"({', '.join(_described(x) for x in returned)})"
    return "None" if returned is None else f"a {type(returned).__name__}"


def _ambiguous(name: str) -> str:
    return (
        f"{name!r} is a gate in some libraries and its logarithm in others: name it alpha (the "
        "share of the state that stays), log_alpha or beta (the share of a pair that is written)"
    )
