"""What was compiled, kept on disk: a file for each, named after all that went into it.

Its last 32 bytes are the SHA-256 of the others. A file that does not match was cut short or
changed: it is compiled again and that is said. Where nothing can be written, a folder for this
process alone takes its place, and that is said once.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

DIGEST = 32
#: By this process, so far.
compilations = 0


def folder() -> Path:
    """FWPBENCH_CACHE, else fwpbench in the user's folder for caches."""
    if given := os.environ.get("FWPBENCH_CACHE"):
        return Path(given)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "fwpbench"


def kept(parts: tuple[str, ...], suffix: str, compiled: Callable[[], bytes]) -> Path:
    """The file that holds what `compiled()` gives, which is called only if there is none yet."""
    name = sha256("\0".join(parts).encode()).hexdigest()[:32] + suffix
    for place in dict.fromkeys((folder(), _own_folder_if_any())):
        if place is None or not (path := place / name).is_file():
            continue
        if _is_whole(path):
            return path
        warnings.warn(f"{path} is damaged: compiled again", RuntimeWarning, stacklevel=2)
    global compilations
    compilations += 1
    return _written(name, compiled())


def payload(path: Path) -> bytes:
    return path.read_bytes()[:-DIGEST]


def _is_whole(path: Path) -> bool:
    content = path.read_bytes()
    return sha256(content[:-DIGEST]).digest() == content[-DIGEST:]


def _written(name: str, content: bytes) -> Path:
    content += sha256(content).digest()
    try:
        return _put(folder(), name, content)
    except OSError as error:
        _say_once(
            f"nothing can be kept in {folder()} ({error.strerror}): compiled in every process"
        )
        return _put(_own_folder(), name, content)


def _put(place: Path, name: str, content: bytes) -> Path:
    """All at once, whoever else writes the same."""
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=place, delete=False) as file:
        file.write(content)
    os.replace(file.name, place / name)
    return place / name


@lru_cache(maxsize=1)
def _own_folder() -> Path:
    made = Path(tempfile.mkdtemp(prefix="fwpbench-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def _own_folder_if_any() -> Path | None:
    return _own_folder() if _own_folder.cache_info().currsize else None


@lru_cache(maxsize=8)
def _say_once(what: str) -> None:
    warnings.warn(what, RuntimeWarning, stacklevel=4)
