"""An implementation's kernels inside compiled code beside themselves: the largest differences.

    python -m tests.compiled_kernels triton 'rule=sum phi=… …' …

As JSON, a line a problem. No graph break is allowed; the back end changes nothing of what is
called.
"""

from __future__ import annotations

import json
import sys

import torch

from fwpbench.harness.golden import Truths, tensors_of
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.operators.problem import Problem


def main(implementation: str, *problems: str) -> None:
    run, truths = IMPLEMENTATIONS[implementation].run, Truths()
    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    for text in problems:
        problem = Problem.parse(text)
        truth = truths(problem, 0)
        eager = tensors_of(run, problem, truth.inputs, truth.cotangents)
        torch._dynamo.reset()  # it compiles a function for few problems, then gives up
        found = tensors_of(compiled, problem, truth.inputs, truth.cotangents)
        assert found.keys() == eager.keys()
        print(json.dumps({name: float((found[name] - eager[name]).abs().max()) for name in eager}))


if __name__ == "__main__":
    main(*sys.argv[1:])
