"""What asv follows across commits: the cases of the speed suite's quick profile, on the CPU.

There is no list here: a case or an implementation that FWPBench gains is followed at once.
"""

from __future__ import annotations

from fwpbench.harness.device import CpuDevice
from fwpbench.harness.profiles import PROFILES
from fwpbench.harness.suite import Setting
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.suites import SUITES
from fwpbench.suites.timed import make_call

SETTING = Setting(CpuDevice(), PROFILES["quick"], seed=0)
CASES = {str(case.problem): case for case in SUITES["speed"].cases(SETTING.profile)}


class Call:
    """Seconds and bytes: asv takes every number for one that should fall."""

    param_names = ("problem", "implementation")
    params = (list(CASES), list(IMPLEMENTATIONS))

    def setup(self, problem: str, implementation: str) -> None:
        case, runner = CASES[problem], IMPLEMENTATIONS[implementation]
        if reason := case.excluded.get(implementation) or runner.refuses(case.problem):
            raise NotImplementedError(reason)
        self.call = make_call(case.problem, runner, SETTING)

    def time_call(self, problem: str, implementation: str) -> None:
        self.call()

    def track_peak_memory(self, problem: str, implementation: str) -> int:
        return SETTING.device.memory(self.call)

    track_peak_memory.unit = "B"
