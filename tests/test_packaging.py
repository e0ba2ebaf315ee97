"""What is installed is what is in the tree, at versions that fit together."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import fwpbench

ROOT = Path(__file__).parent.parent
LINKS = ["harness", "implementations", "reports", "suites"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


# Links


@pytest.mark.parametrize("name", LINKS)
def test_links_are_relative(name: str) -> None:
    link = ROOT / "fwpbench" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..") / name


def test_a_link_that_came_out_as_a_text_file_is_explained(tmp_path: Path) -> None:
    package = tmp_path / "fwpbench"
    package.mkdir()
    shutil.copy(ROOT / "fwpbench/__init__.py", package)
    for name in LINKS:
        (package / name).write_text(f"../{name}", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", "import fwpbench"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    last_line = done.stderr.strip().splitlines()[-1]
    assert last_line.startswith("ImportError: ")
    assert "core.symlinks true" in last_line


# Versions


def test_the_citation_is_of_this_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {fwpbench.__version__}\n" in citation


def requirements(extra: str = "") -> Iterator[Requirement]:
    extras = PROJECT["optional-dependencies"]
    for line in extras[extra] if extra else PROJECT["dependencies"]:
        yield Requirement(line)


def pins() -> dict[str, Version]:
    found = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            (specifier,) = pin.specifier
            assert specifier.operator == "==", f"{line!r} is no pin"
            found[canonicalize_name(pin.name)] = Version(specifier.version)
    return found


@pytest.mark.parametrize("extra", ["", *PROJECT["optional-dependencies"]])
def test_every_dependency_has_a_lower_bound_and_a_pin_above_it(extra: str) -> None:
    for requirement in requirements(extra):
        if requirement.name == "fwpbench":
            assert requirement.extras <= PROJECT["optional-dependencies"].keys()
            continue
        assert [bound.operator for bound in requirement.specifier] == [">="], requirement
        pin = pins().get(canonicalize_name(requirement.name))
        assert pin, f"constraints.txt has no pin of {requirement.name}"
        assert requirement.specifier.contains(pin), f"{requirement} but {pin} in constraints.txt"


def test_the_triton_pin_is_the_one_torch_demands() -> None:
    demanded = [Requirement(line) for line in metadata.requires("torch") or []]
    triton = [each for each in demanded if each.name == "triton"]
    if not triton:
        pytest.skip("this torch is built for the CPU and demands no Triton")
    if Version(metadata.version("torch")).public != str(pins()["torch"]):
        pytest.skip("another torch is installed than the one in constraints.txt")
    assert all(each.specifier.contains(pins()["triton"]) for each in triton)


def test_all_has_every_extra() -> None:
    (everything,) = requirements("all")
    assert everything.extras == PROJECT["optional-dependencies"].keys() - {"all"}


# Builds


def package_files() -> set[str]:
    """Every file of the import package, as it is seen through the links."""
    return {
        str(Path(folder, file).relative_to(ROOT))
        for folder, _, files in os.walk(ROOT / "fwpbench", followlinks=True)
        for file in files
        if not file.endswith(".pyc")
    }


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to build in: a build leaves files behind, and what an earlier one left is not ours."""
    copy = tmp_path_factory.mktemp("build") / "tree"
    for name in ["fwpbench", *LINKS]:
        shutil.copytree(
            ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ["pyproject.toml", "README.md", "LICENSE"]:
        shutil.copy(ROOT / name, copy)
    return copy


def wheel_files(tree: Path, out: Path) -> list[str]:
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    run(*pip, "--wheel-dir", out, ".", cwd=tree)
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return [name for name in archive.namelist() if ".dist-info/" not in name]


def test_the_wheel_has_each_file_of_the_package_once_and_nothing_else(
    tree: Path, tmp_path: Path
) -> None:
    assert sorted(wheel_files(tree, tmp_path)) == sorted(package_files())


def test_the_sdist_makes_the_same_wheel(tree: Path, tmp_path: Path) -> None:
    build = f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})"
    run(sys.executable, "-c", build, cwd=tree)
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.glob("fwpbench-*/")
    assert sorted(wheel_files(unpacked, tmp_path)) == sorted(package_files())


# Tools beside the package


def test_asv_finds_the_benchmarks(tmp_path: Path) -> None:
    asv = [sys.executable, "-m", "asv"]
    home = {"HOME": str(tmp_path), "ASV_PYTHONPATH": str(ROOT)}  # asv drops PYTHONPATH
    run(*asv, "machine", "--yes", cwd=ROOT, **home)
    run(*asv, "check", "-E", f"existing:{sys.executable}", cwd=ROOT, **home)


@pytest.mark.skipif(not find_spec("beartype"), reason="beartype is not installed")
@pytest.mark.parametrize(
    "module",
    [
        "fwpbench.operators",
        "fwpbench.implementations.base",
        "fwpbench.implementations.chunked",
        "fwpbench.implementations.triton_kernels.plan",
    ],
)
def test_shapes_are_checked_while_testing(module: str) -> None:
    loader = import_module(module).__loader__
    assert type(loader).__module__.startswith("jaxtyping"), f"{module} was imported too early"
