"""Laws of the site: all records are there, links lead on, nobody wins by staying away, and no
string of a stranger becomes markup."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fwpbench import reports
from fwpbench.cli import main
from fwpbench.harness.records import Measurement, Record, to_line
from fwpbench.harness.run_folder import Run
from fwpbench.operators.errors import UserError
from fwpbench.reports import build_site, site
from fwpbench.reports.evidence import read
from fwpbench.reports.leaderboard import Board, Contest, Entry
from tests import sample_runs as sample
from tests.browser_pages import Seen, failing, hostile, of, some


def written(run: Run, folder: Path) -> Path:
    """A run on disk, as anybody may have written it."""
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text(json.dumps(run.plan), encoding="utf-8")
    (folder / "environment.json").write_text(json.dumps(run.environment), encoding="utf-8")
    lines = "".join(f"{to_line(record)}\n" for record in run.records)
    (folder / "records.jsonl").write_text(lines, encoding="utf-8")
    return folder


@cache
def seen(path: Path) -> Seen:
    parser = Seen()
    parser.feed(path.read_text(encoding="utf-8"))
    parser.close()
    assert not parser.open, f"never closed: {parser.open}"
    return parser


def said(path: Path) -> str:
    return "".join(word for words in seen(path).text.values() for word in words)


# Pages


def various() -> list[Record]:
    """A few records of every suite, and some operators whole."""
    several = [*some(60), *of("speed")[:12]]
    return list({record.key: record for record in several}.values())


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of five runs: two of one name, one too large for a report, a hostile one, an empty
    one."""
    root = tmp_path_factory.mktemp("site")
    records = various()
    evil = hostile()[0]
    runs = [
        written(sample.run_of(records), root / "a" / "made-up"),
        written(sample.run_of(some(60)[:60]), root / "b" / "made-up"),
        written(sample.run_of([*records, *failing(records)]), root / "large"),
        written(replace(evil, records=evil.records[::3]), root / "<x-evil>&'\""),
        written(sample.run_of([]), root / "empty"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site, "ON_A_PAGE", 40)
        patch.setattr(site, "MOST_ON_A_PAGE", len(records))
        build_site(runs, root / "site")
    return root / "site"


def pages(output: Path) -> list[Path]:
    return sorted(output.rglob("*.html"))


def test_every_run_has_a_page_and_every_record_a_place(output: Path) -> None:
    names = sorted(path.name for path in (output / "runs").iterdir())
    assert names == ["empty", "large", "made-up", "made-up-2", "x-evil"]
    numbers = {"empty": 0, "large": 2 * len(various()), "made-up": len(various()), "made-up-2": 60}
    for name, number in (numbers | {"x-evil": len(hostile()[0].records[::3])}).items():
        listed = [
            int(found["id"][1:])
            for path in sorted(
                (output / "runs" / name).glob("records-*.html"),
                key=lambda path: int(re.sub(r"\D", "", path.stem)),
            )
            for tag, found in seen(path).elements
            if tag == "tr" and "id" in found
        ]
        assert listed == list(range(1, number + 1))


def test_a_records_page_holds_everything_about_it(output: Path) -> None:
    """Its samples, its environment, its signature; a gzip of JSON that the page's script reads."""
    found: dict[str, Any] = {}
    for path in (output / "runs/large").glob("records-*.html"):
        held = seen(path).unpacked("records")
        assert dict(held["environments"]["large"])["device"] == sample.DEVICE
        assert not found.keys() & held["records"].keys()
        found |= held["records"]
    for number, record in enumerate([*various(), *failing(various())], 1):
        one = found[str(number)]
        assert one["command"] == record.command
        assert one["said"]["problem"] == record.problem
        assert one["said"]["signature"].startswith("fwpbench:1|")
        assert [len(each["values"]) for each in one["samples"]] == [
            *map(len, record.samples.values())
        ]
        assert {name for name, _, _ in one["measured"]} == set(record.metrics)


def test_what_pages_share_is_there_once(output: Path) -> None:
    names = {path.name for path in (output / "assets").iterdir()}
    assert names == {"charts.js", "tables.js", "site.js", "style.css"}


def test_a_records_place_holds_what_came_and_the_command(output: Path) -> None:
    shown = "".join(map(said, sorted((output / "runs/large").glob("records-*.html"))))
    for record in [*various(), *failing(various())]:
        assert record.problem in shown
        assert record.command in shown
        assert record.reason in shown
    assert "fwpbench:1|dtype=fp32|device=Imaginary CPU (made up)" in shown


def test_links_lead_to_pages_and_places_of_the_site(output: Path) -> None:
    there = {path: set(seen(path).values("id")) for path in pages(output)}
    for path, own in there.items():
        for target in seen(path).values("href"):
            if target in seen(path).credits:
                continue
            address, _, place = target.partition("#")
            aim = (path.parent / address).resolve() if address else path
            assert aim in there or aim.parent == output / "assets", f"{path.name}: {target}"
            assert not place or place in (own if aim == path else there[aim]), target


def test_every_page_is_reached_from_the_first(output: Path) -> None:
    reached, left = set[Path](), [output / "index.html"]
    while left:
        path = left.pop()
        if path not in reached:
            reached.add(path)
            links = seen(path).values("href")
            left += [(path.parent / x.partition("#")[0]).resolve()
                     for x in links if ".html" in x and not x.startswith("http")]  # fmt: skip
    assert reached == set(pages(output))


def test_nothing_is_asked_from_outside_and_no_string_becomes_markup(output: Path) -> None:
    for path in pages(output):
        parser = seen(path)
        for source in parser.values("src"):
            assert (path.parent / source).resolve() == output / "assets" / "site.js"
        for attribute in ("action", "data", "srcset", "poster"):
            assert parser.values(attribute) == []
        for tag, known in parser.elements:
            assert tag != "x-evil"
            assert not any(attribute.startswith("on") for attribute in known), (path, known)
        levels = [int(tag[1]) for tag, _ in parser.elements if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1
    assert "<x-evil onload=alert(1)>" in said(output / "runs/x-evil/records-1.html")
    assert "javascript:" not in "".join(
        target for path in pages(output) for target in seen(path).values("href")
    )


def test_a_large_run_says_so_and_tells_its_failures(output: Path) -> None:
    text = said(output / "runs/large/index.html")
    assert f"{2 * len(various()):,} records are more than the {len(various()):,}" in text
    assert "made-up reason a after" in text
    assert "figure" not in {tag for tag, _ in seen(output / "runs/large/index.html").elements}


def test_no_folder_of_the_machine_is_told(output: Path) -> None:
    for path in pages(output):
        assert str(output.parent) not in path.read_text(encoding="utf-8")


def test_memory_does_not_grow_with_the_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for their keys, and for what the leaderboard needs of the speed suite."""
    monkeypatch.setattr(site, "MOST_ON_A_PAGE", 20)
    monkeypatch.setattr(site, "ON_A_PAGE", 20)

    def most(name: str, seeds: int) -> int:
        records = [replace(one, seed=seed) for seed in range(seeds) for one in of("memory")]
        run = sample.run_of(records[:1])
        folder = written(replace(run, records=records), tmp_path / name)
        del records
        tracemalloc.start()
        build_site([folder], tmp_path / f"site of {name}")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    first = most("few", 1)
    assert most("many", 8) < first + 8 * len(of("memory")) * 1000


def test_bad_lines_are_counted_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing grows with them, neither memory nor the site; how many there were is told."""
    monkeypatch.setattr(site, "MOST_ON_A_PAGE", 50)
    folder = written(sample.run_of(some()[:3]), tmp_path / "run")
    again = to_line(some()[0]).encode() + b"\n"
    with open(folder / "records.jsonl", "ab") as file:
        file.writelines([20_000 * b"{}\n", 5_000 * again, b'{"seconds": NaN}\n'])
    tracemalloc.start()
    _, told = build_site([folder], tmp_path / "site")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(told) == 51
    assert told[-1] == "and 24,951 more lines"
    assert "25,001 lines left out" in said(tmp_path / "site/runs/run/index.html")
    assert sum(path.stat().st_size for path in (tmp_path / "site/runs").rglob("*")) < 100_000
    assert peak < 30_000_000


def test_strings_of_a_megabyte_are_cut_in_a_site(tmp_path: Path) -> None:
    one, two, *_ = some()
    named = replace(one, name="x" * 2**20, reason="y" * 2**20, status="incorrect")
    other = replace(two, command="z" * 2**20, detail={"w" * 2**20: "v" * 2**20})
    third = replace(two, seed=7, tags=["u" * 2**20], parameters={"t" * 2**20: "s" * 2**20})
    run = sample.run_of(
        [named, other, third], environment={"device": "r" * 2**20, "q" * 2**20: "p" * 2**20}
    )
    assert build_site([written(run, tmp_path / "run")], tmp_path / "site")[1] == []
    for path in pages(tmp_path / "site"):
        assert path.stat().st_size < 1_200_000
    assert (tmp_path / "site/runs/run/records-1.html").stat().st_size < 30_000


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    folder = written(sample.run_of(some()[:2]), tmp_path / "run")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").touch()
    for mine in (tmp_path / "mine", tmp_path / "mine/thesis.tex", folder):
        with pytest.raises(UserError, match="holds something that is no site"):
            build_site([folder], mine)
    assert (tmp_path / "mine/thesis.tex").exists()


def test_a_site_is_made_anew_without_what_was_there(tmp_path: Path) -> None:
    one = written(sample.run_of(some()[:2]), tmp_path / "one")
    two = written(sample.run_of(some()[:2]), tmp_path / "two")
    build_site([one], tmp_path / "site")
    build_site([two], tmp_path / "site")
    assert [path.name for path in (tmp_path / "site/runs").iterdir()] == ["two"]


def test_the_command_makes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(sample.run_of(some()[:3]), tmp_path / "run")
    with open(folder / "records.jsonl", "ab") as file:
        file.write(b"{\n")
    assert main(["report", "--site", str(tmp_path / "site"), str(folder)]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"site: {tmp_path / 'site' / 'index.html'}\n"
    assert printed.err.startswith("not read: ")
    assert "line 4" in printed.err
    assert main(["report", "--site", str(folder), str(folder)]) == 2
    assert main(["report", "--site", str(tmp_path / "s"), str(tmp_path)]) == 2
    assert not (tmp_path / "s").exists()


def test_more_records_than_a_page_shows_are_sent_to_a_site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is parsed before: it is said at once of a million records too."""
    folder = written(sample.run_of(some()[:3]), tmp_path / "run")
    with open(folder / "records.jsonl", "ab") as file:
        file.write(1_000_000 * b"{}\n")
    for words in ([], ["--markdown"]):
        assert main(["report", str(folder), *words]) == 2
        told = capsys.readouterr().err
        assert "one page shows at most 20,000 records, and here are 1,000,003" in told
        assert "fwpbench report --site FOLDER RUN" in told
    monkeypatch.setattr(reports, "MOST_ON_A_PAGE", 2)
    with pytest.raises(UserError, match="at most 2 records"):
        reports.build_report([sample.run_of(some()[:3])], tmp_path / "report.html")


# The leaderboard

PROBLEM = "rule=sum phi=elu+1 norm=none B=1 T={} H=2 K=16 V=12 dtype={} direction=forward"
ASKED = ("a", "b", "c", "d")


def timed(
    name: str, time: float | None, T: int = 64, dtype: str = "fp32", **changes: Any
) -> Record:
    given: dict[str, Any] = {"status": "ok"} | changes
    if time is not None:
        given["metrics"] = {
            "time": Measurement(value=time, unit="s", low=0.95 * time, high=1.05 * time)
        }
    return sample.record("speed", PROBLEM.format(T, dtype), name, **given)


def boards(records: list[Record]) -> list[Board]:
    contest = Contest("run", "runs/run/index.html", "an abacus")
    for case in read([sample.run_of(records)]).cases:
        contest.add(case, "address")
    return contest.boards()


def entries(records: list[Record]) -> dict[str, Entry]:
    (board,) = boards(records)
    (row,) = board.rows
    named = zip(board.implementations, row.entries, strict=True)
    return {name: entry for (name, _), entry in named if entry is not None}


def test_ranks_follow_the_intervals_and_ties_are_shared() -> None:
    found = entries([timed("a", 1.0), timed("b", 1.08), timed("c", 1.16), timed("d", 5.0)])
    assert {name: entry.marker for name, entry in found.items()} == {
        **{"a": "1=", "b": "1="},  # 0.95 – 1.05 and 1.03 – 1.13 meet
        "c": "2",  # 1.10 – 1.22 meets b's and not a's
        "d": "4",
    }
    assert found["a"].share == 1
    assert found["d"].share == pytest.approx(0.2)
    assert found["d"].low == pytest.approx(0.2 / 1.05)
    assert found["d"].high == pytest.approx(0.2 / 0.95)


NO_TIME: dict[str, Callable[[], list[Record]]] = {
    "incorrect": lambda: [timed("b", 0.001, status="incorrect", reason="made up")],
    "not-finite": lambda: [timed("b", None, status="not-finite", reason="made up")],
    "unsupported": lambda: [timed("b", None, status="unsupported", reason="made up")],
    "missing": lambda: [timed("b", None, status="missing", reason="made up")],
    "timeout": lambda: [timed("b", None, status="timeout", reason="made up")],
    "impossible": lambda: [timed("b", 1e-9, status="impossible", reason="made up")],
    "unstable": lambda: [timed("b", 0.001, status="unstable", reason="made up")],
    "skipped": lambda: [timed("b", None, status="skipped", reason="made up")],
    "ok without a time": lambda: [timed("b", None)],
    "ok with a time of zero": lambda: [timed("b", 0.0)],
    "ok with a negative time": lambda: [timed("b", -1.0)],
    "no record at all": list,
    "wrong in the agreement suite": lambda: [
        timed("b", 0.001),
        replace(timed("b", None, status="incorrect", reason="made up"), suite="agreement"),
    ],
}


@pytest.mark.parametrize("why", NO_TIME)
def test_what_is_wrong_or_missing_never_wins_and_stays_in_the_denominator(why: str) -> None:
    """b is much the fastest on the first problem, and has no right time on the second."""
    records = [timed("a", 1.0), timed("b", 0.9 * 0.5), timed("a", 1.0, T=128)]
    second = [replace(one, problem=one.problem.replace("T=64", "T=128")) for one in NO_TIME[why]()]
    if why.startswith("wrong in"):  # of an operator, so of both problems
        found = entries([*records, *second])
        assert found["b"].rank is None
    else:
        found = entries([*records, *second])
        assert (found["b"].timed, found["b"].asked) == (1, 2)
        assert found["b"].share == pytest.approx(0.5)
        assert found["b"].rank == 2
    alone = entries([timed("a", 1.0), *NO_TIME[why]()])
    assert alone["a"].rank == 1
    assert alone["a"].alone
    assert "b" not in alone or alone["b"].rank is None


def test_who_answers_all_is_before_who_answers_a_part_faster() -> None:
    """Twice as fast on one of three problems is no reason to be first."""
    found = entries(
        [*(timed("a", 1.0, T=T) for T in (64, 128, 256)), timed("b", 0.5)]
        + [timed("b", None, T=T, status="out-of-memory", reason="x") for T in (128, 256)]
    )
    assert (found["a"].rank, found["b"].rank) == (1, 2)
    assert found["a"].share == pytest.approx((0.5 + 1 + 1) / 3)


def test_dtypes_and_directions_have_boards_of_their_own() -> None:
    found = boards([timed("a", 1.0), timed("a", 1.0, dtype="bf16"), timed("b", 2.0, dtype="bf16")])
    assert [(board.dtype, len(board.rows)) for board in found] == [("fp32", 1), ("bf16", 1)]
    assert found[0].firsts == [(1, 1), (0, 0)]
    assert found[1].firsts == [(1, 0), (0, 0)]


def test_firsts_are_counted_of_all_operators() -> None:
    (board, *_) = boards(of("speed"))
    assert sum(alone for _, alone in board.firsts) == 0
    assert all(0 <= won <= len(board.rows) for won, _ in board.firsts)
    names = [name for name, _ in board.implementations]
    assert dict(zip(names, board.firsts, strict=True))["chunked"] == (7, 0)


def test_origins_are_marked(output: Path) -> None:
    text = re.sub(r"\s+", " ", said(output / "index.html"))
    assert "chunked in-tree" in text
    assert "torch-sdpa third-party" in text
    assert "Imaginary CPU (made up) · fp32 · forward" in text


def test_each_seed_is_a_problem_of_its_own() -> None:
    contest = Contest("run", "address", "an abacus")
    cases = read([sample.run_of([timed(name, 1.0) for name in ASKED])]).cases
    for seed in range(500):
        for case in cases:
            contest.add(replace(case, record=replace(case.record, seed=seed)), "address")
    (board,) = contest.boards()
    assert [entry.asked for entry in board.rows[0].entries if entry] == [500] * 4
