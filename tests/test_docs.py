"""What the documentation tells people to type works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from fwpbench import cli

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def blocks(language: str) -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for number, code in enumerate(re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)):
            found.append((f"{page.name}-{number}", code))
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A small run, for the blocks that read one."""
    path = tmp_path_factory.mktemp("runs") / "run"
    where = "rule=sum phi=elu+1 T<=256 direction=forward"
    assert cli.main(["run", "speed", "--where", where, "--output", str(path), "--json"]) == 0
    return path


@pytest.mark.parametrize("code", [code for _, code in blocks("python")],
                         ids=[name for name, _ in blocks("python")])  # fmt: skip
def test_python_runs(code, run, capsys):
    exec(compile(code, "example", "exec"), {"RUN": run})
    if "my_linear_attention" in code:
        assert capsys.readouterr().out.startswith("ok\n")


@pytest.mark.parametrize("code", [code for _, code in blocks("sh")],
                         ids=[name for name, _ in blocks("sh")])  # fmt: skip
def test_commands_exist(code):
    """fwpbench's words are parsed, make's targets looked up; the rest is git's and pip's."""
    for line in code.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["fwpbench"]:
            cli.make_parser().parse_args(words[1:])
        elif words[:1] == ["make"]:
            assert set(words[1:2]) <= TARGETS


def test_the_workflow_types_what_is_there():
    yaml = pytest.importorskip("yaml")
    said = yaml.safe_load((ROOT / ".github/workflows/pages.yml").read_text(encoding="utf-8"))
    steps = [step["run"] for job in said["jobs"].values() for step in job["steps"] if "run" in step]
    commands = [shlex.split(step) for step in steps if step.startswith("fwpbench")]
    made = [shlex.split(line) for line in re.findall(
        r"\$\(BIN\)/(fwpbench (?:submit|report).*)", (ROOT / "Makefile").read_text())]  # fmt: skip
    assert commands == made, "`make site` makes what is published"
    for words in commands:
        cli.make_parser().parse_args(words[1:])


def test_links_inside_the_project_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_no_page_names_an_option_that_is_not_there():
    programs = [*(ROOT / "fwpbench").glob("arguments/*.py"), ROOT / "tests" / "compile_all.py"]
    known = {
        option
        for program in programs
        for option in re.findall(r"--[a-z-]+", program.read_text(encoding="utf-8"))
    }
    foreign = {"--no-deps", "--no-build-isolation", "--global", "--yes", "--quick"}
    for page in PAGES:
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page.read_text(encoding="utf-8")))
        assert named - foreign <= known, page.name
