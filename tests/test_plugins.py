"""What others add: a file or a package gives rows, and one that fails costs its row and no more."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import fwpbench
from fwpbench.arguments.listing import KINDS
from fwpbench.cli import main
from fwpbench.commands import run
from fwpbench.harness.engine import InProcess
from fwpbench.harness.run_folder import read_run
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.operators import FEATURE_MAPS, INPUT_FAMILIES, UPDATE_RULES
from fwpbench.operators.operator import enumerate_operators
from fwpbench.operators.problem import Problem
from fwpbench.operators.registry import Registry
from fwpbench.plugins import TABLES
from fwpbench.suites import SUITES

MINE = '''
import torch
import fwpbench


def square(x):
    """φ(x) = x²"""
    return x.square()


def leaky(S, k, v):
    """S ← S/2 + k vᵀ"""
    return S / 2 + k[..., :, None] * v[..., None, :]


def run(problem, inputs):
    """The sum rule without normalisation, in its quadratic form, from an empty state."""
    q, k, v = inputs.q ** 2, inputs.k ** 2, inputs.v
    scores = torch.einsum("bthk,bshk->bhts", q, k).tril()
    o = torch.einsum("bhts,bshv->bthv", scores, v)
    S = torch.einsum("bthk,bthv->bhkv", k, v)
    if inputs.state is not None:
        o, S = o + torch.einsum("bthk,bhkv->bthv", q, inputs.state.S), S + inputs.state.S
    return fwpbench.Output(o, fwpbench.State(S) if problem.state_out else None)


def cannot(problem):
    mine = (problem.rule, problem.phi, problem.norm) == ("sum", "square", "none")
    return None if mine else "only sum of squares"


def ask(case, implementation, setting):
    time = fwpbench.Measurement(value=1.0, unit="s")
    return fwpbench.Answer(metrics={"time": time})


FEATURE_MAPS = {
    "square": fwpbench.FeatureMap(square, nonnegative=True),
    "power-N": fwpbench.Family(lambda n: fwpbench.FeatureMap(lambda x: x**n), shown=(3,)),
}
UPDATE_RULES = {"leaky": fwpbench.UpdateRule(leaky)}
IMPLEMENTATIONS = {"mine": fwpbench.Implementation(run, "the quadratic form", cannot=cannot)}
SUITES = {
    "one": fwpbench.Suite(
        "Does it answer?",
        lambda profile: [fwpbench.Case(fwpbench.Problem.parse(
            "rule=sum phi=square norm=none B=1 T=8 H=1 K=4 V=4 dtype=fp32 direction=forward"
        ))],
        ask,
        {"time": fwpbench.Metric("s", "lower", "of the call")},
    )
}
'''
SQUARE = ["agreement", "--where", "phi=square norm=none rule=sum,leaky", "--device", "cpu"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where mine.py is; the tables are afterwards what they were."""
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    (tmp_path / "broken.py").write_text("x = 1\nx / 0\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    before = {name: table.rows() for name, table in TABLES.items()}
    yield tmp_path
    assert {name: table.rows() for name, table in TABLES.items()} == before


def records(run: str) -> dict[tuple[str, str], list[str]]:
    """The statuses by implementation and rule."""
    found: dict[tuple[str, str], list[str]] = {}
    for record in read_run(Path(run)).records:
        rule = Problem.parse(record.problem.replace("phi=square", "phi=relu").replace(
            "rule=leaky", "rule=decay")).rule  # fmt: skip
        found.setdefault((record.implementation, rule), []).append(record.status)
    return found


def test_what_a_file_adds_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    names = {"feature-maps": "square power-3", "update-rules": "leaky", "implementations": "mine",
             "suites": "one"}  # fmt: skip
    for kind, wanted in names.items():
        assert main(["list", kind, "--plugin", "mine.py", "--json"]) == 0
        rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
        assert rows.keys() > {*wanted.split()}
        if kind == "implementations":
            assert rows["mine"]["origin"] == "third-party"
        if kind == "feature-maps":
            assert rows["square"]["formula"] == "φ(x) = x²"
    assert main(["list", "--names", "--plugin", "mine.py"]) == 0
    out = capsys.readouterr().out
    assert " square power-N\n" in out
    assert main(["list", "problems", "--plugin", "mine.py", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    (row,) = [row for row in rows if row["implementations"]["mine"] == "yes"]
    assert (row["rule"], row["phi"], row["norm"]) == ("sum", "square", "none")


def test_what_a_file_adds_is_judged_by_everybody_and_everybody_by_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["run", *SQUARE, "--plugin", "mine.py", "--output", "run", "--json"]) == 0
    made = records("run")
    assert set(made["mine", "sum"]) == set(made["chunked", "sum"]) == {"ok", "unsupported"} or set(
        made["mine", "sum"]
    ) == {"ok"}
    assert set(made["reference", "decay"]) == {"ok"}, "the rule of the file, by its law"
    assert set(made["chunked", "decay"]) == {"unsupported"}
    plan = json.loads(Path("run/plan.json").read_text(encoding="utf-8"))
    (plugin,) = plan["plugins"]
    assert plugin["path"] == "mine.py"
    assert len(plugin["sha256"]) == 64


def test_the_command_of_a_record_carries_the_plugin(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--implementations", "mine", "--plugin", "mine.py", "--output", "run", "--json"]
    assert main(["run", *SQUARE, *words]) == 0
    wanted = read_run(Path("run")).records[0]
    command = shlex.split(wanted.command)
    assert command[-2:] == ["--plugin", "mine.py"]
    assert main([*command[1:], "--output", "again", "--json"]) == 0
    (again,) = read_run(Path("again")).records
    assert (again.key, again.command) == (wanted.key, wanted.command)
    assert again.metrics == wanted.metrics


def test_a_suite_of_a_file_is_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "one", "--plugin", "mine.py", "--output", "run", "--json"]) == 0
    assert {record.suite for record in read_run(Path("run")).records} == {"one"}
    assert main(["check", "--plugin", "mine.py", *SQUARE[1:]]) == 0
    assert "mine" in capsys.readouterr().out


@pytest.fixture
def unfinished(folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A run of the plugin whose second half is missing."""
    words = ["--implementations", "mine", "--plugin", "mine.py", "--output", "run", "--json"]
    assert main(["run", *SQUARE, *words]) == 0
    lines = (folder / "run/records.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "run/records.jsonl").write_bytes(b"".join(lines[: len(lines) // 2]))
    capsys.readouterr()
    return folder / "run"


def test_a_resumed_run_loads_its_plugins_again(unfinished: Path) -> None:
    assert main(["run", "--resume", "run", "--json"]) == 0
    run = read_run(unfinished)
    assert [record.key for record in run.records] == run.plan["cases"]


def test_a_resumed_run_refuses_a_plugin_that_changed(
    unfinished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("mine.py", "a", encoding="utf-8") as file:
        file.write("# better\n")
    assert main(["run", "--resume", "run"]) == 2
    assert "the plugin mine.py is not what it was when this run was" in capsys.readouterr().err
    Path("mine.py").unlink()
    assert main(["run", "--resume", "run"]) == 2
    assert "there is no file mine.py" in capsys.readouterr().err
    assert main(["run", "--resume", "run", "--plugin", "broken.py"]) == 2
    assert "leave --plugin out" in capsys.readouterr().err
    plan = json.loads((unfinished / "plan.json").read_text(encoding="utf-8"))
    (unfinished / "plan.json").write_text(json.dumps(plan | {"plugins": [3]}), encoding="utf-8")
    assert main(["run", "--resume", "run"]) == 2
    assert "plan.json is damaged: it names the plugin 3" in capsys.readouterr().err


# What fails


def test_a_file_that_raises_costs_one_row(capsys: pytest.CaptureFixture[str]) -> None:
    sentence = "broken.py, line 2: ZeroDivisionError: division by zero"
    where = ["--where", "rule=sum phi=relu norm=l2", "--device", "cpu"]
    plugin = ["--plugin", "broken.py"]
    assert main(["run", "agreement", *where, *plugin, "--output", "run", "--json"]) == 0
    assert f"--plugin {sentence}; nothing of it is there" in capsys.readouterr().err
    made = records("run")
    assert {*made["broken.py", "sum"]} == {"missing"}
    assert {*made["reference", "sum"]} == {"ok"}
    missing = [r for r in read_run(Path("run")).records if r.implementation == "broken.py"]
    assert sentence in missing[0].reason
    assert main(["list", "implementations", *plugin]) == 0
    assert sentence in capsys.readouterr().out
    assert main(["list", "problems", *plugin]) == 0


SAID = {
    "a name of ours": ("clash.py", "named 'chunked': fwpbench.implementations.chunked:IMPL"),
    "a name of another file": ("copy.py", "are named 'square': mine.py and copy.py; rename one"),
    "a member of a family": ("dpfp.py", "feature maps are named 'dpfp-9': fwpbench.operators.feat"),
    "nothing": ("nothing.py", "nothing.py offers nothing: it should define one of FEATURE_MAPS, "),
    "no dict": ("list.py", "list.py: IMPLEMENTATIONS should be a dict from names to objects"),
    "no word": ("words.py", "IMPLEMENTATIONS has 'two words'; names are words"),
    "a family in lower case": ("family.py", "'powers' is a Family"),
    "no file": ("absent.py", "there is no file absent.py. Python files beside it: broken.py, "),
}
FILES = {
    "clash.py": "IMPLEMENTATIONS = {'chunked': 1}",
    "copy.py": MINE,
    "dpfp.py": "FEATURE_MAPS = {'dpfp-9': 1}",
    "nothing.py": "implementations = {}",
    "list.py": "IMPLEMENTATIONS = [1]",
    "words.py": "IMPLEMENTATIONS = {'two words': 1}",
    "family.py": "import fwpbench\nFEATURE_MAPS = {'powers': fwpbench.Family(str, (1,))}",
}


@pytest.mark.parametrize("name", SAID)
@pytest.mark.parametrize("command", [["list", "suites"], ["run", "--dry-run"]], ids=str)
def test_a_file_that_cannot_be_used_is_refused_in_a_sentence(
    name: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for file, text in FILES.items():
        Path(file).write_text(text, encoding="utf-8")
    file, sentence = SAID[name]
    assert main([*command, "--plugin", "mine.py", "--plugin", file]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert sentence in printed.err


def test_an_object_of_the_wrong_class_costs_its_row(capsys: pytest.CaptureFixture[str]) -> None:
    Path("wrong.py").write_text("IMPLEMENTATIONS = {'wrong': print}\nFEATURE_MAPS = {'x': 1}\n")
    assert main(["list", "implementations", "--plugin", "wrong.py"]) == 0
    assert "wrong.py should be of the class Implementation, not builtin" in capsys.readouterr().out
    assert main(["list", "problems", "--plugin", "wrong.py"]) == 0
    assert "the feature map 'x' cannot be imported: wrong.py should be" in capsys.readouterr().out


#: How packages announce things; here as if an entry point had been read.
ANNOUNCED: dict[str, Registry] = {
    "implementation": IMPLEMENTATIONS,
    "feature map": FEATURE_MAPS,
    "update rule": UPDATE_RULES,
    "input family": INPUT_FAMILIES,
    "suite": SUITES,
}


@pytest.mark.parametrize("kind", ANNOUNCED)
def test_a_package_that_raises_costs_one_row(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(Path.cwd())
    sentence = f"the {kind} 'theirs' cannot be imported: ZeroDivisionError: division by zero"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ANNOUNCED[kind]._targets, "theirs", "broken:IT")
        # A worker would read the real entry points.
        patch.setattr(run, "executor", lambda here, log, *_: InProcess(SUITES, here, log))
        for listed in KINDS:
            assert main(["list", listed]) == 0
        assert sentence in capsys.readouterr().out
        where = ["--where", "rule=sum phi=relu norm=l2 direction=forward T<300"]
        output = ["--device", "cpu", "--output", "run", "--json"]
        assert main(["run", *(["agreement"] * (kind != "suite")), *where, *output]) == 0
        if kind == "suite":
            assert f"left out: {sentence}" in capsys.readouterr().err
            assert main(["run", "theirs", "--dry-run"]) == 2
        senseless = {reason for _, reason in enumerate_operators()[1]}
        assert (sentence in senseless) == (kind in ("feature map", "update rule"))
        choice = fwpbench.choose(Problem.parse(
            "rule=sum phi=relu norm=l2 B=1 T=8 H=1 K=4 V=4 dtype=fp32 direction=forward"
        ))  # fmt: skip
        assert choice.name == "chunked"
    missing = [r for r in read_run(Path("run")).records if r.status == "missing"]
    # Rows of kernels and of other libraries are missing where those, or a GPU, are.
    elsewhere = {"triton", "triton-tuned", "cuda", "torch-flex"}
    elsewhere |= {"fla-chunk", "fla-fused-chunk", "fla-recurrent"}
    assert {record.reason for record in missing if record.implementation not in elsewhere} == (
        {sentence} if kind == "implementation" else set()
    )


UNPLANNED = """
import fwpbench


def cases(profile):
    raise ZeroDivisionError("no cases")


SUITES = {"theirs": fwpbench.Suite("Does it plan?", cases, cases, {})}
"""


def test_a_suite_that_cannot_list_its_cases_costs_itself(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("theirs.py").write_text(UNPLANNED, encoding="utf-8")
    sentence = "the suite 'theirs' cannot list its cases: ZeroDivisionError: no cases"
    where = ["--where", "rule=sum phi=relu norm=l2 direction=forward T<300"]
    plugin = ["--plugin", "theirs.py", "--device", "cpu", "--output", "run", "--json"]
    assert main(["run", "agreement", "theirs", *where, *plugin]) == 0
    assert f"left out: {sentence}" in capsys.readouterr().err
    assert "ok" in {record.status for record in read_run(Path("run")).records}
    assert main(["run", "theirs", *plugin]) == 2
    assert f"nothing is left to run: {sentence}" in capsys.readouterr().err


@pytest.mark.parametrize("profile", ["quick", "standard"])
def test_an_input_family_that_cannot_be_loaded_costs_its_rows(
    profile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("theirs.py").write_text("INPUT_FAMILIES = {'theirs': 1}", encoding="utf-8")
    words = ["agreement", "--profile", profile, "--dry-run", "--plugin", "theirs.py"]
    assert main(["run", *words]) == 0
    printed = capsys.readouterr()
    assert "left out: the input family 'theirs' cannot be imported: theirs.py" in printed.err
    assert "inputs=realistic" in printed.out
    assert "inputs=theirs" not in printed.out
