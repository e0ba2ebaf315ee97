"""Does it make the mistakes that others made?

An exhibit is a published defect on the problem and inputs that show it. The gate judges the defect
first: it must be caught as the exhibit says, or else the exhibit is broken and says nothing of
anybody. Then it judges the implementation on exactly the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from fwpbench.harness.agreement import Agreement, check
from fwpbench.harness.golden import Truth, truth_of
from fwpbench.harness.profiles import Profile
from fwpbench.harness.records import Measurement
from fwpbench.harness.suite import Answer, Case, Metric, Setting, Suite
from fwpbench.harness.suspects import explained, located
from fwpbench.implementations.base import Implementation
from fwpbench.operators.inputs import make_inputs
from fwpbench.suites.exhibits import EXHIBITS
from fwpbench.suites.exhibits.exhibit import Exhibit
from fwpbench.suites.named_operators import NAMED_OPERATORS


def cases(profile: Profile) -> Sequence[Case]:
    names = {operator: name for name, operator in NAMED_OPERATORS.items()}
    return [
        Case(exhibit.problem, {"exhibit": name}, names.get(exhibit.problem.operator, ""))
        for name, exhibit in EXHIBITS.items()
    ]


class BrokenExhibit(RuntimeError):
    """The published form was not caught as the exhibit says: nobody can be judged by it."""


@dataclass(frozen=True)
class Seen:
    """What the gate said of the published form, and what else was seen."""

    truth: Truth
    agreement: Agreement
    beside: str

    def as_json(self) -> dict[str, Any]:
        said = {"status": self.agreement.status, "reason": self.agreement.reason}
        return said | {"tensors": self.agreement.as_json(), "beside": self.beside}


@cache
def seen(name: str, seed: int) -> Seen:
    """The gate's verdict on the published form; raises BrokenExhibit where it is another."""
    exhibit = EXHIBITS[name]
    problem, must = exhibit.problem, exhibit.must
    truth = truth_of(problem, exhibit.given(make_inputs(problem, seed=seed)), seed)
    agreement = check(exhibit.published, problem, truth)
    if must.suspect:
        agreement = explained(agreement, None, problem, truth)
    else:
        agreement = located(agreement, None, problem)
    bad = {n for n, c in agreement.comparisons.items() if c.verdict in ("wrong", "not-finite")}
    if agreement.status != must.status or bad != must.tensors:
        raise BrokenExhibit(
            f"the exhibit {name} is broken: its published form must be {must.status} in "
            f"{', '.join(sorted(must.tensors))}, and is {agreement.status}: {agreement.reason}"
        )
    if must.suspect not in agreement.reason:
        raise BrokenExhibit(
            f"the exhibit {name} is broken: its published form must look like {must.suspect}: "
            f"{agreement.reason}"
        )
    beside = exhibit.beside(problem, truth) if exhibit.beside else ""
    if beside is None:
        raise BrokenExhibit(f"the exhibit {name} is broken: what is claimed beside does not hold")
    return Seen(truth, agreement, beside)


def answer(case: Case, implementation: Implementation, setting: Setting) -> Answer:
    name = str(case.parameters["exhibit"])
    exhibit, published = EXHIBITS[name], seen(name, setting.seed)
    agreement = check(implementation.run, case.problem, published.truth, setting.device.kind)
    agreement = located(agreement, None, case.problem)
    ratios = {
        "error ratio": agreement.worst_ratio,
        "published error ratio": published.agreement.worst_ratio,
    }
    return Answer(
        agreement.status,
        agreement.reason,
        {
            metric: Measurement(value=ratio, unit="1")
            for metric, ratio in ratios.items()
            if ratio is not None
        },
        detail={
            "tensors": agreement.as_json(),
            "published": published.as_json(),
            **_label(exhibit),
        },
    )


def _label(exhibit: Exhibit) -> Mapping[str, Any]:
    credits = [{"text": credit.text, "url": credit.url} for credit in exhibit.credits]
    return {"wrong": exhibit.wrong, "credits": credits, "fixed": exhibit.fixed}


SUITE = Suite(
    question="Does it make the mistakes that others made?",
    cases=cases,
    answer=answer,
    side_by_side=True,
    metrics={
        "error ratio": Metric("1", "lower", "worst error over all tensors ÷ what is allowed"),
        "published error ratio": Metric("1", "higher", "the same of the published form"),
    },
)
