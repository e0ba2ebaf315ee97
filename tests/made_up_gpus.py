"""Records of three GPUs that do not exist: every number follows from a made-up roofline.

A call takes its bytes ÷ bandwidth or its operations ÷ speed, whichever is more, ÷ the part of that
which the implementation reaches, and a launch. The third machine did not measure its roofline, and
has not enough memory for the longest sequence.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

from fwpbench.harness.records import Measurement, Record, to_line

LENGTHS = (1024, 4096, 16384)
#: What part of the roofline each reaches.
REACHED = {"triton": 0.7, "chunked": 0.2}
OPERATORS = {
    "DeltaNet": "rule=delta phi=identity norm=l2",
    "Retention": "rule=decay phi=identity norm=none",
}
B, H, K = 1, 16, 128


@dataclass(frozen=True)
class Gpu:
    name: str
    bytes_a_second: float
    operations_a_second: float
    tells_roofline: bool = True
    longest: int = LENGTHS[-1]

    def seconds(self, tokens: int, implementation: str) -> float:
        read = 4 * 2 * B * tokens * H * K
        done = 4 * 64 * B * tokens * H * K
        least = max(read / self.bytes_a_second, done / self.operations_a_second)
        return least / REACHED[implementation]


GPUS = (
    Gpu("Imaginary GPU 100 (made up)", 4.0e12, 9.0e14),
    Gpu("Imaginary GPU 50 (made up)", 2.0e12, 3.0e14),
    Gpu("Imaginary GPU 10 (made up)", 0.5e12, 1.0e14, tells_roofline=False, longest=4096),
)


def records_of(gpu: Gpu, noise: float = 0.002) -> list[Record]:
    return [
        _record(gpu, name, tokens, implementation, noise)
        for name in OPERATORS
        for tokens in LENGTHS
        for implementation in REACHED
    ]


def _record(gpu: Gpu, name: str, tokens: int, implementation: str, noise: float) -> Record:
    problem = f"{OPERATORS[name]} B={B} T={tokens} H={H} K={K} V={K} dtype=bf16 direction=forward"
    given: dict[str, object] = {"status": "out-of-memory", "reason": "made up: 8 GiB are too few"}
    if tokens <= gpu.longest:
        seconds, chance = (
            gpu.seconds(tokens, implementation),
            random.Random(f"{gpu.name} {problem}"),
        )
        samples = [seconds * (1 + chance.uniform(-noise, noise)) for _ in range(21)]
        ordered = sorted(samples)
        time = Measurement(value=ordered[10], unit="s", low=ordered[5], high=ordered[15])
        metrics = {"time": time}
        if gpu.tells_roofline:
            reached = REACHED[implementation]
            metrics["roofline"] = Measurement(value=reached, unit="fraction")
        given = {"status": "ok", "metrics": metrics, "samples": {"time": samples}}
    return Record(
        suite="speed", problem=problem, implementation=implementation, origin="in-tree",
        device="cuda", seed=0, name=name, tags=[],
        detail={"domain": "device", "cache": "cold", "stop_reason": "settled"}, **given,
    )  # fmt: skip


def run_folders(path: Path) -> list[Path]:
    """One run a GPU, as `fwpbench run` leaves it."""
    folders = []
    for place, gpu in enumerate(GPUS):
        folder = path / f"gpu-{place}"
        folder.mkdir(parents=True)
        records = records_of(gpu)
        plan = {"schema": 1, "suites": ["speed"], "cases": [each.key for each in records]}
        facts = {"device": gpu.name, "torch": "9.9", "driver": f"9{place}", "A/A noise": 0.003}
        (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
        (folder / "environment.json").write_text(json.dumps(facts), encoding="utf-8")
        lines = "".join(f"{to_line(each)}\n" for each in records)
        (folder / "records.jsonl").write_text(lines, encoding="utf-8")
        folders.append(folder)
    return folders
