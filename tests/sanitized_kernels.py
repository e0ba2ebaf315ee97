"""Problems through the gate, for a process in which a sanitizer watches the kernels.

    python -m tests.sanitized_kernels 'rule=sum phi=… …' …

A line a problem: its status. What a sanitizer finds ends the process.
"""

from __future__ import annotations

import sys

from fwpbench.harness.agreement import check
from fwpbench.harness.golden import Truths
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.operators.problem import Problem


def main(*problems: str) -> None:
    truths = Truths()
    for text in problems:
        problem = Problem.parse(text)
        agreement = check(IMPLEMENTATIONS["cuda"].run, problem, truths(problem, 0))
        print(agreement.status, agreement.reason, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
