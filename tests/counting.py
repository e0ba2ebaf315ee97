"""How many multiplications torch is asked for, operation by operation."""

from __future__ import annotations

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

ELEMENTWISE = {"mul", "mul_", "div", "div_", "pow"}
#: These move, compare or add numbers, or make them.
FREE = """
add add_ sub sub_ rsub neg sum cat stack view _unsafe_view expand unsqueeze unsqueeze_ squeeze
select select_backward slice slice_backward permute transpose t clone copy_ zeros zeros_like
ones ones_like full full_like new_zeros new_ones new_empty empty empty_like new_empty_strided
empty_strided scalar_tensor arange eye fill_ zero_ lift_fresh where eq ge le gt all any clamp
clamp_min maximum amax sgn logical_and logical_not bitwise_not bitwise_or detach alias _to_copy
as_strided _reshape_alias reshape split split_with_sizes unbind masked_fill masked_fill_ triu
tril flip constant_pad_nd relu threshold_backward exp log
"""
#: A few for each row or column, or for each pair of tokens: never D × V, nor a product of matrices.
SMALL = """
sqrt rsqrt reciprocal cumprod native_layer_norm native_layer_norm_backward _softmax
_softmax_backward_data
"""
KNOWN = {*FREE.split(), *SMALL.split()}


class Multiplications(TorchDispatchMode):
    """`with Multiplications() as count: …; count.number`. An operation that it does not know
    raises: a count that leaves something out is none."""

    number = 0
    #: Of these, those in products of matrices.
    products = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        if name in ELEMENTWISE:  # one for each number that comes out
            self.number += result.numel()
        elif name in ("mm", "bmm"):
            self._product(result.numel() * args[0].shape[-1])
        elif name == "baddbmm":
            self._product(result.numel() * args[1].shape[-1])
        elif name == "linalg_solve_triangular":
            self.number += result.numel() * args[0].shape[-1] // 2  # half of it is 0
        elif name not in KNOWN:
            raise LookupError(f"{func}: expected one of KNOWN; say there whether it multiplies")
        return result

    def _product(self, number: int) -> None:
        self.number += number
        self.products += number
