"""Suites whose cases take long and tell how far they are; a worker finds them in SUITES."""

from __future__ import annotations

import time

from fwpbench.harness.suite import Answer, Case, Setting, Suite
from fwpbench.implementations.base import Implementation

STEPS, PAUSE = 8, 0.2


def tell(case: Case, implementation: Implementation, setting: Setting) -> Answer:
    for step in range(STEPS):
        time.sleep(PAUSE)
        setting.tell(step + 1, STEPS, "at work")
    return Answer(
        detail={
            "task": setting.task,
            "checkpoints": str(setting.checkpoints),
            "data_dir": str(setting.data_dir),
            "data": list(setting.profile.data),
        }
    )


def fall_silent(case: Case, implementation: Implementation, setting: Setting) -> Answer:
    setting.tell(1, STEPS, "at work")
    time.sleep(600)
    return Answer()


SUITES = {
    "tells": Suite("", lambda profile: [], tell, {}),
    "falls-silent": Suite("", lambda profile: [], fall_silent, {}),
}
