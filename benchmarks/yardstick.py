"""How far do honest implementations stay from the yardstick? Measured, before the gate trusts it.

python benchmarks/yardstick.py [fp32|tf32|bf16|fp16] [SEEDS]

Honest candidates for every operator: `chunked` (float32 arithmetic), and the plain chunk form with
C = 32 and C = 128 and operands rounded to the dtype, as a kernel with other tile sizes has them.
Printed are quantiles of error ÷ yardstick, for outputs and for gradients: 3 is what the gate allows
(plus a unit round-off). What was seen is written down in docs/decisions.md.
"""

from __future__ import annotations

import sys
from collections import defaultdict

import torch

from fwpbench.harness.agreement import ILL_CONDITIONED, YARDSTICKS, compare, ill_conditioned
from fwpbench.harness.golden import find_truth, tensors_of
from fwpbench.harness.yardstick import rounded_chunks
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.operators import INPUT_FAMILIES
from fwpbench.operators.operator import enumerate_operators
from fwpbench.operators.problem import Problem


def main(dtype: str = "fp32", seeds: str = "2") -> None:
    torch.set_num_threads(1)
    ratios: dict[tuple[str, str], list[float]] = defaultdict(list)
    above, cases, ill = [], 0, 0
    for operator in enumerate_operators()[0]:
        for inputs, family in INPUT_FAMILIES.items():
            if not family.applies(operator.update_rule.gates):
                continue
            problem = Problem.of(
                operator,
                B=1,
                T=131,
                H=2,
                K=16,
                V=12,
                dtype=dtype,
                direction="forward+backward",
                state="in+out",
                inputs=inputs,
            )
            for seed in range(int(seeds)):
                truth = find_truth(problem, seed)
                cases += 1
                if ill_conditioned(truth) is not None:
                    ill += 1
                    continue
                candidates = {"C = 32": rounded_chunks(32), "C = 128": rounded_chunks(128)}
                if IMPLEMENTATIONS["chunked"].refuses(problem) is None:
                    candidates["chunked"] = IMPLEMENTATIONS["chunked"].run
                for name, run in candidates.items():
                    for tensor, got in tensors_of(
                        run, problem, truth.inputs, truth.cotangents
                    ).items():
                        found = compare(truth, tensor, got)
                        if found.verdict == "non-discriminating" or found.yardstick == 0:
                            continue
                        kind = "gradients" if tensor.startswith("d") else "outputs"
                        u = torch.finfo(got.dtype).eps / 2
                        row = (found.worst_row_allowed - u) / YARDSTICKS
                        ratios[kind, "rms"].append(found.error / found.yardstick)
                        ratios[kind, "worst row"].append(found.worst_row / row if row else 0.0)
                        if found.ratio > 1:
                            above.append(f"{problem} seed={seed} {name} {tensor} {found.ratio:.2f}")
    print(f"{dtype}: {cases} cases, {ill} ill-conditioned (above {ILL_CONDITIONED:.0%})")
    levels = torch.tensor([0.5, 0.9, 0.99, 0.999, 1.0], dtype=torch.float64)
    for (kind, rule), values in ratios.items():
        quantiles = torch.tensor(sorted(values), dtype=torch.float64)
        picked = quantiles[((len(values) - 1) * levels).long()]
        row = "  ".join(
            f"{level:g}: {value:.2f}" for level, value in zip(levels, picked, strict=True)
        )
        print(f"{kind:10} {rule:10} {len(values):6} tensors  {row}")
    print(f"above what is allowed: {len(above)}")
    print("\n".join(above))


if __name__ == "__main__":
    main(*sys.argv[1:])
