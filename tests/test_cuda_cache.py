"""What was compiled is compiled once, whatever becomes of the files."""

from __future__ import annotations

import re
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from fwpbench.harness.compilations import compilations
from fwpbench.implementations.cuda_kernels import cache

PARTS = ("a compiler", "a source", "sm_90a")


class Compiler:
    def __init__(self, code: bytes = b"machine code") -> None:
        self.code, self.calls = code, 0

    def __call__(self) -> bytes:
        self.calls += 1
        return self.code


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FWPBENCH_CACHE", str(tmp_path / "kept"))
    cache._own_folder.cache_clear()
    cache._say_once.cache_clear()
    yield tmp_path / "kept"
    cache._own_folder.cache_clear()


def test_it_is_compiled_once(folder):
    compiler = Compiler()
    first, again = (cache.kept(PARTS, ".cubin", compiler) for _ in range(2))
    assert first == again
    assert first.parent == folder
    assert cache.payload(first) == b"machine code"
    assert compiler.calls == 1


@pytest.mark.parametrize("other", [("newer", *PARTS[1:]), (*PARTS[:2], "sm_100"), PARTS[:2]])
def test_other_compilers_sources_and_architectures_have_their_own(folder, other):
    first = cache.kept(PARTS, ".cubin", Compiler())
    assert cache.kept(other, ".cubin", Compiler(b"other")) != first
    assert cache.payload(first) == b"machine code"


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: b"x" + b[1:]])
def test_a_damaged_file_is_compiled_again_and_that_is_said(folder, damage):
    compiler = Compiler()
    path = cache.kept(PARTS, ".cubin", compiler)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(RuntimeWarning, match=r"is damaged: compiled again"):
        path = cache.kept(PARTS, ".cubin", compiler)
    assert compiler.calls == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.payload(cache.kept(PARTS, ".cubin", compiler)) == b"machine code"
    assert compiler.calls == 2


def test_where_nothing_can_be_written_it_is_kept_for_the_process_and_said_once(folder):
    folder.write_text("a file where a folder should be")
    compiler = Compiler()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        paths = {cache.kept(PARTS, ".cubin", compiler) for _ in range(3)}
        cache.kept(("another",), ".cubin", Compiler())
    (warning,) = said
    assert re.search(r"nothing can be kept in .*kept \(.+\)", str(warning.message))
    assert compiler.calls == 1
    assert [cache.payload(path) for path in paths] == [b"machine code"]


def test_many_at_once_leave_one_whole_file(folder):
    compiler = Compiler(b"long " * 10_000)
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda _: cache.kept(PARTS, ".so", compiler), range(32)))
    assert [path.name for path in folder.iterdir()] == [path.name for path in paths]
    assert cache.payload(paths.pop()) == compiler.code


def test_the_sources_are_part_of_what_it_is_named_after(tmp_path, monkeypatch):
    from fwpbench.implementations.cuda_kernels import sources

    before = sources.digest_of_sources()
    for path in sources.FOLDER.glob("*.cu*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(sources, "FOLDER", tmp_path)
    same = sources.digest_of_sources()
    with (tmp_path / "features.cuh").open("a") as file:
        file.write("// another\n")
    assert len({before, same, sources.digest_of_sources()}) == 3


def test_the_harness_is_told_how_much_was_compiled(folder):
    before = compilations()
    for code in (b"one", b"one", b"two"):
        cache.kept((code.decode(),), ".cubin", Compiler(code))
    assert compilations() - before == 2
