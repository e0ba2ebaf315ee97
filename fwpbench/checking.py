"""Is one function right on one problem? The gate, for people who write implementations."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fwpbench.harness.agreement import Agreement
    from fwpbench.harness.golden import Run
    from fwpbench.operators.problem import Problem


def check(run: Run, problem: Problem, *, seed: int = 0, device: str = "cpu") -> Agreement:
    """Judge `run(problem, inputs) -> Output` against float64, as the agreement suite does.

    Every output, the final state and, for direction=forward+backward, every gradient is compared;
    what is allowed is three times the error of honest arithmetic in the problem's dtype. Then the
    laws that need no reference are asked, which calls `run` forward, with other B and T too: those
    that the problem's states allow, most of them with state=in+out.

    The result has `status` ("ok", "incorrect", "not-finite", "unsupported"), `reason`, and for each
    tensor a comparison with `error`, `allowed` and `ratio`. Exceptions of `run` are not caught.

        problem = fwpbench.Problem.parse("rule=sum phi=elu+1 norm=attention B=1 T=131 H=2 K=64 …")
        print(fwpbench.check(my_function, problem).status)
    """
    from fwpbench.harness import gate, golden

    return gate.judge_whole(run, problem, golden.find_truth(problem, seed), device)
