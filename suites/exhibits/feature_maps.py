"""Feature maps that are others than they are called, or lose their numbers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fwpbench.harness.mutants.corrections import OtherMap
from fwpbench.operators.feature_maps import favor
from fwpbench.operators.inputs import Inputs
from fwpbench.operators.problem import Problem
from fwpbench.suites.exhibits.exhibit import FLA, Credit, Exhibit, shows

SCHLAG = "https://github.com/ischlag/fast-weight-transformers/blob"
SCHLAG += "/ebe13ea2e6409da91d12d22175f4f6efe8bf2f0a"


class SignedDpfp(OtherMap):
    """r = [relu(x); −relu(x)]: the negative half of x is gone, and features have both signs."""

    def phi(self, x: Tensor) -> Tensor:
        positive = F.relu(x)
        r = torch.cat([positive, positive.neg()], dim=-1)
        return r.roll(1, dims=-1) * r


class EluInBf16(OtherMap):
    """elu(x) rounds to −1 in bf16 for every x below −6, and −1 + 1 is 0."""

    def phi(self, x: Tensor) -> Tensor:
        return (F.elu(x.bfloat16()) + 1).to(x.dtype)


class UnstableFavor(OtherMap):
    """exp(±u − ‖x‖²/2) for queries too: nothing takes the largest exponent off them."""

    def phi(self, x: Tensor) -> Tensor:
        assert self.inputs.projection is not None
        return favor(x, self.inputs.projection.to(x.dtype))


def _far_below(inputs: Inputs) -> Inputs:
    """Queries and keys between −10 and −7, as the problem's dtype rounds them."""
    assert inputs.q is not None
    q, k = (-7 - x.abs().clamp(max=3) for x in (inputs.q, inputs.k))
    return inputs._replace(q=q, k=k)


def _without_temperature(inputs: Inputs) -> Inputs:
    """K^(1/4) x: what the map's own K^(−1/4) leaves is x, as the published code takes it."""
    assert inputs.q is not None
    q, k = (x.shape[-1] ** 0.25 * x for x in (inputs.q, inputs.k))
    return inputs._replace(q=q, k=k)


EXHIBITS = {
    "signed-dpfp": Exhibit(
        wrong="DPFP is made of [relu(x), −relu(x)] instead of [relu(x), relu(−x)]: half of its "
        "rank is gone, and a key without positive entries is 0.",
        credits=(
            Credit(
                "flash-linear-attention 0.5.2, DPFPFeatureMap",
                f"{FLA}/blob/v0.5.2/fla/modules/feature_map.py#L123-L128",
            ),
        ),
        fixed="in 0.6.0",
        problem=Problem.parse(
            "rule=delta phi=dpfp-1 norm=l2 B=1 T=67 H=2 K=16 V=12 dtype=fp32 "
            "direction=forward+backward state=in+out inputs=realistic"
        ),
        published=SignedDpfp(16),
        must=shows("incorrect", "o S dq dk dv dbeta dS0", "DPFP of [relu(x), −relu(x)]"),
    ),
    "elu-in-bf16": Exhibit(
        wrong="elu(x) + 1 in bf16 cancels to 0 where exp(x) is a number that bf16 has.",
        credits=(
            Credit("flash-linear-attention, issue 1261 (September 2026)", f"{FLA}/issues/1261"),
            Credit("a mending, pull request 1265", f"{FLA}/pull/1265"),
        ),
        fixed="not when we looked",
        problem=Problem.parse(
            "rule=sum phi=elu+1 norm=attention B=1 T=67 H=2 K=16 V=12 dtype=bf16 "
            "direction=forward+backward"
        ),
        given=_far_below,
        published=EluInBf16(16),
        must=shows("incorrect", "o dq dk dv"),
    ),
    "favor-underflow": Exhibit(
        wrong="FAVOR+ without a largest exponent taken off its queries underflows ε: z·φ(q) is "
        "far below the 1e-6 that is added to it, and half of the outputs are nearly 0.",
        credits=(
            Credit(
                "the code published with Schlag et al. 2021, prime",
                f"{SCHLAG}/synthetic/linearAttention.py#L34-L53",
            ),
            Credit("the paper", "https://arxiv.org/abs/2102.11174"),
        ),
        fixed="not in that code: published losses of exactly 0.5 come from it",
        problem=Problem.parse(
            "rule=sum phi=favor-64 norm=attention B=1 T=67 H=2 K=64 V=12 dtype=fp32 "
            "direction=forward"
        ),
        given=_without_temperature,
        published=UnstableFavor(16),
        must=shows("incorrect", "o"),
    ),
}
