"""One line that says under which circumstances a number came about, and is read back.

fwpbench:1|domain=device|cache=cold|dtype=bf16|device=NVIDIA H200|driver=…|torch=…|triton=…|commit=…
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from fwpbench.harness.records import Record
from fwpbench.operators.errors import UserError

#: From the environment of the run, as it is called there and here.
FACTS = {
    "device": "device",
    "driver": "driver",
    "torch": "torch",
    "triton": "triton",
    "commit": "commit",
}


def signature(record: Record, environment: Mapping[str, object]) -> str:
    """What is not known is left out; a bar or an equals sign in a value becomes a space."""
    said = dict(word.partition("=")[::2] for word in record.problem.split())
    values = {
        "domain": record.detail.get("domain"),
        "cache": record.detail.get("cache"),
        "dtype": said.get("dtype"),
        **{name: environment.get(fact) for name, fact in FACTS.items()},
    }
    if environment.get("dirty"):
        values["commit"] = f"{values['commit']}+changes"
    known = [
        f"{name}={re.sub('[|=]', ' ', str(value))}"
        for name, value in values.items()
        if value is not None
    ]
    return "|".join([f"fwpbench:{record.protocol}", *known])


def parse(text: str) -> tuple[int, dict[str, str]]:
    """The protocol, and what the signature says by name.

    Raises:
        UserError: it is no signature.
    """
    first, *rest = text.split("|")
    head = re.fullmatch("fwpbench:([0-9]{1,9})", first)
    pairs = [each.partition("=") for each in rest]
    if head is None or not all(name and sign for name, sign, _ in pairs):
        raise UserError(
            f"{text!r} is no signature; one looks like fwpbench:1|domain=device|cache=cold|dtype=…"
        )
    return int(head[1]), {name: value for name, _, value in pairs}
