"""How long a run may take, and what becomes of the cases that it leaves."""

from __future__ import annotations

from datetime import UTC, datetime

from fwpbench.harness.engine import make_record
from fwpbench.harness.plan import Task
from fwpbench.harness.records import Record
from fwpbench.harness.statuses import SKIPPED
from fwpbench.harness.suite import Answer, Setting


class Budget:
    """`seconds` on the clock of the setting's device, from now on, less those `taken` before and
    those kept for what follows the last case. `resume` is the command that goes on afterwards."""

    def __init__(self, seconds: float, setting: Setting, resume: str, taken: float = 0.0):
        self.seconds, self.resume, self._setting = seconds, resume, setting
        self._end = setting.device.now() + seconds - taken

    def left(self) -> float:
        """Seconds; none or fewer where it is used up."""
        return self._end - self._setting.device.now()

    @property
    def reason(self) -> str:
        return f"the budget of {in_words(self.seconds)} was used up; go on with: {self.resume}"

    def skip(self, task: Task) -> Record:
        """The record of a task that was not begun."""
        # Its origin would be known by loading it: that may take as long as running it.
        answer = Answer(SKIPPED, self.reason)
        return make_record(task, self._setting, "unknown", answer, datetime.now(UTC), 0.0)


def in_words(seconds: float) -> str:
    """1 h 30 min."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min"), (rest, "s"))
    return " ".join(f"{number:g} {unit}" for number, unit in parts if number)
