"""fwpbench report: a page, Markdown or a site from runs."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path

from fwpbench.harness.run_folder import Run, count_lines, read_run
from fwpbench.operators.errors import UserError


def main(arguments: Namespace) -> int:
    folders = [Path(path) for path in arguments.runs]
    _check(arguments)
    try:
        if arguments.site:
            return _site(folders, Path(arguments.site))
        runs = _read(folders)
        if arguments.markdown:
            return _print(runs)
        return _page(runs, Path(arguments.output or folders[0] / "report.html"), arguments.png)
    except ModuleNotFoundError as error:
        raise UserError(f"a report needs {error.name}: pip install 'fwpbench[report]'") from None


def _check(arguments: Namespace) -> None:
    given = [
        option for option in ("site", "markdown", "output", "png") if getattr(arguments, option)
    ]
    if len(given) > 1 and given != ["output", "png"]:
        raise UserError(f"--{given[0]} goes without --{given[1]}: leave one out")
    if arguments.output and Path(arguments.output).suffix == ".md":
        raise UserError(
            "--output names the page, as comparison.html; comparison.md comes beside it"
        )


def _read(folders: Sequence[Path]) -> list[Run]:
    from fwpbench.reports import too_many

    if complaint := too_many(sum(map(count_lines, folders))):
        raise UserError(complaint)
    return [read_run(folder) for folder in folders]


def _page(runs: Sequence[Run], output: Path, png: bool) -> int:
    from fwpbench.reports import build_report

    if not output.parent.is_dir():
        raise UserError(f"there is no folder {output.parent} to write {output.name} into")
    try:
        page = build_report(runs, output, png=png)
    except OSError as error:
        raise UserError(f"{output} cannot be written ({error.strerror})") from None
    _complain(line for run in runs for line in run.complaints)
    print(f"report: {page}")
    return 0


def _print(runs: Sequence[Run]) -> int:
    from fwpbench.reports import brief

    _complain(line for run in runs for line in run.complaints)
    print(brief(runs), end="")
    return 0


def _site(folders: Sequence[Path], output: Path) -> int:
    from fwpbench.reports import build_site

    try:
        page, complaints = build_site(folders, output)
    except OSError as error:
        raise UserError(
            f"{error.filename or output} cannot be written ({error.strerror})"
        ) from None
    _complain(complaints)
    print(f"site: {page}")
    return 0


def _complain(complaints: Iterable[str]) -> None:
    for complaint in complaints:
        print(f"not read: {complaint}", file=sys.stderr)
