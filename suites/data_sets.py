"""Data sets that are not part of this package: where their files lie, and that they are the ones.

They are read from a folder that the user names (`--data-dir` or FWPBENCH_DATA), one folder a data
set inside it, and every file is held against its SHA-256 before it is used: a number measured on
another text under the same name would be worse than none.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fwpbench.harness.profiles import Profile
from fwpbench.operators.errors import UserError, unknown

#: The environment variable that names the folder where --data-dir does not.
VARIABLE = "FWPBENCH_DATA"


@dataclass(frozen=True)
class DataSet:
    """`files` maps each file's path inside the data set's folder to its SHA-256."""

    summary: str
    source: str
    licence: str
    files: Mapping[str, str]


DATA_SETS = {
    "wikitext-2": DataSet(
        "WikiText-2, word level: 2,088,628 / 217,646 / 245,569 tokens with one <eos> a line",
        "Merity et al. 2016, Pointer Sentinel Mixture Models",
        "CC BY-SA 3.0, from Wikipedia",
        {
            "train.txt": "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f",
            "valid.txt": "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
            "test.txt": "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
        },
    ),
    "multi30k": DataSet(
        "Multi30k task 1, English to German: 29,000 / 1,014 / 1,000 sentences (test 2016)",
        "https://github.com/multi30k/dataset, data/task1/raw",
        "research, non-commercial (captions of Flickr30k)",
        {
            "raw/train.en.gz": "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
            "raw/train.de.gz": "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
            "raw/val.en.gz": "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
            "raw/val.de.gz": "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
            "raw/test_2016_flickr.en.gz": (
                "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9"
            ),
            "raw/test_2016_flickr.de.gz": (
                "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8"
            ),
        },
    ),
}


def chosen_data(profile: Profile, own: Sequence[str], embedded: str) -> list[str]:
    """Which data sets a suite takes: those asked for that it knows, else the one that is always
    there. `own` is all it knows."""
    return [name for name in profile.data if name in own] or [embedded]


def data_file(name: str, file: str, folder: Path | None) -> Path:
    """The checked file of a data set. Raises UserError: no folder, no file, or another file."""
    data_set = DATA_SETS[name]
    if folder is None:
        raise UserError(
            f"{name} is not part of FWPBench: name the folder that holds {name}/{file} with "
            f"--data-dir DIR or in {VARIABLE} ({data_set.source}; licence: {data_set.licence})"
        )
    path = folder / name / file
    if not path.is_file():
        wanted = "".join(f"\n  {folder / name / each}" for each in data_set.files)
        raise UserError(f"{path} is not there; {name} is these files:{wanted}")
    digest, expected = _sha256(path), data_set.files[file]
    if digest != expected:
        raise UserError(
            f"{path} is not the {name} that is measured on: its SHA-256 is {digest}, expected "
            f"{expected}. Fetch it again from {data_set.source}"
        )
    return path


def data_folder(given: str | None) -> Path | None:
    """What --data-dir names, else what the environment does."""
    named = given or os.environ.get(VARIABLE)
    return Path(named) if named else None


def check_data(names: Sequence[str], known: Sequence[str], folder: Path | None) -> None:
    """Raises UserError where a data set is known to no suite that was asked for, or not here."""
    for name in names:
        if not known:
            raise UserError(
                f"none of these suites reads a data set: leave --data {name} out, or ask "
                "language-modeling or translation"
            )
        if name not in known:
            raise UserError(unknown("data set of these suites", name, known))
        for file in DATA_SETS[name].files if name in DATA_SETS else ():
            data_file(name, file, folder)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
