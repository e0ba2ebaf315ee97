"""What our kernels should reach on one H200: each target beside its peers, in one run.

    make gpu-triton, make gpu-cuda
    fwpbench run targets --plugin benchmarks/targets.py --device cuda --implementations triton,…
    python benchmarks/targets.py RUN [cuda]      the table of ratios of a run, of triton or of cuda

With `--plugin benchmarks/official_kernel.py` the published CUDA kernel is a peer too.

A suite as a plugin offers one: gate first, then device time with a cold cache. Floors are
compulsory bytes at 4.3 TB/s or products at 790 TFLOP/s (bf16), whichever takes longer, as measured
on that GPU before the kernels were written.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Not `import time_call`: asv takes every name that begins so for a benchmark.
from fwpbench.harness import timing
from fwpbench.harness.domains import default_domain
from fwpbench.harness.profiles import Profile
from fwpbench.harness.records import Measurement, Record
from fwpbench.harness.run_folder import read_run
from fwpbench.harness.suite import Answer, Case, Metric, Setting, Suite
from fwpbench.implementations.base import Implementation
from fwpbench.operators.problem import Problem
from fwpbench.suites.timed import make_call, wrong


@dataclass(frozen=True)
class Target:
    """`must`: how many times as fast as the fastest peer of the run; `floor` in seconds."""

    problem: str
    must: float
    floor: float | None = None


TARGETS = {
    "sum, forward": Target(
        "rule=sum phi=elu+1 norm=attention B=8 T=4096 H=16 K=128 V=128 direction=forward",
        2.5, 0.125e-3,
    ),
    "sum, forward and backward": Target(
        "rule=sum phi=elu+1 norm=attention B=8 T=4096 H=16 K=128 V=128 direction=forward+backward",
        3, 0.34e-3,
    ),
    "delta, forward": Target(
        "rule=delta phi=identity norm=l2 B=8 T=4096 H=16 K=128 V=128 direction=forward",
        3, 0.125e-3,
    ),
    "delta, forward and backward": Target(
        "rule=delta phi=identity norm=l2 B=8 T=4096 H=16 K=128 V=128 direction=forward+backward",
        2.5, 0.42e-3,
    ),
    "delta, one long sequence": Target(
        "rule=delta phi=identity norm=l2 B=1 T=65536 H=16 K=128 V=128 direction=forward",
        3, 0.25e-3,
    ),
    "delta, dpfp-3": Target(
        "rule=delta phi=dpfp-3 norm=sum B=8 T=4096 H=8 K=64 V=64 direction=forward", 20, 0.087e-3
    ),
    "sum, dpfp-2": Target(
        "rule=sum phi=dpfp-2 norm=sum B=8 T=4096 H=8 K=64 V=64 direction=forward", 4, 0.035e-3
    ),
    "sum, dpfp-3": Target(
        "rule=sum phi=dpfp-3 norm=sum B=8 T=4096 H=8 K=64 V=64 direction=forward", 4, 0.052e-3
    ),
    "language model, K = 16": Target(
        "rule=delta phi=elu+1 norm=sum B=96 T=256 H=8 K=16 V=16 direction=forward+backward", 3
    ),
    "language model, K = 32": Target(
        "rule=delta phi=elu+1 norm=sum B=56 T=384 H=8 K=32 V=32 direction=forward+backward", 3
    ),
    # The state is read and written once: 2 · 64 · 16 · 128² · 4 bytes.
    "decode": Target(
        "rule=delta phi=identity norm=l2 B=64 T=1 H=16 K=128 V=128 direction=decode",
        1, 2 * 64 * 16 * 128**2 * 4 / 4.3e12,
    ),
}  # fmt: skip


def cases(profile: Profile) -> Sequence[Case]:
    return [
        Case(Problem.parse(f"{target.problem} dtype=bf16"), name=name)
        for name, target in TARGETS.items()
    ]


def answer(case: Case, implementation: Implementation, setting: Setting) -> Answer:
    if (refusal := wrong(case.problem, implementation, setting)) is not None:
        return refusal
    call = make_call(case.problem, implementation, setting)
    taken = timing.time_call(call, setting.device, setting.profile)
    time = Measurement(value=taken.median, unit="s", low=taken.low, high=taken.high)
    return Answer(
        metrics={"time": time},
        samples={"time": taken.samples},
        tags=taken.tags,
        detail={
            "stop_reason": taken.stop_reason,
            "domain": default_domain(setting.device),
            "cache": "cold",
        },
    )


TIME = Metric("s", "lower", "median time of one call with a cold cache")
SUITES = {"targets": Suite("Do the kernels reach their targets?", cases, answer, {"time": TIME})}


def main(folder: str, ours: str = "triton") -> None:
    records = [each for each in read_run(Path(folder)).records if each.suite == "targets"]
    for name, target in TARGETS.items():
        of_target = [record for record in records if record.name == name]
        if not of_target:
            continue
        print(f"\n{name}: {target.problem} dtype=bf16")
        for record in of_target:
            print(f"  {record.implementation:16} {said(record, target)}")
        print(f"  {verdict(of_target, target, ours)}")


def said(record: Record, target: Target) -> str:
    time = record.metrics.get("time")
    if time is None or time.value is None:
        return f"{record.status}: {record.reason}"
    words = f"{1e3 * time.value:9.4f} ms"
    if time.low is not None and time.high is not None:
        words += f" [{1e3 * time.low:.4f}, {1e3 * time.high:.4f}]"
    if target.floor is not None:
        words += f", {time.value / target.floor:.2f} times the floor"
    return words


def verdict(records: Sequence[Record], target: Target, ours: str = "triton") -> str:
    """The ratio of medians to the fastest peer, and from the ends of both intervals."""
    times = {
        record.implementation: record.metrics["time"]
        for record in records
        if record.status == "ok"
        and (record.implementation == ours or record.origin == "third-party")
    }
    own, peers = times.pop(ours, None), times
    if own is None or own.value is None:
        return "no time of ours: nothing to compare"
    if not peers:
        return f"no peer has a time: at least {target.must} times as fast cannot be judged"
    name, best = min(peers.items(), key=lambda pair: pair[1].value or float("inf"))
    assert best.value is not None
    ratio = best.value / own.value
    words = f"{ratio:.2f} times as fast as {name}"
    if None not in (best.low, best.high, own.low, own.high):
        words += f" [{best.low / own.high:.2f}, {best.high / own.low:.2f}]"  # type: ignore[operator]
    return f"{words}; at least {target.must}: {'met' if ratio >= target.must else 'MISSED'}"


if __name__ == "__main__":
    main(*sys.argv[1:])
