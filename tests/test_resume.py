"""A run that was killed at any moment is gone on with, to the records of one that was not."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from fwpbench.harness.records import Record, to_line
from fwpbench.harness.run_folder import read_run

ROOT = Path(__file__).parent.parent
WORDS = ["run", "agreement", "--where", "rule=sum phi=elu+1 norm=attention,sum"]
WORDS += ["--device", "cpu", "--implementations", "chunked,reference", "--json"]
KILLS = 20

#: Imports once and forks for every run, so that twenty of them are a matter of seconds. Of each it
#: tells how long it took, its exit code (−9: killed), and which children it left behind.
DRIVER = """
import json, os, sys, time
import fwpbench.commands.run, fwpbench.reports
from fwpbench.cli import main

fwpbench.commands.run._report = lambda run, path: (None, "")  # it takes longer than the run

def left_behind(children):
    end = time.monotonic() + 5
    while children and time.monotonic() < end:
        time.sleep(0.01)
        children = [c for c in children if os.path.exists(f"/proc/{c}/stat")
                    and open(f"/proc/{c}/stat").read().rpartition(")")[2].split()[0] != "Z"]
    return children

for line in sys.stdin:
    words, seconds = json.loads(line)
    started = time.monotonic()
    if not (run := os.fork()):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(main(words))
    code = None
    while seconds is None or time.monotonic() - started < seconds:
        ended, status = os.waitpid(run, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            break
        time.sleep(0.005)
    children = []
    if code is None:
        children = open(f"/proc/{run}/task/{run}/children").read().split()
        os.kill(run, 9)
        code = os.waitstatus_to_exitcode(os.waitpid(run, 0)[1])
    took = time.monotonic() - started
    print(json.dumps([code, took, left_behind(children)]), flush=True)
"""


class Driver:
    """Starts runs and kills them."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", DRIVER],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, words: list[str], kill_after: float | None = None) -> tuple[int, float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([words, kill_after]) + "\n")
        self._process.stdin.flush()
        code, seconds, left_behind = json.loads(self._process.stdout.readline())
        assert left_behind == []
        return code, seconds

    def close(self) -> None:
        self._process.communicate(timeout=10)


def test_a_run_killed_at_twenty_moments_ends_with_the_records_of_one_that_was_not(
    tmp_path: Path,
) -> None:
    moments, began = random.Random(20), time.monotonic()
    driver = Driver()
    whole = tmp_path / "whole"
    driver.run([*WORDS, "--output", str(tmp_path / "first"), "--dry-run"])  # imports are done
    code, seconds = driver.run([*WORDS, "--output", str(whole)])
    assert code == 0
    wanted = read_run(whole).records
    runs, kills, kept = [tmp_path / "0"], 0, list[int]()
    while kills < KILLS:
        run = runs[-1]
        words = ["run", "--resume", str(run), "--json"]
        if not (run / "plan.json").exists():
            words = [*WORDS, "--output", str(run)]
        code, _ = driver.run(words, kill_after=seconds * moments.uniform(0.0, 1.0))
        assert code in (0, -9)
        if code == -9:
            kills += 1
            kept.append(len(read_run(run).records) if (run / "plan.json").exists() else 0)
        if code == 0:
            runs.append(tmp_path / str(len(runs)))
    for run in runs:
        if (run / "plan.json").exists():
            assert driver.run(["run", "--resume", str(run), "--json"])[0] == 0
            read = read_run(run)
            assert read.complaints == []
            assert [*map(comparable, read.records)] == [*map(comparable, wanted)]
    driver.close()
    print(
        f"{kills} kills in {len(runs)} runs of {len(wanted)} records ({seconds:.1f} s whole), with "
        f"{kept} records kept; {time.monotonic() - began:.0f} s in all"
    )


def comparable(record: Record) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(to_line(record))
    return {name: value for name, value in fields.items() if name not in ("seconds", "started")}
