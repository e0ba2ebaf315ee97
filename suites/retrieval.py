"""Can it be trained to store pairs and to read back the one that is asked for?

Schlag et al. 2021, section 6.1, with the code published with it: settings 1 (as many pairs as keys,
each once) and 2 (twice as many, keys come again and their newest value counts). Trained until the
evaluated loss is at most 0.001 or has had no new minimum in 11 evaluations.

Trial 0 is the published run: its seed, its random calls in their order, so that its curve can be
held against the authors' log. Other trials draw from the streams of the run's seed.

The implementation makes the final state, and the law reads it. The state of softmax attention is
the pairs themselves, so there the implementations differ in nothing that is trained here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from fwpbench.harness.profiles import Profile
from fwpbench.harness.records import Measurement
from fwpbench.harness.suite import Answer, Case, Metric, Setting, Suite
from fwpbench.implementations.base import Implementation
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import Problem
from fwpbench.operators.streams import stream
from fwpbench.suites.named_operators import by_name
from fwpbench.suites.published_retrieval import PATIENCE, published_run, relative_differences
from fwpbench.suites.retrieval_data import (
    SEQUENCES,
    Pairs,
    Published,
    Source,
    Task,
    Vectorised,
    last_values,
    weights,
)
from fwpbench.suites.retrieval_model import K, Retrieval
from fwpbench.suites.timed import wrong
from fwpbench.suites.training import Curve, train

STEPS, EVERY = 100_000, 100
#: A training ends at this loss, or after PATIENCE evaluations without a new minimum.
SOLVED = 0.001
#: Of torch and of NumPy, in every published run.
PUBLISHED_SEED = 1

TANH_FWM = Operator("fwm", "tanh", "none")
#: What the paper compares, setting by setting.
OPERATORS = {
    1: by_name(
        Operator("softmax-attention", "identity", "none"),
        Operator("sum", "elu+1", "attention"),
        Operator("sum", "dpfp-1", "attention"),
        Operator("sum", "dpfp-2", "attention"),
    ),
    2: by_name(
        Operator("sum", "dpfp-1", "attention"),
        Operator("delta", "elu+1", "sum"),
        Operator("delta", "dpfp-1", "sum"),
        Operator("delta", "dpfp-2", "sum"),
        Operator("fwm", "dpfp-1", "none"),
        TANH_FWM,
    ),
}
SIZES: dict[str, dict[int, tuple[int, ...]]] = {
    "quick": {1: (20, 40, 60), 2: (20,)},
    "standard": {1: (20, 40, 60), 2: (20, 40, 60)},
    "full": {1: tuple(range(20, 601, 20)), 2: tuple(range(20, 201, 20))},
}
TRIALS = {"quick": 1, "standard": 3, "full": 5}


def cases(profile: Profile) -> Sequence[Case]:
    return [
        _case(profile, Task(setting, S), name, operator, trial)
        for setting, operators in OPERATORS.items()
        for S in SIZES[profile.name][setting]
        for name, operator in operators.items()
        for trial in range(TRIALS[profile.name])
    ]


def _case(profile: Profile, task: Task, name: str, operator: Operator, trial: int) -> Case:
    problem = Problem.of(
        operator,
        # Trained with the batch and learning rate of the others, it diverges.
        B=128 if operator == TANH_FWM else 32,
        T=task.T,
        H=1,
        K=K,
        V=task.S,
        dtype="fp32",
        direction="forward+backward",
        state="out",
        reads=False,
    )
    parameters = {"setting": task.setting, "trial": trial}
    return Case(problem, parameters, name, _excluded(profile, task, operator))


def _excluded(profile: Profile, task: Task, operator: Operator) -> dict[str, str]:
    if operator.rule != "fwm":
        return {
            "reference": "one token at a time: training would only cost patience; the agreement "
            "suite shows that it computes the same"
        }
    if profile.name == "full" or (profile.name, task.S, operator.phi) == ("standard", 20, "dpfp-1"):
        return {}
    return {
        "reference": "one token at a time for thousands of steps: asked in full, and in standard "
        "of dpfp-1 at S = 20"
    }


class Training:
    """The published protocol: Adam, one query a sequence, evaluated on every key."""

    def __init__(
        self,
        problem: Problem,
        implementation: str | Implementation,
        *,
        model: Generator,
        data: Source,
        device: str = "cpu",
    ):
        """`model` draws the weights and `data` every sequence, those of evaluations too."""
        self.problem, self.device = problem, device
        self.data = data
        self.model = Retrieval(problem.operator, problem.V, implementation, model).to(device)
        rate = 1e-4 if problem.operator == TANH_FWM else 1e-3
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=rate)

    def step(self) -> float:
        pairs, queries = self.data.training(self.problem.B)
        loss = self._losses(pairs, queries[:, None]).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def evaluate(self) -> Mapping[str, float]:
        pairs, S = self.data.evaluation(SEQUENCES), self.problem.V
        weight = weights(pairs, S, chunk=self.problem.B)
        with torch.no_grad():
            losses = self._losses(pairs, torch.arange(S).expand(SEQUENCES, S))
        return {"loss": float((losses.cpu() * weight).sum())}

    def _losses(self, pairs: Pairs, queries: Tensor) -> Tensor:
        """½ ‖v − o‖² of every query, [B Q]."""
        pairs, queries = Pairs(*(x.to(self.device) for x in pairs)), queries.to(self.device)
        wanted = torch.nn.functional.one_hot(last_values(pairs, queries), self.problem.V)
        losses: Tensor = (self.model(pairs, queries) - wanted).square().sum(-1) / 2
        return losses

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "data": self.data.state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.data.load(state["data"])


def training_of(case: Case, implementation: str | Implementation, setting: Setting) -> Training:
    """The program of a case, before its first step."""
    problem, trial = case.problem, case.parameters["trial"]
    task = Task(int(case.parameters["setting"]), problem.V)
    model: Generator
    data: Source
    if trial == 0:
        model, data = Generator().manual_seed(PUBLISHED_SEED), Published(task, PUBLISHED_SEED)
    else:
        model = stream(setting.seed, f"model {trial}")
        data = Vectorised(task, stream(setting.seed, f"data {trial}"))
    return Training(problem, implementation, model=model, data=data, device=setting.device.kind)


def stopped(curve: Curve) -> str | None:
    """Why a training ends here, or None."""
    losses = curve.values["loss"]
    if losses[-1] <= SOLVED:
        return "criterion"
    if len(losses) - 1 - losses.index(_least(losses)) >= PATIENCE:
        return "patience"
    return "steps" if curve.steps[-1] == STEPS else None


def _least(losses: Sequence[float]) -> float:
    """NaN is no minimum, unless there is nothing else."""
    return min(losses, key=lambda loss: (math.isnan(loss), loss))


def answer(case: Case, implementation: Implementation, setting: Setting) -> Answer:
    if (refusal := wrong(case.problem, implementation, setting)) is not None:
        return refusal
    program = training_of(case, implementation, setting)
    curve = train(
        program,
        steps=STEPS,
        every=EVERY,
        setting=setting,
        stop=lambda curve: stopped(curve) is not None,
    )
    if curve.diverged is not None:
        return Answer(
            "diverged",
            f"the loss was no finite number at step {curve.diverged}",
            samples=curve.samples(),
            detail={"step": curve.diverged},
        )
    losses = curve.values["loss"]
    return Answer(
        metrics={
            "best loss": Measurement(value=_least(losses), unit="1"),
            "last loss": Measurement(value=losses[-1], unit="1"),
            "steps": Measurement(value=curve.steps[-1], unit="1"),
        },
        samples=curve.samples(),
        detail={"stop reason": stopped(curve), **_published(case, curve)},
    )


def _published(case: Case, curve: Curve) -> dict[str, Any]:
    """The authors' run of this case, where there is one, and how far ours is from its curve."""
    problem = case.problem
    run = published_run(int(case.parameters["setting"]), problem.operator, problem.V)
    if run is None:
        return {}
    found: dict[str, Any] = {
        "best loss": run.best,
        "last loss": run.last,
        "steps": run.steps,
        "stop reason": run.stop_reason,
    }
    if case.parameters["trial"] == 0:
        found["same steps"] = curve.steps[-1] == run.steps
        if away := relative_differences(curve, run):
            found |= {"compared": len(away), "first": away[0], "worst": max(away)}
    return {"published": found}


SUITE = Suite(
    question="Can it be trained to store pairs and read them back?",
    cases=cases,
    answer=answer,
    side_by_side=True,
    metrics={
        "best loss": Metric("1", "lower", "½ squared error of the answers, smallest evaluated"),
        "last loss": Metric("1", "lower", "the same at the last evaluation, as the paper plots it"),
        "steps": Metric(
            "1", "lower", "steps until the loss was at most 0.001, or no more progress"
        ),
    },
)
