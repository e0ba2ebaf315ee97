"""The question: which maths, at which sizes, in which number format. Nothing about how.

One grammar prints a problem, reads it back and (where.py) filters problems:
`rule=delta phi=dpfp-3 norm=sum B=8 T=4096 H=16 K=64 V=64 dtype=bf16 direction=forward+backward`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fwpbench.operators import INPUT_FAMILIES
from fwpbench.operators.errors import UserError, unknown
from fwpbench.operators.operator import Operator, undefined

if TYPE_CHECKING:
    import torch

#: How q, k, v and o are stored. tf32 is a precision of products alone: what it stores is float32.
DTYPES = {
    "fp64": "float64",
    "fp32": "float32",
    "tf32": "float32",
    "bf16": "bfloat16",
    "fp16": "float16",
}
DIRECTIONS = ("forward", "forward+backward", "decode")
STATES = ("none", "in", "out", "in+out")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """An operator at a size: axes B T H K V, always in this order. Hashable.

    `direction=decode` writes and reads one token after T tokens have been seen, so its state goes
    in and out. `state` says which states cross the border of the call, `inputs` names an input
    family. `causal=no` reads after all is written; `masked=yes` comes with a mask [B, T] of tokens
    that count; `reads=no` only writes and gives no output. `dtype=fp32` is IEEE float32 throughout;
    with `dtype=tf32` products of matrices round their operands to tf32 and add up in float32.
    """

    rule: str
    phi: str
    norm: str
    B: int
    T: int
    H: int
    K: int
    V: int
    dtype: str
    direction: str
    state: str = "none"
    inputs: str = "normal"
    causal: bool = True
    masked: bool = False
    reads: bool = True

    def __post_init__(self) -> None:
        if (reason := undefined(self.operator, self.K)) is not None:
            raise UserError(f"{self.operator}: {reason}")
        for axis in "BTHKV":
            size = getattr(self, axis)
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise UserError(f"{axis} must be a whole number of at least 1, got {size!r}")
        for name, default in DEFAULTS.items():
            if isinstance(default, bool) and not isinstance(getattr(self, name), bool):
                raise UserError(f"{name} is True or False, got {getattr(self, name)!r}")
        for name, known in CHOICES.items():
            if (value := getattr(self, name)) not in known():
                raise UserError(unknown(name, str(value), known()))
        if self.direction == "decode":
            if self.state not in ("none", "in+out"):
                raise UserError(f"decode carries a state in and out, so state={self.state} is not")
            object.__setattr__(self, "state", "in+out")
        if not self.causal and not self.operator.update_rule.order_free:
            raise UserError(
                f"causal=no is for rules whose state does not depend on the order of its tokens "
                f"(sum, softmax-attention), not for {self.rule}"
            )
        if not self.reads and "out" not in self.state:
            raise UserError("reads=no gives no output: it needs state=out or state=in+out")
        if self.masked and self.operator.update_rule.keeps_tokens and "out" in self.state:
            raise UserError("a masked batch of softmax-attention would leave a ragged state")

    @cached_property
    def operator(self) -> Operator:
        return Operator(self.rule, self.phi, self.norm)

    @cached_property
    def D(self) -> int:
        """The width of φ for keys of size K."""
        return self.operator.feature_map.size(self.K)

    @property
    def tokens(self) -> int:
        """How many tokens one call takes: T, or 1 when decoding."""
        return 1 if self.direction == "decode" else self.T

    @property
    def state_in(self) -> bool:
        return "in" in self.state.split("+")

    @property
    def state_out(self) -> bool:
        return "out" in self.state.split("+")

    @property
    def backward(self) -> bool:
        return self.direction == "forward+backward"

    @cached_property
    def torch_dtype(self) -> torch.dtype:
        """Of q, k, v and o."""
        import torch

        dtype: torch.dtype = getattr(torch, DTYPES[self.dtype])
        return dtype

    @cached_property
    def arithmetic_dtype(self) -> torch.dtype:
        """Of the gates, the projection and all accumulation: float64 for fp64, else float32."""
        import torch

        return torch.float64 if self.dtype == "fp64" else torch.float32

    @property
    def state_dtype(self) -> torch.dtype:
        """Of the state; one that keeps every token keeps them as they came."""
        keeps_tokens = self.operator.update_rule.keeps_tokens
        return self.torch_dtype if keeps_tokens else self.arithmetic_dtype

    def __str__(self) -> str:
        return self._text

    @cached_property
    def _text(self) -> str:
        words = []
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in DEFAULTS or value != self._default(field.name):
                words.append(f"{field.name}={show_value(value)}")
        return " ".join(words)

    @property
    def every_word(self) -> str:
        """Every field, defaults too: as a filter, only this problem passes."""
        return " ".join(f"{name}={show_value(getattr(self, name))}" for name in field_names())

    def _default(self, name: str) -> Any:
        return "in+out" if name == "state" and self.direction == "decode" else DEFAULTS[name]

    @classmethod
    def parse(cls, text: str) -> Problem:
        """The problem that `str` prints as `text`; the order of the words is free."""
        values: dict[str, Any] = {}
        for word in text.split():
            name, equals, value = word.partition("=")
            if not equals:
                raise UserError(f"{word!r} is not of the form name=value, as in T=1024")
            known_field(name)
            if name in values:
                raise UserError(f"{name} is given twice in {text!r}")
            values[name] = parse_value(name, value)
        if missing := [
            name for name in field_names() if name not in values and name not in DEFAULTS
        ]:
            raise UserError(f"a problem needs {', '.join(missing)} too: {text!r}")
        return cls(**values)

    @classmethod
    def of(cls, operator: Operator, **rest: Any) -> Problem:
        """The problem of an operator at the sizes and in the form that `rest` gives."""
        return cls(rule=operator.rule, phi=operator.phi, norm=operator.norm, **rest)

    def replace(self, **changes: Any) -> Problem:
        return replace(self, **changes)


DEFAULTS: dict[str, Any] = {
    "state": "none",
    "inputs": "normal",
    "causal": True,
    "masked": False,
    "reads": True,
}


#: The words a field may hold, where they are few.
CHOICES: dict[str, Callable[[], tuple[str, ...]]] = {
    "dtype": lambda: tuple(DTYPES),
    "direction": lambda: DIRECTIONS,
    "state": lambda: STATES,
    "inputs": lambda: tuple(INPUT_FAMILIES),
}


def field_names() -> list[str]:
    return [field.name for field in fields(Problem)]


def known_field(name: str) -> None:
    if name not in field_names():
        raise UserError(unknown("field of a problem", name, field_names()))


def show_value(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def parse_value(name: str, text: str) -> Any:
    if name in "BTHKV":
        if not re.fullmatch("[0-9]{1,12}", text) or int(text) < 1:
            raise UserError(f"{name} must be a whole number of at least 1, got {text!r}")
        return int(text)
    if isinstance(DEFAULTS.get(name), bool):
        if text not in ("yes", "no"):
            raise UserError(f"{name} is yes or no, got {text!r}")
        return text == "yes"
    return text
