"""A run that was killed at any moment is gone on with, to the records of one that was not."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from fwpbench.harness.records import Record, to_line
from fwpbench.harness.run_folder import keys_done, read_run

ROOT = Path(__file__).parent.parent
WORDS = ["run", "agreement", "--where", "rule=sum phi=elu+1,relu norm=attention,sum"]
WORDS += ["--device", "cpu", "--implementations", "chunked,reference", "--json"]
KILLS = 20
#: A killed run has made up to so many records more, so that one run is killed several times.
MOST = 6
#: Seconds in which a run has not recorded anything yet: it plans, and starts its worker.
EARLY = 0.5

#: Imports once and forks for every run, so that twenty of them are a matter of seconds. A run is
#: killed after some seconds, or when its folder holds some number of records. Of each it tells its
#: exit code (−9: killed), and which children it left behind.
DRIVER = """
import json, os, sys, time
from pathlib import Path
import fwpbench.commands.run as run
from fwpbench.cli import main
from fwpbench.harness.engine import InProcess
from fwpbench.harness.profiles import PROFILES
from fwpbench.harness.run_folder import keys_done
from fwpbench.suites import SUITES

for case in SUITES["agreement"].cases(PROFILES["quick"]):
    case.problem.D  # torch loads a compiler to ask for the size of a meta tensor
run._report = lambda made, path: (None, "")  # it takes longer than the run
run.load = lambda: None

def left_behind(children):
    end = time.monotonic() + 5
    while children and time.monotonic() < end:
        time.sleep(0.01)
        children = [c for c in children if os.path.exists(f"/proc/{c}/stat")
                    and open(f"/proc/{c}/stat").read().rpartition(")")[2].split()[0] != "Z"]
    return children

def due(folder, records, seconds, started):
    if seconds is not None:
        return time.monotonic() - started >= seconds
    return records is not None and len(keys_done(Path(folder))) >= records

for line in sys.stdin:
    words, here, folder, records, seconds = json.loads(line)
    started = time.monotonic()
    if not (process := os.fork()):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if here:
            run.executor = lambda setting, log, *_: InProcess(SUITES, setting, log)
        os._exit(main(words))
    ended = 0
    while not ended and not due(folder, records, seconds, started):
        time.sleep(0.001)
        ended, status = os.waitpid(process, os.WNOHANG)
    children = []
    if not ended:
        children = open(f"/proc/{process}/task/{process}/children").read().split()
        os.kill(process, 9)
        _, status = os.waitpid(process, 0)
    print(json.dumps([os.waitstatus_to_exitcode(status), left_behind(children)]), flush=True)
"""


class Kill(NamedTuple):
    """When: once there are so many records, or after so many seconds."""

    records: int | None = None
    seconds: float | None = None


class Driver:
    """Starts runs and kills them."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", DRIVER],
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, path: Path, *more: str, kill: Kill | None = None, in_process: bool = True) -> int:
        """Begin the run, or go on with it; its exit code."""
        begun = (path / "plan.json").exists()
        words = (
            ["run", "--resume", str(path), "--json"] if begun else [*WORDS, "--output", str(path)]
        )
        order = [[*words, *more], in_process, str(path), *(kill or Kill())]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        code, left_behind = json.loads(self._process.stdout.readline())
        assert left_behind == []
        return int(code)

    def close(self) -> None:
        self._process.communicate(timeout=10)


def test_a_run_killed_at_twenty_moments_ends_with_the_records_of_one_that_was_not(
    tmp_path: Path,
) -> None:
    chance, began = random.Random(20), time.monotonic()
    driver = Driver()
    assert driver.run(tmp_path / "whole") == 0
    wanted = read_run(tmp_path / "whole").records
    runs, recording, kept, dropped = [tmp_path / "0"], 0, list[int](), 0
    while len(kept) < KILLS:
        run, before = runs[-1], len(keys_done(runs[-1]))
        # Starting a worker takes longer than all the rest, so two runs of three do without.
        in_process = len(kept) % 3 > 0
        if in_process and before > 0:
            dropped += leave_something_to_a_budget(driver, run)
            before = len(keys_done(run))
        if len(kept) % 7 == 6:
            kill = Kill(seconds=chance.uniform(0.0, EARLY))
        else:
            kill = Kill(records=before + chance.randint(1, MOST))
        if driver.run(run, kill=kill, in_process=in_process) == 0:
            runs.append(tmp_path / str(len(runs)))
            continue
        kept.append(len(keys_done(run)))
        recording += before < kept[-1] < len(wanted)
    for run in runs:
        assert driver.run(run) == 0
        read = read_run(run)
        assert read.complaints == []
        assert [*map(comparable, read.records)] == [*map(comparable, wanted)]
    driver.close()
    print(
        f"{KILLS} kills, {recording} of them while recording, in {len(runs)} runs of {len(wanted)} "
        f"records, with {kept} kept, {dropped} skipped and run again; "
        f"{time.monotonic() - began:.0f} s in all"
    )
    assert recording >= 15
    assert dropped > 0


def leave_something_to_a_budget(driver: Driver, run: Path) -> int:
    """How many records it skipped, which the next run has to drop."""
    assert driver.run(run, "--budget", "0.01") == 0
    return sum(record.status == "skipped" for record in read_run(run).records)


def comparable(record: Record) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(to_line(record))
    return {name: value for name, value in fields.items() if name not in ("seconds", "started")}
