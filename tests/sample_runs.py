"""Made-up runs for the tests of the reports: every number here is invented, none was measured.

Learning curves of the retrieval task are the published ones, bent a little.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fwpbench.harness.records import Measurement, Record
from fwpbench.harness.run_folder import Run
from fwpbench.reports.evidence import Operator
from fwpbench.reports.quality_published import curves, runs

DEVICE = "Imaginary CPU (made up)"
MAPS = (
    *("identity", "elu+1", "relu", "tanh", "favor-64", "favor-128"),
    *("dpfp-1", "dpfp-2", "dpfp-3"),
)
RULES = ("sum", "decay", "gated", "delta", "gated-delta", "fwm", "gla", "kda")
NORMS = ("none", "sum", "attention", "sum+attention", "l2")
NAMED = {
    "Softmax attention": "rule=softmax-attention phi=identity norm=none",
    "Linear Transformer": "rule=sum phi=elu+1 norm=attention",
    "Performer": "rule=sum phi=favor-64 norm=attention",
    "DPFP memory": "rule=sum phi=dpfp-2 norm=attention",
    "Delta Network": "rule=delta phi=dpfp-1 norm=sum",
    "DeltaNet": "rule=delta phi=identity norm=l2",
    "Gated DeltaNet": "rule=gated-delta phi=identity norm=l2",
    "Retention": "rule=decay phi=identity norm=none",
}
#: How fast each made-up implementation is, and where it comes from.
IMPLEMENTATIONS = {
    "reference": (8.0, "in-tree"),
    "chunked": (1.0, "in-tree"),
    "torch-sdpa": (0.6, "third-party"),
}
FEATURES = {"elu+1": 32, "favor-64": 64, "dpfp-1": 64, "dpfp-2": 128}


def operators() -> Iterator[str]:
    yield NAMED["Softmax attention"]
    for rule in RULES:
        for phi in MAPS:
            for norm in NORMS:
                if not ("attention" in norm and (phi in ("identity", "tanh") or rule == "fwm")):
                    yield f"rule={rule} phi={phi} norm={norm}"


def excluded() -> list[list[str]]:
    reason = "{} has no sign, so dividing by its sum is undefined (made up)"
    return [
        [f"rule={rule} phi={phi} norm={norm}", reason.format(phi)]
        for rule in RULES
        for phi in ("identity", "tanh")
        for norm in ("attention", "sum+attention")
    ]


def record(suite: str, problem: str, implementation: str, **given: Any) -> Record:
    names = {operator: name for name, operator in NAMED.items()}
    words = " ".join(problem.split()[:3])
    status = {"status": "ok"} | given
    return Record(
        suite=suite,
        problem=problem,
        implementation=implementation,
        origin=IMPLEMENTATIONS.get(implementation, (1.0, "third-party"))[1],
        device=given.pop("device", DEVICE),
        seed=0,
        name=given.pop("name", names.get(words, "")),
        command=f'fwpbench run {suite} --implementations {implementation} --where "{problem}"',
        seconds=0.1,
        started="2001-01-01T00:00:00+00:00",
        **{name: value for name, value in status.items() if name not in ("device", "name")},
    )


def agreement() -> Iterator[Record]:
    chance = random.Random(1)
    for operator in operators():
        for direction in ("forward", "forward+backward", "decode"):
            for family in ("normal", "realistic"):
                said = "" if family == "normal" else f" inputs={family}"
                problem = (
                    f"{operator} B=1 T=67 H=2 K=16 V=12 dtype=fp32 direction={direction} "
                    f"state=in+out{said}"
                )
                for implementation in IMPLEMENTATIONS:
                    yield _agreement(problem, implementation, chance)


def _agreement(problem: str, implementation: str, chance: random.Random) -> Record:
    softmax = "softmax-attention" in problem
    if (implementation == "torch-sdpa") != softmax and implementation != "reference":
        reason = f"{implementation} does only {'softmax attention' if not softmax else 'states'}"
        return record("agreement", problem, implementation, status="unsupported", reason=reason)
    if "rule=fwm" in problem and chance.random() < 0.5:
        reason = f"ill-conditioned (the reference errs {chance.randint(6, 99)} %)"
        return record("agreement", problem, implementation, status="unsupported", reason=reason)
    tensors = ["o", "S"] + (["dq", "dk", "dv"] if "backward" in problem else [])
    ratios = {tensor: min(0.9, 0.08 * chance.lognormvariate(0, 0.8)) for tensor in tensors}
    status, reason = "ok", ""
    if implementation == "chunked" and "rule=kda phi=dpfp-3 norm=none" in problem:
        ratios["S"], status, reason = 3.7, "incorrect", "S is 3.7 times further off than allowed"
    detail = {
        tensor: {
            "error": ratio * 1e-6,
            "yardstick": 3e-7,
            "allowed": 1e-6,
            "golden_rms": 1.0,
            "ratio": ratio,
            "verdict": "ok" if ratio <= 1 else "incorrect",
        }
        for tensor, ratio in ratios.items()
    }
    return record(
        "agreement",
        problem,
        implementation,
        status=status,
        reason=reason,
        metrics={"error ratio": Measurement(value=max(ratios.values()), unit="1")},
        tags=["non-discriminating"] if "relu" in problem and chance.random() < 0.1 else [],
        detail={"tensors": detail},
    )


def _answers(implementation: str, operator: str) -> bool:
    return (implementation == "reference") or (
        (implementation == "torch-sdpa") == ("softmax" in operator)
    )


def _seconds(implementation: str, operator: str, tokens: int) -> float:
    cost = IMPLEMENTATIONS[implementation][0] * (1 + 0.2 * len(operator) / 30)
    return 2e-5 + 1e-6 * cost * tokens * (tokens / 512 if "softmax" in operator else 1.0)


def timed(suite: str, lengths: tuple[int, ...], directions: tuple[str, ...]) -> Iterator[Record]:
    chance = random.Random(2)
    for operator in NAMED.values():
        for direction in directions:
            for tokens in lengths:
                problem = (
                    f"{operator} B=2 T={tokens} H=4 K=64 V=64 dtype=fp32 direction={direction}"
                )
                for implementation in IMPLEMENTATIONS:
                    if not _answers(implementation, operator):
                        reason = f"{implementation} does not do this rule"
                        yield record(
                            suite, problem, implementation, status="unsupported", reason=reason
                        )
                        continue
                    time = _seconds(implementation, operator, tokens) * chance.uniform(0.95, 1.05)
                    yield record(
                        suite,
                        problem,
                        implementation,
                        metrics={
                            "time": Measurement(
                                value=time, unit="s", low=time * 0.97, high=time * 1.04
                            )
                        },
                        samples={"time": [time * chance.uniform(0.97, 1.06) for _ in range(9)]},
                        tags=["few-samples"] if tokens < 1000 else [],
                        detail={"stop_reason": "time limit", "chosen": "chunks of 64"},
                    )


def memory() -> Iterator[Record]:
    for operator in NAMED.values():
        for direction in ("forward", "forward+backward"):
            for tokens in (256, 512, 1024, 2048, 4096):
                problem = (
                    f"{operator} B=1 T={tokens} H=4 K=64 V=64 dtype=fp32 direction={direction}"
                )
                for implementation in IMPLEMENTATIONS:
                    if _answers(implementation, operator):
                        yield _memory(problem, operator, implementation, tokens)


def _memory(problem: str, operator: str, implementation: str, tokens: int) -> Record:
    inputs = 3 * tokens * 4 * 64 * 4
    softmax = "softmax" in operator
    peak = inputs * (3 if "backward" in problem else 1.4) + (tokens**2 * 16 if softmax else 65536)
    sizes = {
        "peak": peak,
        "inputs": inputs,
        "outputs": inputs / 3,
        "state": tokens * 4 * 128 * 4 if softmax else 4 * 64 * 64 * 4,
    }
    metrics = {name: Measurement(value=float(size), unit="B") for name, size in sizes.items()}
    return record("memory", problem, implementation, metrics=metrics)


def first_call() -> Iterator[Record]:
    for operator in NAMED.values():
        problem = f"{operator} B=1 T=256 H=4 K=64 V=64 dtype=fp32 direction=forward+backward"
        for implementation in IMPLEMENTATIONS:
            if not _answers(implementation, operator):
                continue
            later = _seconds(implementation, operator, 256)
            times = {"first call": 40 * later, "later call": later}
            if implementation == "chunked":
                times |= {"first call, disk cache": 3 * later, "autotune": 20 * later}
            metrics = {name: Measurement(value=time, unit="s") for name, time in times.items()}
            yield record("first-call", problem, implementation, metrics=metrics)


def longest() -> Iterator[Record]:
    for place, operator in enumerate(NAMED.values()):
        problem = f"{operator} B=1 T=1024 H=2 K=64 V=64 dtype=fp32 direction=forward+backward"
        for implementation in ("chunked", "torch-sdpa"):
            if not _answers(implementation, operator):
                continue
            bounded = place % 3 == 2
            fits, fails = 2048.0 * (place + 1), None if bounded else 2048.0 * (place + 1) + 1
            reason = "RuntimeError: out of memory (made up)"
            yield record(
                "longest",
                problem,
                implementation,
                parameters={"GiB": 0.25},
                metrics={"longest": Measurement(value=fits, unit="1", low=fits, high=fails)},
                tags=["lower-bound"] if bounded else [],
                detail={"tried": [[fits, "fits"], [fits + 1, "fits" if bounded else reason]]},
            )


def capacity() -> Iterator[Record]:
    for name, operator in NAMED.items():
        features = FEATURES.get(operator.split()[1].removeprefix("phi="), 32)
        for load in (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0):
            pairs = round(load * features)
            problem = (
                f"{operator} B=8 T={pairs} H=1 K=32 V=32 dtype=fp32 direction=forward "
                "state=out reads=no"
            )
            power = 2.5 if "delta" in operator else 1.0
            error = min(1.2, 0.5 * load**power + 0.001 * len(name))
            yield record(
                "capacity",
                problem,
                "reference",
                parameters={"pairs": pairs, "load": load},
                metrics={
                    "error": Measurement(value=error, unit="1"),
                    "features": Measurement(value=features, unit="1"),
                },
            )


def stability() -> Iterator[Record]:
    tokens = [2**power for power in range(12)]
    for rule, growth in (("sum", 1.0), ("decay", 0.1), ("delta", 0.3), ("gated-delta", 0.2)):
        for norm in ("none", "sum", "attention"):
            diverges = (rule, norm) == ("delta", "none")
            norms = [3.0 * token ** (3.0 if diverges else growth) for token in tokens]
            metrics = {"state norm": Measurement(value=norms[-1], unit="1")}
            if norm == "attention":
                metrics["normaliser"] = Measurement(value=1.7 * tokens[-1], unit="1")
            if diverges:
                metrics["diverged at"] = Measurement(value=2048, unit="1")
            sizes = [1.7 * token for token in tokens] if norm == "attention" else []
            yield record(
                "stability",
                f"rule={rule} phi=elu+1 norm={norm} B=1 T=2048 H=1 K=32 V=32 dtype=fp32 "
                "direction=forward state=out",
                "reference",
                name=f"{rule}, {norm}",
                metrics=metrics,
                detail={"tokens": tokens, "state norm": norms, "normaliser": sizes},
            )


def museum() -> Iterator[Record]:
    for place, operator in enumerate(("Linear Transformer", "Delta Network", "Retention"), 1):
        problem = f"{NAMED[operator]} B=1 T=67 H=2 K=16 V=12 dtype=fp32 direction=forward"
        missed = place == 2
        published = {
            "status": "not-finite" if place == 3 else "incorrect",
            "reason": f"o: o errs {1000 * place} times what is allowed (made up)",
            "tensors": {},
            "beside": "zeros pass there (made up)" if place == 1 else "",
        }
        detail = {
            "wrong": f"Something is wrong in the way numbered {place} (made up).",
            "credits": [
                {"text": "who found it", "url": f"https://example.org/issue/{place}#comment"},
                {"text": "a stranger", "url": f"javascript:alert({place})"},
            ],
            "fixed": "in 9.9",
            "published": published,
        }
        for implementation in ("reference", "chunked"):
            wrong = missed and implementation == "chunked"
            yield record(
                "museum",
                problem,
                implementation,
                status="incorrect" if wrong else "ok",
                reason="o errs 3 times what is allowed" if wrong else "",
                parameters={"exhibit": f"made-up-{place}"},
                metrics={
                    "error ratio": Measurement(value=3.0 if wrong else 0.3, unit="1"),
                    "published error ratio": Measurement(
                        value=None if place == 3 else 1000.0 * place, unit="1"
                    ),
                },
                detail=detail,
            )


LEARNERS = {
    1: [
        Operator("softmax-attention", "identity", "none"),
        *(Operator("sum", phi, "attention") for phi in ("elu+1", "dpfp-1", "dpfp-2")),
    ],
    2: [
        Operator("sum", "dpfp-1", "attention"),
        *(Operator("delta", phi, "sum") for phi in ("elu+1", "dpfp-1", "dpfp-2")),
    ],
}


def learner(operator: Operator) -> tuple[str, str]:
    """The sentence of an operator, and the implementation that trains it."""
    implementation = "torch-sdpa" if operator.rule == "softmax-attention" else "chunked"
    return f"rule={operator.rule} phi={operator.phi} norm={operator.norm}", implementation


def retrieval() -> Iterator[Record]:
    chance = random.Random(3)
    for setting, operators_of in LEARNERS.items():
        for S in (20, 40, 60):
            for operator in operators_of:
                for trial in range(3):
                    yield _retrieval(setting, S, operator, trial, chance)


def _retrieval(setting: int, S: int, operator: Operator, trial: int, chance: Any) -> Record:
    words, implementation = learner(operator)
    problem = (
        f"{words} B=32 T={setting * S} H=1 K=64 V={S} dtype=fp32 direction=forward+backward "
        "state=out reads=no"
    )
    given = {"parameters": {"setting": setting, "trial": trial}}
    if (setting, S, operator.phi, trial) == (2, 60, "dpfp-2", 2):
        reason = "the loss was no finite number at step 731"
        return record(
            "retrieval",
            problem,
            implementation,
            status="diverged",
            reason=reason,
            samples={"step": [100.0, 200.0], "loss": [0.4, None]},
            **given,
        )
    bend = 2e-3 if trial == 0 else 0.4
    curve = [
        (step, loss * chance.uniform(1 - bend, 1 + bend))
        for step, loss in curves()[setting, operator, S]
    ]
    run, losses = runs()[setting, operator, S], [loss for _, loss in curve]
    found: dict[str, Any] = {"best loss": run.best, "steps": run.steps, "stop reason": "criterion"}
    if trial == 0:
        worst = 0.08 if (setting, S, operator.phi) == (2, 40, "elu+1") else 1.9e-3
        found |= {"same steps": True, "compared": len(curve), "first": 1e-6, "worst": worst}
    return record(
        "retrieval",
        problem,
        implementation,
        metrics={
            "best loss": Measurement(value=min(losses), unit="1"),
            "last loss": Measurement(value=losses[-1], unit="1"),
            "steps": Measurement(value=curve[-1][0], unit="1"),
        },
        samples={"step": [step for step, _ in curve], "loss": losses},
        detail={"stop reason": "criterion", "published": found},
        **given,
    )


MODELS = {
    "Softmax attention": LEARNERS[1][0],
    "Linear Transformer": LEARNERS[1][1],
    "sum, dpfp-1": LEARNERS[1][2],
    "Delta Network": LEARNERS[2][2],
    "delta, elu+1": LEARNERS[2][1],
}


def language_modeling() -> Iterator[Record]:
    chance = random.Random(4)
    for data, unigram, floor, best in (
        ("grammar", 190.0, 11.5, 13.0),
        ("wikitext-2", 743.0, None, 310.0),
    ):
        for place, (name, operator) in enumerate(MODELS.items()):
            for trial in range(2):
                perplexity = best * (1 + 0.06 * place) * chance.uniform(0.98, 1.02)
                yield _language(data, unigram, floor, name, operator, trial, perplexity)


def _language(
    data: str,
    unigram: float,
    floor: float | None,
    name: str,
    operator: Operator,
    trial: int,
    perplexity: float,
) -> Record:
    words, implementation = learner(operator)
    problem = f"{words} B=16 T=128 H=4 K=16 V=16 dtype=fp32 direction=forward+backward"
    given = {"name": name, "parameters": {"data": data, "trial": trial}}
    if (data, name) == ("wikitext-2", "sum, dpfp-1"):
        reason = "the budget was spent before its turn"
        return record(
            "language-modeling", problem, implementation, status="skipped", reason=reason, **given
        )
    steps = [50.0 * 2**n for n in range(6)]
    end = math.log(perplexity)
    numbers = {"perplexity": perplexity, "unigram perplexity": unigram, "parameters": 114_000.0}
    metrics = {metric: Measurement(value=value, unit="1") for metric, value in numbers.items()}
    metrics["state"] = Measurement(value=8192.0, unit="B")
    if floor is not None:
        metrics["floor perplexity"] = Measurement(value=floor, unit="1")
    return record(
        "language-modeling",
        problem,
        implementation,
        metrics=metrics,
        samples={
            "step": steps,
            "training loss": [end + 40 / step for step in steps],
            "validation perplexity": [math.exp(end + 42 / step) for step in steps],
            "test log-likelihood": [-128 * (end + 0.05 * math.sin(n)) for n in range(40)],
            "test tokens": [128.0] * 40,
        },
        **given,
    )


SENTENCES = [
    ("the old bakers see a red house", "ein rotes haus sehen die alten baecker"),
    ("she opened the kitchen door", "die kuechentuer machte sie auf"),
]


def translation() -> Iterator[Record]:
    chance = random.Random(5)
    for place, (name, operator) in enumerate(MODELS.items()):
        for trial in range(2):
            words, implementation = learner(operator)
            problem = f"{words} B=64 T=12 H=4 K=16 V=16 dtype=fp32 direction=forward+backward"
            bleu = 99.0 - 4 * place + chance.uniform(-1, 1)
            scores = {"bleu": bleu, "chrf": bleu - 0.5, "copy bleu": 3.1, "dictionary bleu": 24.0}
            steps = [25.0 * 2**n for n in range(5)]
            yield record(
                "translation",
                problem,
                implementation,
                name=name,
                parameters={"data": "transduction", "trial": trial},
                metrics={
                    metric: Measurement(value=value, unit="1") for metric, value in scores.items()
                }
                | {
                    "parameters": Measurement(value=210_000.0, unit="1"),
                    "state": Measurement(value=16384.0, unit="B"),
                },
                samples={
                    "step": steps,
                    "training loss": [1.4 + 0.1 * place + 60 / step for step in steps],
                    "validation loss": [0.9 + 0.1 * place + 60 / step for step in steps],
                },
                detail={
                    "signatures": {"bleu": "nrefs:1|tok:13a|made:up", "chrf": "nrefs:1|nc:6"},
                    "encoder": f"{operator.rule} without causality, by the same implementation",
                    "examples": [
                        {
                            "source": source,
                            "reference": reference,
                            "translation": reference if place < 2 else reference.upper(),
                        }
                        for source, reference in SENTENCES
                    ],
                },
            )


def everything() -> list[Record]:
    """About 6,000 records over every suite."""
    return [
        *agreement(),
        *museum(),
        *timed("speed", (2048,), ("forward", "forward+backward")),
        *first_call(),
        *memory(),
        *longest(),
        *timed("scaling", (256, 512, 1024, 2048, 4096, 8192), ("forward",)),
        *capacity(),
        *stability(),
        *retrieval(),
        *language_modeling(),
        *translation(),
    ]


def run_of(records: list[Record], **changes: Any) -> Run:
    """A finished made-up run with these records."""
    plan = {
        "schema": 1,
        "profile": "quick",
        "seed": 0,
        "arguments": "fwpbench run --profile quick",
        "suites": list(dict.fromkeys(one.suite for one in records)),
        "cases": [one.key for one in records],
        "excluded": excluded() if records else [],
    }
    environment = {
        "fwpbench": "0.0.0 (made up)",
        "commit": "0123abc",
        "dirty": False,
        "started": "2001-01-01T00:00:00+00:00",
        "python": "3.99",
        "torch": "9.9",
        "device": DEVICE,
        "device kind": "cpu",
        "cores": 2,
        "memory bytes": 25769803776,
        "os": "Imaginary OS",
        "triton": None,
    }
    parts: dict[str, Any] = {
        "path": Path("runs/made-up"),
        "plan": plan,
        "environment": environment,
        "records": records,
    }
    return Run(**(parts | changes))
