"""HOW: ways of computing a Problem. One file each; the list below is the whole list.

The order is that in which `implementation="auto"` chooses: the first that neither misses anything
nor refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fwpbench.operators.registry import Registry

if TYPE_CHECKING:
    from fwpbench.implementations.base import Implementation

IMPLEMENTATIONS: Registry[Implementation] = Registry(
    "implementations",
    {
        "torch-sdpa": "fwpbench.implementations.torch_sdpa:IMPLEMENTATION",
        "chunked": "fwpbench.implementations.chunked:IMPLEMENTATION",
        "triton": "fwpbench.implementations.triton_kernels:IMPLEMENTATION",
        "cuda": "fwpbench.implementations.cuda_kernels:IMPLEMENTATION",
        "triton-tuned": "fwpbench.implementations.triton_kernels.tuning:IMPLEMENTATION",
        "torch-flex": "fwpbench.implementations.peers.flex_attention:IMPLEMENTATION",
        "fla-chunk": "fwpbench.implementations.peers.flash_linear_attention:CHUNK",
        "fla-fused-chunk": "fwpbench.implementations.peers.flash_linear_attention:FUSED_CHUNK",
        "fla-recurrent": "fwpbench.implementations.peers.flash_linear_attention:RECURRENT",
        "reference": "fwpbench.implementations.reference:IMPLEMENTATION",
    },
    of="fwpbench.implementations.base:Implementation",
)
