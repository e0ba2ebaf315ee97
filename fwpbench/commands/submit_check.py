"""fwpbench submit-check: may this folder be published under results/?"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from fwpbench.harness.run_folder import count_lines
from fwpbench.harness.submission import faults_of
from fwpbench.operators.errors import UserError


def main(arguments: Namespace) -> int:
    found = 0
    for folder in map(Path, arguments.folders):
        mine = 0
        try:
            for fault in faults_of(folder):
                mine += 1
                print(f"{folder}/{fault}", flush=True)
        except ModuleNotFoundError as error:
            raise UserError(f"this needs {error.name}: pip install 'fwpbench[report]'") from None
        except OSError as error:
            raise UserError(
                f"{error.filename or folder} cannot be read: {error.strerror}"
            ) from None
        said = f"{mine} errors" if mine != 1 else "1 error"
        print(f"{folder}: {said if mine else f'{count_lines(folder)} records, ready to submit'}")
        found += mine
    return 1 if found else 0
