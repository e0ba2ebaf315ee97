"""On how many seeds does the gate let honest arithmetic pass? 3,000 without failure are 99.9 %.

python benchmarks/honest_seeds.py [fp32|bf16|fp16] [SEEDS] [FIRST]

One line at the end, one for each failure. What was seen is written down in docs/yardstick.md.
"""

from __future__ import annotations

import sys

import torch

from fwpbench.harness.honest import tally


def main(dtype: str = "fp32", seeds: str = "3000", first: str = "0") -> None:
    torch.set_num_threads(1)
    chosen = range(int(first), int(first) + int(seeds))
    print(tally(dtype, chosen, lambda seed, said: print(said, flush=True)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
