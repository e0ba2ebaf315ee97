"""A site of a million made-up records: python -m benchmarks.large_site [RECORDS [FOLDER]].

Prints how long it took, what it kept in memory and on disk, and fails where that is more than a
site may take: 60 s of CPU a hundred thousand records, 1 kB of memory and of disk 2 kB a record.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

from fwpbench.harness.records import to_line
from fwpbench.reports import build_site
from tests import sample_runs as sample

SECONDS, MEMORY, DISK = 60 / 100_000, 1_000, 2_000


def lines() -> Iterator[str]:
    """Records without end: those of the made-up run, again with each seed."""
    once = [to_line(record) for record in sample.everything()]
    for seed in count():
        for line in once:
            yield line.replace('"seed": 0,', f'"seed": {seed},', 1)


def write(folder: Path, records: int) -> Path:
    run = sample.run_of([])
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text(json.dumps(run.plan), encoding="utf-8")
    (folder / "environment.json").write_text(json.dumps(run.environment), encoding="utf-8")
    with open(folder / "records.jsonl", "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in islice(lines(), records))
    return folder


def main(records: int, root: Path) -> int:
    run = write(root / "large", records)
    before, began = time.process_time(), time.monotonic()
    small = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    build_site([run], root / "site")
    cpu, seconds = time.process_time() - before, time.monotonic() - began
    memory = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - small)
    files = [path for path in (root / "site").rglob("*") if path.is_file()]
    disk = sum(path.stat().st_size for path in files)
    print(f"{records:,} records: {seconds:.0f} s ({cpu:.0f} s of CPU), {memory / 1e6:.0f} MB more "
          f"memory, {len(files):,} files of {disk / 1e6:.0f} MB")  # fmt: skip
    grew = (cpu / SECONDS, memory / MEMORY, disk / DISK)
    return int(max(grew) > records)


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    if len(sys.argv) > 2:
        sys.exit(main(number, Path(sys.argv[2])))
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(main(number, Path(folder)))
