"""What is carried from token to token, and in and out of a call."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class State(NamedTuple):
    """The fast weights S, and z where the normalisation divides by z·φ(q).

    float32, float64 for fp64 problems. softmax-attention keeps its N tokens in S, [B H N K+V], in
    the dtype they came in.
    """

    S: Float[Tensor, "B H D V"]
    z: Float[Tensor, "B H D"] | None = None
