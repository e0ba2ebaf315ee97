"""Two runs beside each other: noise is no change, a change is found, the rest is undecided."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest

from fwpbench.cli import main
from fwpbench.harness.comparison import MARGIN, changes, samples_of
from fwpbench.harness.profiles import Profile
from fwpbench.harness.records import Measurement, Record, to_line
from fwpbench.harness.signature import parse, signature
from fwpbench.harness.timing import time_call
from fwpbench.operators.errors import UserError
from tests.simulated_device import SimulatedDevice
from tests.test_timing import noisy

PATIENT = Profile("patient", warm_up=0.0, longest=math.inf)


def sampled(seed: int, sigma: float, rho: float, factor: float = 1.0) -> list[float]:
    """As a run takes them: until the median is settled, or there are 320."""
    device = SimulatedDevice(factor * x for x in noisy(seed, sigma, rho))
    return time_call(device.call, device, PATIENT).samples


def verdicts(factor: float, sigma: float, rho: float, cells: int = 300) -> dict[str, float]:
    """The share of each verdict over a family of cells, all changed by `factor`."""
    pairs = {
        str(seed): (sampled(seed, sigma, rho), sampled(10**6 + seed, sigma, rho, factor))
        for seed in range(cells)
    }
    found = [each.verdict for each in changes(pairs).values()]
    return {name: found.count(name) / cells for name in set(found)}


@pytest.mark.parametrize(("sigma", "rho"), [(0.002, 0.0), (0.02, 0.0), (0.1, 0.0), (0.02, 0.7)])
def test_two_runs_of_the_same_code_do_not_differ(sigma, rho, record_property):
    shares = verdicts(1.0, sigma, rho)
    told = shares.get("faster", 0) + shares.get("slower", 0)
    record_property("A/A", f"noise {sigma}, ρ = {rho}: {100 * (1 - told):.1f} % same or undecided")
    assert told <= 0.01
    if sigma == 0.002:
        assert shares["same"] >= 0.99


@pytest.mark.parametrize(("sigma", "rho"), [(0.002, 0.0), (0.02, 0.0), (0.02, 0.7)])
def test_five_percent_slower_is_found(sigma, rho, record_property):
    shares = verdicts(1.05, sigma, rho)
    record_property("power", f"noise {sigma}, ρ = {rho}: {100 * shares.get('slower', 0):.1f} %")
    assert shares.get("slower", 0) >= 0.95
    assert "faster" not in shares


def test_one_slow_cell_among_many_is_found_alone():
    pairs = {str(n): (sampled(n, 0.01, 0), sampled(999 + n, 0.01, 0)) for n in range(60)}
    pairs["slow"] = (sampled(7, 0.01, 0), sampled(8, 0.01, 0, 1.05))
    pairs["fast"] = (sampled(7, 0.01, 0, 1.05), sampled(8, 0.01, 0))
    told = {name: each.verdict for name, each in changes(pairs).items()}
    found = {name: verdict for name, verdict in told.items() if verdict in ("slower", "faster")}
    assert found == {"slow": "slower", "fast": "faster"}


def test_few_samples_decide_nothing():
    (change,) = changes({"x": ([1.0] * 5, [2.0] * 5)}).values()
    assert (change.ratio, change.low, change.p, change.verdict) == (2.0, None, None, "undecided")


def test_exact_times_are_told_apart_at_the_margin():
    steady = {name: ([1.0] * 40, [x] * 40) for name, x in {"a": 1.0, "b": 1.005, "c": 1.02}.items()}
    assert [each.verdict for each in changes(steady).values()] == ["same", "same", "slower"]
    assert [each.verdict for each in changes(steady, 0.05).values()] == ["same"] * 3
    assert MARGIN == 0.01


def record(number: int, samples: list[float], status: str = "ok") -> Record:
    return Record(
        suite="speed",
        problem=f"rule=sum phi=relu norm=l2 B=1 T={number + 1} H=1 K=4 V=4 dtype=fp32 "
        "direction=forward",
        implementation="chunked", origin="in-tree", device="made-up", seed=0, status=status,
        metrics={"time": Measurement(value=samples[0], unit="s")},
        samples={"time": list(samples)}, detail={"domain": "device", "cache": "cold"},
    )  # fmt: skip


def run_folder(path: Path, records: list[Record], **environment: object) -> str:
    path.mkdir()
    (path / "plan.json").write_text("{}")
    facts = {"device": "made-up", "torch": "9.9", "commit": "abc"} | environment
    (path / "environment.json").write_text(json.dumps(facts))
    (path / "records.jsonl").write_text("".join(f"{to_line(each)}\n" for each in records))
    return str(path)


@pytest.fixture
def runs(tmp_path: Path) -> tuple[str, str]:
    before = [record(n, [1.0] * 20) for n in range(4)]
    after = [record(0, [1.0] * 20), record(1, [1.3] * 20), record(2, [0.5] * 3)]
    after.append(record(3, [1.0] * 20, status="incorrect"))
    return run_folder(tmp_path / "a", before), run_folder(tmp_path / "b", after)


def test_the_command_tells_each_cell(runs, capsys):
    assert main(["compare", *runs]) == 0
    out, err = capsys.readouterr()
    assert "1 slower, 0 faster, 1 same, 1 undecided" in out
    assert "1.300" in out
    assert "too few samples" in out
    assert "fwpbench:1|domain=device|cache=cold|dtype=fp32|device=made-up" in out
    assert "left out: 1 (ok before, incorrect after)" in err


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ([], 0),
        (["--fail-on", "slower"], 1),
        (["--fail-on", "undecided"], 3),
        (["--fail-on", "undecided", "--fail-on", "slower"], 1),
        (["--fail-on", "slower", "--where", "T=1"], 0),
        (["--fail-on", "slower", "--margin", "0.4"], 0),
        (["--fail-on", "better"], 2),
        (["--margin", "3"], 2),
        (["--where", "T=77"], 2),
        (["--metric", "joy"], 2),
    ],
)
def test_exit_codes(runs, asked, code, capsys):
    try:
        found = main(["compare", *runs, *asked])
    except SystemExit as stop:
        found = stop.code
    assert found == code


def test_the_noise_of_a_machine_widens_the_margin(runs, tmp_path, capsys):
    noisy_run = run_folder(tmp_path / "c", [record(1, [1.3] * 20)], **{"A/A noise": 0.5})
    assert main(["compare", runs[0], noisy_run, "--fail-on", "slower"]) == 0
    assert "margin 50 %" in capsys.readouterr().out


def test_another_machine_has_ratios_and_no_verdict(runs, tmp_path, capsys):
    other = run_folder(tmp_path / "c", [record(1, [1.3] * 20)], device="another")
    assert main(["compare", runs[0], other, "--fail-on", "slower"]) == 0
    assert "no verdict" in capsys.readouterr().out
    assert main(["compare", runs[0], other, "--json"]) == 0
    (cell,) = json.loads(capsys.readouterr().out)["cells"]
    assert (cell["verdict"], round(cell["ratio"], 9)) == (None, 1.3)


def test_other_protocols_are_not_compared(runs, tmp_path, capsys):
    other = run_folder(tmp_path / "c", [replace(record(1, [1.3] * 20), protocol=99)])
    assert main(["compare", runs[0], other]) == 2
    assert "protocol" in capsys.readouterr().err


def test_a_time_that_is_missing_or_wrong_is_no_sample():
    assert samples_of(record(0, [1.0, 2.0]), "time") == [1.0, 2.0]
    assert samples_of(record(0, [1.0], status="incorrect"), "time") is None
    assert samples_of(replace(record(0, [1.0]), samples={"time": [1.0, None]}), "time") is None
    assert samples_of(record(0, [1.0]), "joy") is None


@pytest.mark.parametrize("seed", range(20))
def test_a_signature_is_read_back(seed):
    chance = random.Random(seed)
    said = {name: "".join(chance.choices("a1 .+é", k=6)) for name in ("device", "torch", "commit")}
    text = signature(record(0, [1.0]), said)
    protocol, facts = parse(text)
    assert protocol == record(0, [1.0]).protocol
    assert facts == {"domain": "device", "cache": "cold", "dtype": "fp32", **said}


def test_what_would_break_a_signature_is_left_out_of_it():
    text = signature(record(0, [1.0]), {"device": "a|b=c", "commit": "abc", "dirty": True})
    assert parse(text)[1]["device"] == "a b c"
    assert parse(text)[1]["commit"] == "abc+changes"


@pytest.mark.parametrize("text", ["", "fwpbench", "other:1|a=b", "fwpbench:1|ab", "fwpbench:x|a=b"])
def test_what_is_no_signature_is_refused(text):
    with pytest.raises(UserError, match="no signature"):
        parse(text)
