"""Every law of FWPBench holds for what this package adds."""

import pytest
from fwpbench_quadratic import IMPLEMENTATION

from fwpbench import Problem
from fwpbench.testing import LAWS, name

PROBLEMS = [
    Problem.parse(
        "rule=sum phi=square norm=none B=2 T=70 H=3 K=16 V=5 direction=forward "
        f"state=in+out dtype={dtype}"
    )
    for dtype in ("fp32", "bf16")
]


@pytest.mark.parametrize("problem", PROBLEMS, ids=name)
@pytest.mark.parametrize("law", LAWS, ids=name)
def test_the_quadratic_form(law, problem):
    law(IMPLEMENTATION, problem)
