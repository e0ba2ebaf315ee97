"""A Python file somebody names on the command line, imported once; what it raises is a sentence."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from fwpbench.operators.errors import UserError


def digest(path: Path) -> str:
    """The SHA-256 of the file. Raises UserError where there is no such file."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        near = ", ".join(sorted(file.name for file in path.parent.glob("*.py"))[:9])
        hint = f" Python files beside it: {near}" if near else ""
        raise UserError(f"there is no file {path}.{hint}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def load_file(path: Path) -> ModuleType:
    """The module that the file makes; the files beside it can be imported by it.

    Raises UserError where there is no such file, and ImportError, with the line, where it raises or
    changes what belongs to the whole process.
    """
    name = f"fwpbench_file_{digest(path)[:16]}"
    if name in sys.modules and sys.modules[name].__file__ == str(path.resolve()):
        return sys.modules[name]
    # At the end: what a script's own folder would hide, a benchmark's must not.
    if (folder := str(path.resolve().parent)) not in sys.path:
        sys.path.append(folder)
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is no Python file: its name should end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and torch.compile look for it there
    from fwpbench.harness.process_state import put_back, state

    before = state()
    try:
        try:
            spec.loader.exec_module(module)
        finally:
            changed = put_back(before)
        if changed is not None:
            raise RuntimeError(f"importing it changed {changed}: of all, not its own")
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ImportError(f"{place(error, path)}: {type(error).__name__}: {said(error)}") from error
    return module


def place(error: BaseException, path: Path) -> str:
    """`mine.py, line 7`: the last line of this file that the error went through."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(path.resolve())
    ]
    if isinstance(error, SyntaxError) and error.filename == str(path.resolve()):
        lines = [error.lineno]
    return f"{path}, line {lines[-1]}" if lines else str(path)


def said(error: BaseException) -> str:
    """The first line of what an error says."""
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return (message.strip().splitlines() or [""])[0]
