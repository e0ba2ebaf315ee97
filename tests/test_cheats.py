"""Authors who are careless, or clever: whatever their plugin does wrong, it is never ranked.

Each is a plugin, run as a user runs it. Limits: one that wants to cheat and knows this harness can;
implementations share a process with what judges them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fwpbench.cli import main
from fwpbench.commands import run
from fwpbench.harness import profiles
from fwpbench.harness.engine import InProcess
from fwpbench.harness.profiles import Profile
from fwpbench.harness.records import Record
from fwpbench.harness.run_folder import Run, read_run
from fwpbench.harness.statuses import UNRANKED
from fwpbench.reports.evidence import read
from fwpbench.suites import SUITES

HERE = Path(__file__).parent / "cheats"
OPERATOR = "rule=sum phi=elu+1 norm=attention"
#: By plugin file and cheat: the status that refuses it, and words of the reason or a tag.
CHEATS = {
    "results": {
        "writes-nothing": ("not-finite", "NaN"),
        "last-chunk-missing": ("not-finite", "NaN"),
        "one-token-expanded": ("incorrect", "o is expanded"),
        "lazy": ("incorrect", "o is a Lazy"),
        "other-layout": ("incorrect", "the shape"),
        "other-dtype": ("incorrect", "o is torch.float16"),
        "other-dtype-when-timed": ("incorrect", "a timed call: o is torch.float16"),
        "computed-later": ("incorrect", "a timed call is wrong"),
        "zeros": ("incorrect", "o errs"),
        "values-copied": ("incorrect", "o errs"),
    },
    "memories": {
        "remembered-by-pointer": ("incorrect", ""),
        "remembered-by-contents": ("remembered", "the same inputs again"),
        "right-once": ("incorrect", ""),
        "right-until-warm": ("incorrect", "a timed call is wrong"),
        "state-kept": ("incorrect", ""),
    },
    "inputs": {
        "keys-scaled-in-place": ("input-modified", "k"),
        "values-changed-when-timed": ("input-modified", "a timed call changed v"),
        "even-lengths-only": ("incorrect", "o errs"),
        "short-lengths-only": ("incorrect", "a timed call is wrong"),
    },
    "unasked": {
        "no-gradient-of-keys": ("incorrect", "dk errs"),
        "final-state-missing": ("not-finite", "S"),
        "state-updated-in-place": ("input-modified", "S0"),
    },
    "shortcuts": {
        "half-inside": ("incorrect", "times what is allowed"),
        "falls-back": ("wrong-kernel", "chunked"),
        "compiles-each-time": ("ok", "compiled-while-timed"),
    },
    "settings": {
        "more-threads": ("process-modified", "threads"),
        "tf32-for-all": ("process-modified", "precision"),
        "no-garbage-collection": ("process-modified", "garbage"),
        "slow-clock": ("process-modified", "time.perf_counter"),
        "nothing-differs": ("process-modified", "torch.equal"),
    },
    "half_by_default": {"half-by-default": ("missing", "default dtype")},
    "clock_replaced": {"clock-replaced": ("missing", "time.perf_counter")},
}
#: Files that the agreement suite is needed for; the others are caught before or while timed.
ASKED_BEFORE = {"honest", "unasked"}
REFUSED_AT_IMPORT = {"half_by_default", "clock_replaced"}
ALL = [(file, name) for file, cheats in CHEATS.items() for name in cheats]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[Record]]]:
    """What `fwpbench run agreement speed --plugin FILE` records of each file, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "executor", lambda here, log, *_: InProcess(SUITES, here, log))
        patch.setattr(run, "build_report", lambda runs, output: output)
        patch.setitem(profiles.PROFILES, "quick", Profile("quick", warm_up=0.0, longest=0.05))
        yield Records(tmp_path_factory.mktemp("cheats"))


class Records(dict):
    """By file, and by file and implementation what is ranked; run when first asked for."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __missing__(self, file: str) -> tuple[list[Record], set[str]]:
        output = self.folder / file
        names = [f"{file}.py"] if file in REFUSED_AT_IMPORT else [*CHEATS.get(file, ["honest"])]
        suites = ["agreement", "speed"] if file in ASKED_BEFORE else ["speed"]
        words = ["run", *suites, "--plugin", str(HERE / f"{file}.py"), "--json"]
        words += [
            "--where",
            f"{OPERATOR} T<=256 inputs=normal",
            "--device",
            "cpu",
            "--output",
            str(output),
        ]
        with redirect_stdout(io.StringIO()):
            main([*words, "--implementations", ",".join(names)])
        evidence = read([made := read_run(output)])
        ranked = {
            case.implementation
            for case in evidence.of("speed")
            if evidence.is_ranked(case) and case.words["direction"] == "forward"
        }
        self[file] = made.records, ranked
        return self[file]


def test_a_plugin_without_a_fault_is_ranked(made):
    """Or nothing below would show anything."""
    records, ranked = made["honest"]
    assert {record.status for record in records} <= {"ok", "unstable"}
    assert {record.origin for record in records} == {"third-party"}
    assert ranked == {"honest"}
    assert len(records) == 5


@pytest.mark.parametrize(("file", "name"), ALL, ids=[name for _, name in ALL])
def test_it_is_refused_and_never_ranked(file, name, made, record_property):
    status, words = CHEATS[file][name]
    records, ranked = made[file]
    here = f"{file}.py" if file in REFUSED_AT_IMPORT else name
    mine = [record for record in records if record.implementation == here]
    assert len(mine) == (5 if file in ASKED_BEFORE else 2), "one record a case, whatever happens"
    assert here not in ranked
    telling = [
        record
        for record in mine
        if record.status == status and words in f"{record.reason} {' '.join(record.tags)}"
    ]
    assert telling, [(record.status, record.reason) for record in mine]
    first = telling[0]
    said = first.reason or f"tagged {', '.join(first.tags)}"
    record_property("refused", said)
    print(f"{name:28} {first.suite:10} {first.status:17} {said[:110]}")


def test_there_are_enough_of_them():
    assert len(ALL) >= 16
    assert {path.stem for path in HERE.glob("*.py")} == {*CHEATS, "honest", "__init__"}


@pytest.mark.parametrize("tag", sorted(UNRANKED))
def test_what_is_ok_and_no_evidence_is_not_ranked(tag, made):
    records, _ = made["honest"]
    ok = next(each for each in records if each.suite == "speed" and each.status == "ok")
    for tags, ranked in ([], True), ([tag], False):
        run = Run(Path("run"), {}, {}, [replace(ok, tags=tags)])
        evidence = read([run])
        assert [evidence.is_ranked(case) for case in evidence.of("speed")] == [ranked]


def test_what_calls_changed_is_put_back(made):
    made["settings"]
    made["half_by_default"]
    assert torch.get_default_dtype() is torch.float32
    assert torch.is_grad_enabled()
    assert torch.get_float32_matmul_precision() == "highest"
