"""What `run` and `check` share: which suites, implementations and device were asked for."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from fwpbench.harness.device import DEVICES, best_device
from fwpbench.harness.device_lock import Locked
from fwpbench.harness.domains import asked_domains
from fwpbench.harness.engine import Executor, InProcess, Log, Several
from fwpbench.harness.isolation import Isolated
from fwpbench.harness.pool import Pool
from fwpbench.harness.processes import Repeated
from fwpbench.harness.profiles import PROFILES
from fwpbench.harness.suite import Setting, Suite
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.operators import INPUT_FAMILIES
from fwpbench.operators.errors import UserError, unknown
from fwpbench.operators.registry import Registry, Unloadable
from fwpbench.plugins import shown
from fwpbench.suites import SUITES
from fwpbench.suites.data_sets import check_data, data_folder

Row = TypeVar("Row")
LOAD_PLUGINS = "fwpbench.plugins:load_plugins"


def chosen_suites(names: Iterable[str]) -> dict[str, Suite]:
    """Those asked for; by default all, less the plugins' that cannot be imported.

    What a plugin should have added to every suite and cannot, an input family, is said here too.
    """
    for name in INPUT_FAMILIES:
        _loaded(INPUT_FAMILIES, name)
    if asked := list(names):
        return {name: SUITES[name] for name in _known(asked, SUITES)}
    loaded = {name: _loaded(SUITES, name) for name in SUITES}
    return {name: suite for name, suite in loaded.items() if suite is not None}


def _loaded(table: Registry[Row], name: str) -> Row | None:
    """The row, or None, and why on stderr, where it cannot be loaded."""
    try:
        return table[name]
    except Unloadable as error:
        print(f"fwpbench: left out: {error}", file=sys.stderr)
        return None


def chosen_implementations(words: str | None) -> list[str]:
    """In the order of the table, whatever order they were asked in."""
    if words is None:
        return list(IMPLEMENTATIONS)
    asked = [word.strip() for word in words.split(",") if word.strip()]
    if not asked:
        raise UserError("--implementations needs a name; known: " + ", ".join(IMPLEMENTATIONS))
    return _known(asked, IMPLEMENTATIONS)


def _known(names: list[str], table: Registry[Any]) -> list[str]:
    for name in names:
        if name not in list(table):
            raise UserError(unknown(table.kind, name, table))
    return [name for name in table if name in names]


#: Where workers find the tables, and who adds the plugins' rows to them.
TABLES = "fwpbench.suites:SUITES"


def executor(
    here: Setting, log: Log | None = None, limit: float | None = None, workers: int = 1
) -> Executor | Several:
    """Where implementations run: in processes of their own, wherever there are POSIX processes.

    `workers` for each GPU that is seen here, or in all.
    """
    if os.name != "posix":
        return InProcess(SUITES, here, log)
    timed = timed_suites()
    gpus = visible_gpus() if here.device.kind == "cuda" else []

    beside = max(1, len(gpus)) * workers - 1

    def station(device: str, visible: str | None = None) -> Executor:
        isolated = Isolated(TABLES, here, log, limit, LOAD_PLUGINS, visible, beside)
        repeated = Repeated(isolated, timed, here.profile.processes)
        return Locked(repeated, device, timed, here)

    stations = [partial(station, "-".join([here.device.kind, *gpus]))]
    if len(gpus) > 1:
        stations = [partial(station, f"cuda-{gpu}", gpu) for gpu in gpus]
    return Pool(stations * workers) if beside else stations[0]()


def check_workers(workers: int, suites: Mapping[str, Suite]) -> None:
    """Raises UserError where one of several would disturb what another measures."""
    if alone := [name for name, suite in suites.items() if workers > 1 and not suite.side_by_side]:
        together = ", ".join(name for name in SUITES if name not in alone and _side_by_side(name))
        raise UserError(
            f"--workers {workers}: {', '.join(alone)} must have the device alone. Several at once "
            f"may ask {together}: name those, and ask the others in a run of their own"
        )


def _side_by_side(name: str) -> bool:
    with suppress(Unloadable):
        return SUITES[name].side_by_side
    return False


def executor_on_ray(
    here: Setting, log: Log | None, limit: float | None, address: str | None
) -> Several:
    """Where they run with --executor ray. Raises UserError where Ray is not installed."""
    from fwpbench.harness.ray_pool import RayPool

    return RayPool(TABLES, here, log, limit, LOAD_PLUGINS, address, timed_suites())


def timed_suites() -> frozenset[str]:
    """Those whose cases are timed, of those that can be loaded."""
    loaded = {}
    for name in SUITES:
        with suppress(Unloadable):
            loaded[name] = SUITES[name]
    return frozenset(name for name, suite in loaded.items() if "time" in suite.metrics)


def visible_gpus() -> list[str]:
    """As CUDA_VISIBLE_DEVICES names them."""
    asked = os.environ.get("CUDA_VISIBLE_DEVICES")
    if asked is not None:
        return [each.strip() for each in asked.split(",") if each.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def setting(arguments: Namespace) -> Setting:
    return make_setting(
        arguments.device, arguments.profile, arguments.seed, shown(arguments.plugin)
    )


def with_processes(here: Setting, processes: int | None) -> Setting:
    """The same, with each timed case in so many processes; None: as the profile has it."""
    if processes is None:
        return here
    return replace(here, profile=replace(here.profile, processes=processes))


def with_data(
    here: Setting, names: Iterable[str], folder: str | None, suites: Mapping[str, Suite]
) -> Setting:
    """The same, with data sets that are asked for and lie in this folder."""
    asked, data_dir = tuple(dict.fromkeys(names)), data_folder(folder)
    known = dict.fromkeys(name for suite in suites.values() for name in suite.data)
    check_data(asked, list(known), data_dir)
    return replace(here, profile=replace(here.profile, data=asked), data_dir=data_dir)


def with_domains(here: Setting, names: Iterable[str]) -> Setting:
    """The same, with domains to be timed besides the default; in the full profile, all."""
    asked = list(names) or (["all"] if here.profile.name == "full" else [])
    return replace(here, profile=replace(here.profile, domains=asked_domains(here.device, asked)))


def make_setting(
    device: str | None, profile: str | None, seed: int | None, plugins: tuple[str, ...] = ()
) -> Setting:
    """What is None has its default: the best device here, quick, 0."""
    device, profile, seed = device or best_device(), profile or "quick", seed or 0
    if profile not in PROFILES:
        raise UserError(unknown("profile", profile, PROFILES))
    if device not in DEVICES:
        raise UserError(unknown("device", device, DEVICES))
    if not 0 <= seed < 2**63:
        raise UserError(f"--seed must be at least 0 and below 2**63, got {seed}")
    return Setting(DEVICES[device](), PROFILES[profile], seed, plugins, LOAD_PLUGINS)
