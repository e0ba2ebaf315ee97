"""fwpbench report: one self-contained page from runs."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from fwpbench.harness.run_folder import read_run
from fwpbench.operators.errors import UserError


def main(arguments: Namespace) -> int:
    from fwpbench.reports import build_report

    try:
        runs = [read_run(Path(path)) for path in arguments.runs]
        output = Path(arguments.output or Path(arguments.runs[0]) / "report.html")
        if not output.parent.is_dir():
            raise UserError(f"there is no folder {output.parent} to write {output.name} into")
        page = build_report(runs, output)
    except OSError as error:
        raise UserError(f"{output} cannot be written ({error.strerror})") from None
    except ModuleNotFoundError as error:
        raise UserError(f"a report needs {error.name}: pip install 'fwpbench[report]'") from None
    for complaint in [line for run in runs for line in run.complaints]:
        print(f"not read: {complaint}", file=sys.stderr)
    print(f"report: {page}")
    return 0
