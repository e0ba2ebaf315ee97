"""The runs that every law of the report is held to, their pages, and what a browser finds there."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from fwpbench.harness.records import Measurement, Record
from fwpbench.harness.run_folder import Run
from fwpbench.harness.statuses import STATUSES
from fwpbench.reports.page import page_of
from tests import sample_runs as sample

QUALITY = ("retrieval", "language-modeling", "translation")
SUITES = (
    *("agreement", "museum", "speed", "first-call", "memory", "longest", "scaling"),
    *("capacity", "stability"),
    *QUALITY,
)
#: The suites whose records share a section.
SECTIONS = dict.fromkeys(QUALITY, "quality")
EVIL = "\"'><x-evil onload=alert(1)></script></style></title><script>alert(1)</script>"
EVIL += "<!-- javascript:alert(1) {{ 7 * 7 }} \ud800"
VOID = {"meta", "br", "input", "link", "img"}


@cache
def everything() -> tuple[Record, ...]:
    return tuple(sample.everything())


def some(step: int = 40) -> list[Record]:
    """A few records of every suite."""
    return [one for suite in SUITES for one in of(suite)[::step]]


def of(suite: str) -> list[Record]:
    return [one for one in everything() if one.suite == suite]


def poisoned(value: Any) -> Any:
    """Every string and every name in it replaced by something that would like to be markup."""
    if isinstance(value, str):
        return value + EVIL
    if isinstance(value, dict):
        return {f"{name}{EVIL}": poisoned(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [poisoned(inner) for inner in value]
    return value


def poisoned_record(record: Record, suite: str) -> Record:
    word = EVIL.replace(" ", "\u00a0")
    return replace(
        record,
        suite=suite,
        problem=re.sub(r"(rule|phi|norm|direction|dtype)=(\S+)", rf"\1=\2{word}", record.problem),
        implementation=poisoned(record.implementation),
        origin=poisoned(record.origin),
        device=poisoned(record.device),
        reason=poisoned(record.reason),
        name=poisoned(record.name) if record.name else "",
        tags=poisoned(record.tags),
        command=poisoned(record.command),
        started=poisoned(record.started),
        detail=record.detail | poisoned(record.detail) | {"stop_reason": EVIL},
        parameters=record.parameters | {EVIL: EVIL},
        metrics=record.metrics | {EVIL: Measurement(value=1.0, unit=EVIL)},
    )


def hostile() -> list[Run]:
    records = [poisoned_record(one, one.suite) for one in [*some(), *failing(some(60))]]
    run = sample.run_of([*records, poisoned_record(records[0], EVIL)])
    plan = poisoned(run.plan) | {"excluded": [[EVIL, EVIL], [EVIL], EVIL, 7], "cases": [EVIL, 7]}
    plan |= {"suites": [EVIL, 7], "profile": EVIL, "arguments": EVIL}
    environment = poisoned(run.environment) | {"device": EVIL, "os": EVIL, "started": EVIL}
    return [replace(run, plan=plan, environment=environment, complaints=[EVIL], path=Path(EVIL))]


def failing(records: list[Record]) -> list[Record]:
    """The same records, each with a status that fails a run or is a finding; no numbers left."""
    bad = [name for name, status in STATUSES.items() if status.group in ("wrong", "crashed")]
    return [
        replace(
            record,
            seed=1,
            status=bad[place % len(bad)],
            reason=f"made-up reason {'abc'[place % 3]} after {place} calls",
            metrics={},
            samples={},
            detail={},
        )
        for place, record in enumerate(records)
    ]


def two_devices() -> list[Run]:
    other = [replace(one, device="Imaginary GPU (made up)") for one in some(15)]
    environment = {"device": "Imaginary GPU (made up)"}
    return [
        sample.run_of(some(15)),
        sample.run_of(other, environment=environment, path=Path("runs/other")),
    ]


def interrupted() -> list[Run]:
    whole = sample.run_of(some())
    return [replace(whole, records=whole.records[:7], complaints=["runs/made-up: a bad line"])]


def used_up(done: int) -> list[Run]:
    """A run whose budget was used up after so many records."""
    records = some()
    left = [
        replace(one, status="skipped", reason="the budget of 10 min was used up (made up)",
                origin="unknown", metrics={}, samples={}, detail={})
        for one in records[done:]
    ]  # fmt: skip
    return [sample.run_of([*records[:done], *left])]


def only(suite: str) -> list[Run]:
    return [sample.run_of(of(suite)[:60])]


RUNS: dict[str, Callable[[], list[Run]]] = {
    "everything": lambda: [sample.run_of(list(everything()))],
    "no runs": lambda: [],
    "no records": lambda: [sample.run_of([])],
    "no plan, no environment": lambda: [sample.run_of(some(), plan={}, environment={})],
    "interrupted": interrupted,
    "a budget used up": partial(used_up, 11),
    "a budget of nothing": partial(used_up, 0),
    "two devices": two_devices,
    "all failed": lambda: [sample.run_of(failing(list(everything())[:4500]))],
    "hostile": hostile,
}
RUNS |= {f"only {suite}": partial(only, suite) for suite in SUITES}


@cache
def page(name: str) -> str:
    return page_of(RUNS[name]())


@dataclass
class Seen(HTMLParser):
    """What a browser would find in a page: elements, attributes, text by section."""

    open: list[str] = field(default_factory=list)
    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    text: dict[str, list[str]] = field(default_factory=dict)
    scripts: list[str] = field(default_factory=list)
    section: str = ""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attrs}
        self.elements.append((tag, known))
        if tag == "section":
            self.section = known["id"]
        if tag == "script":
            self.scripts.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        else:
            self.text.setdefault(self.section, []).append(data)

    def values(self, attribute: str) -> list[str]:
        return [known[attribute] for _, known in self.elements if attribute in known]

    @property
    def credits(self) -> list[str]:
        """Addresses outside that someone may click on; nothing is asked of them before."""
        rel = "noopener noreferrer"
        return [
            known["href"] for tag, known in self.elements if (tag, known.get("rel")) == ("a", rel)
        ]

    def said(self, section: str) -> str:
        return "".join(self.text.get(section, []))

    def unpacked(self, name: str) -> Any:
        """What the page's script unpacks when somebody looks at it."""
        (place,) = [n for n, known in enumerate(self.script_tags) if known == f"packed-{name}"]
        return json.loads(gzip.decompress(base64.b64decode(self.scripts[place], validate=True)))

    @property
    def script_tags(self) -> list[str]:
        return [known.get("id", "") for tag, known in self.elements if tag == "script"]

    @property
    def sections(self) -> list[str]:
        return [known["id"] for tag, known in self.elements if tag == "section"]


@cache
def seen(name: str) -> Seen:
    parser = Seen()
    parser.feed(page(name))
    parser.close()
    assert not parser.open, f"never closed: {parser.open}"
    return parser
