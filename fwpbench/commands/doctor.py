"""fwpbench doctor: can this machine's numbers be trusted, and why not?"""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import asdict

from fwpbench.commands.selection import make_setting
from fwpbench.harness.doctor import MEANINGS, examine, grade
from fwpbench.harness.probe import MachineProbe


def main(arguments: Namespace) -> int:
    device = make_setting(arguments.device, None, None).device
    findings = examine(MachineProbe(device))
    given = grade(findings)
    if arguments.json:
        print(
            json.dumps(
                {
                    "device": device.name,
                    "grade": given,
                    "findings": [asdict(finding) for finding in findings],
                }
            )
        )
    else:
        print(f"{device.name} ({device.kind})")
        for finding in findings:
            print(f"  {finding.verdict:8} {finding.check}: {finding.said}")
            if finding.advice:
                print(f"           → {finding.advice}")
        print(f"grade {given}: {MEANINGS[given]}")
    return 0 if given != "C" else 1
