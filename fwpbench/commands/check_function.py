"""fwpbench check FILE.py:FUNCTION: is this function right?"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fwpbench.commands.own_process import JUDGED
from fwpbench.commands.selection import setting
from fwpbench.harness.engine import run_task
from fwpbench.harness.environment import command_line
from fwpbench.harness.fingerprint import fingerprint_of
from fwpbench.harness.plan import Task
from fwpbench.harness.records import Record, to_line
from fwpbench.harness.statuses import STATUSES, group_of
from fwpbench.harness.suite import Case, Setting
from fwpbench.harness.suspects import Seen, looks_like, suspects
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations.base import Implementation
from fwpbench.operators import INPUT_FAMILIES
from fwpbench.operators.errors import UserError, unknown
from fwpbench.operators.operator import Operator, discouraged
from fwpbench.operators.problem import Problem, parse_value
from fwpbench.plain_function import PlainFunction
from fwpbench.python_file import load_file, place
from fwpbench.suites import SUITES
from fwpbench.suites.agreement import answer_with_place, truths
from fwpbench.terminal import console, table

#: One token, and around the border of a chunk of 64; no two axes of one size.
CHUNK = 64
SIZES = "B=2 H=3 K=16 V=12 T=1,63,64,65,131"
FAMILIES = ("normal", "realistic", "saturated-gates")
DIRECTIONS = "forward+backward,forward"
ONLY_HERE = ("phi", "norm", "dtype", "layout", "features", "sizes", "inputs", "direction")


def main(arguments: Namespace, begin: Callable[[str], None]) -> int:
    """`begin` is told, before each problem is asked, the record of one that has no answer."""
    for option in ("where", "implementations", "profile"):
        if getattr(arguments, option):
            raise UserError(f"--{option} chooses among what is listed: leave it out with a FILE")
    if arguments.workers > 1:
        raise UserError("--workers is for what is listed: a FILE is judged in one process")
    if arguments.rule is None:
        raise UserError(f"which rule should {arguments.function} compute? For example --rule delta")
    operator = Operator(arguments.rule, arguments.phi or "identity", arguments.norm or "none")
    here, (path, function, label) = setting(arguments), _found(arguments.function)
    layout, features = arguments.layout or "time-first", arguments.features or "raw"
    plain = PlainFunction(function, label, operator, layout, features)
    begin(command_line(["check", *arguments.words[1:]]))
    problems = _problems(arguments, operator, plain, here)
    listed = Implementation(
        plain.run,
        "a plain function",
        cannot=lambda p: None if p.operator == operator else f"it was given as {operator}",
        origin="third-party",
        tf32=True,  # where --dtype says so
    )
    with _listed(label, listed):
        records = list(_judged(problems, label, plain, path, here, arguments, begin))
    begin(JUDGED)
    if not any(group_of(record.status) != "cannot" for record in records):
        because = discouraged(operator) or records[0].reason
        raise UserError(f"nothing could be judged: {operator}: {because}")
    if not arguments.json:
        _print(records, label, operator, plain)
    return 1 if any(map(_failed, records)) else 0


def refuse_options(arguments: Namespace) -> None:
    """Without a FILE, what is only for one is a mistake."""
    for option in ("rule", *ONLY_HERE):
        if getattr(arguments, option) is not None:
            raise UserError(
                f"--{option} is for a function: fwpbench check FILE.py:FUNCTION --rule delta …; "
                'to choose among what is listed, use --where "rule=delta"'
            )


def _found(words: str) -> tuple[Path, Callable[..., Any], str]:
    """The file, the function in it, and what both are called: `mine.py:delta`."""
    file, colon, name = words.rpartition(":")
    if not colon or not file or not name:
        raise UserError(f"{words!r} should be FILE.py:FUNCTION, as in mine.py:my_delta_rule")
    path = Path(file).expanduser()
    try:
        module = load_file(path)
    except ImportError as error:
        raise UserError(f"{error}: no function can be taken from it") from error
    thing: Any = module
    for part in name.split("."):
        if not hasattr(thing, part):
            own = [each for each, value in vars(thing).items() if callable(value)]
            raise UserError(f"{path}: " + unknown("function", part, own))
        thing = getattr(thing, part)
    if not callable(thing):
        raise UserError(f"{path}: {name} is a {type(thing).__name__} and cannot be called")
    return path, thing, f"{path.name}:{name}"


def _problems(
    arguments: Namespace, operator: Operator, plain: PlainFunction, here: Setting
) -> list[Problem]:
    """Every dtype × family × length × direction; gradients first, whose truth serves both."""
    sizes = _sizes(arguments.sizes)
    lengths = sizes.pop("T")
    dtypes = (arguments.dtype or "fp32,bf16").split(",")
    directions = (arguments.direction or DIRECTIONS).split(",")
    first = Problem.of(
        operator, **sizes, T=min(lengths[0], 65), dtype=dtypes[0], direction="forward"
    )
    plain.probe(first, here.device.kind)
    return [
        first.replace(T=T, dtype=dtype, inputs=inputs, direction=direction, state=state)
        for dtype in dtypes
        for inputs, state in _families(arguments.inputs, operator, plain)
        for T in lengths
        for direction in sorted(directions, key=len, reverse=True)
    ]


def _sizes(words: str | None) -> dict[str, Any]:
    sizes: dict[str, Any] = {}
    for word in f"{SIZES} {words or ''}".split():
        name, equals, values = word.partition("=")
        if not equals or name not in "BTHKV":
            raise UserError(f"--sizes is made of B, T, H, K and V, as in {SIZES!r}; got {word!r}")
        numbers = [parse_value(name, value) for value in values.split(",")]
        if name != "T" and len(numbers) > 1:
            raise UserError(f"--sizes takes several T, and one {name}; got {word!r}")
        sizes[name] = numbers if name == "T" else numbers[0]
    return sizes


def _families(words: str | None, operator: Operator, plain: PlainFunction) -> list[tuple[str, str]]:
    """Input families, each with the states that cross the border of the call.

    The first is asked without an initial state where the function can be called so, the others
    with one where it takes one.
    """
    names = words.split(",") if words else list(FAMILIES)
    for name in names:
        if name not in INPUT_FAMILIES:
            raise UserError(unknown("input family", name, INPUT_FAMILIES))
    gates = operator.update_rule.gates
    if words is None:
        names = [name for name in names if INPUT_FAMILIES[name].applies(gates)]
    if plain.takes_logarithm and "saturated-gates" in names:  # log 0
        names[names.index("saturated-gates")] = "long-decay"
        plain.notes.append("log_alpha of α = 0 is −∞: long-decay is asked for saturated-gates")
    out = ["out"] if plain.gives_state else []
    return [
        (name, "+".join((["in"] if _state_in(name, plain) else []) + out) or "none")
        for name in names
    ]


def _state_in(inputs: str, plain: PlainFunction) -> bool:
    return plain.needs_state or (plain.takes_state and inputs != "normal")


@contextmanager
def _listed(name: str, implementation: Implementation) -> Iterator[None]:
    """The function is an implementation like any other, for as long as it is judged."""
    IMPLEMENTATIONS.add(name, implementation, name)
    try:
        yield
    finally:
        IMPLEMENTATIONS.remove(name)


def _judged(
    problems: Sequence[Problem],
    label: str,
    plain: PlainFunction,
    path: Path,
    here: Setting,
    arguments: Namespace,
    begin: Callable[[str], None],
) -> Iterator[Record]:
    for problem in problems:
        command = _command(arguments, problem, here)
        begin(to_line(_unanswered(problem, label, here, command)))
        plain.error = None
        task = Task("agreement", Case(problem), label, here.seed)
        suite = replace(SUITES["agreement"], answer=answer_with_place)
        record = run_task(task, suite, here, None)
        if isinstance(plain.error, UserError):
            raise plain.error
        if plain.error is not None:
            record = replace(record, reason=f"{record.reason} ({place(plain.error, path)})")
        record = replace(record, command=command)
        if arguments.json:
            print(to_line(record), flush=True)
        yield record


def _unanswered(problem: Problem, label: str, here: Setting, command: str) -> Record:
    """What is recorded if asking this problem ends the process."""
    return Record(
        suite="agreement", problem=str(problem), implementation=label, origin="third-party",
        device=here.device.kind, seed=here.seed, status="runtime-error", command=command,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip


def _command(arguments: Namespace, problem: Problem, here: Setting) -> str:
    """What asks this one problem again."""
    sizes = " ".join(f"{axis}={getattr(problem, axis)}" for axis in "BTHKV")
    words = ["check", arguments.function, "--rule", problem.rule, "--phi", problem.phi]
    words += ["--norm", problem.norm, "--dtype", problem.dtype, "--inputs", problem.inputs]
    words += ["--direction", problem.direction, "--sizes", sizes, "--device", here.device.kind]
    for option in ("layout", "features"):
        if (given := getattr(arguments, option)) is not None:
            words += [f"--{option}", given]
    words += [word for path in here.plugins for word in ("--plugin", path)]
    return command_line([*words, "--seed", str(here.seed)])


def _failed(record: Record) -> bool:
    return STATUSES[record.status].fails_the_run


def _print(records: Sequence[Record], label: str, operator: Operator, plain: PlainFunction) -> None:
    problems = {record.problem: Problem.parse(record.problem) for record in records}
    directions = list(dict.fromkeys(problem.direction for problem in problems.values()))
    rows = table("dtype", "inputs", "state", "T", *directions, title=f"{label} as {operator}")
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    for record in records:
        p = problems[record.problem]
        row = cells.setdefault((p.dtype, p.inputs, p.state, str(p.T)), {})
        row[p.direction] = _cell(record)
    for words, row in cells.items():
        rows.add_row(*words, *(row.get(direction, "") for direction in directions))
    out = console()
    out.print(rows)
    out.print("a number is the worst tensor's error ÷ what is allowed")
    for note in plain.notes:
        out.print(f"note: {note}")
    for line in _verdict(records, [problems[record.problem] for record in records]):
        out.print(line)


def _cell(record: Record) -> str:
    if record.status == "ok" and "non-discriminating" in record.tags:
        return "ok (anything would pass)"
    if (worst := _worst(record)) is not None:
        return f"{record.status} {worst[0]:.2f} {worst[1]}"
    return record.status


def _worst(record: Record) -> tuple[float, str] | None:
    """How far the worst tensor errs, and which it is."""
    tensors = record.detail.get("tensors", {})
    ratios = [
        (tensor["ratio"], name)
        for name, tensor in tensors.items()
        if tensor["verdict"] != "non-discriminating"
    ]
    return max(ratios, default=None)


def _verdict(records: Sequence[Record], problems: Sequence[Problem]) -> Iterator[str]:
    """In plain words: right or wrong, which tensors, and what the failures have in common."""
    failed = [(r, p) for r, p in zip(records, problems, strict=True) if _failed(r)]
    if not failed:
        judged = [record for record in records if record.status == "ok"]
        yield f"right: {len(judged)} of {len(records)} problems"
        if near := [(worst, record.problem) for record in judged if (worst := _worst(record))]:
            (ratio, tensor), problem = max(near)
            yield f"nearest to its limit: {tensor}, {ratio:.2f} of what is allowed, in {problem}"
        for record in (record for record in records if record.status != "ok"):
            yield f"not judged: {record.problem}: {record.reason}"
        return
    for reason, record in {record.reason: record for record, _ in reversed(failed)}.items():
        if record is failed[0][0] or not reason.startswith(tuple(_tensors([record]))):
            yield f"{record.status}: {reason}\n  {record.command}"
    yield f"wrong: {len(failed)} of {len(records)} problems" + _common(failed, problems)
    if names := _suspects(records, problems):
        yield looks_like(names)


def _suspects(records: Sequence[Record], problems: Sequence[Problem]) -> list[str]:
    """Which known bug explains best where it is wrong and where it is right.

    Asked at the first dtype that fails and the shortest length past a chunk that does: every
    input family there, with gradients, and forward where laws were asked.
    """
    judged = [
        (record, problem)
        for record, problem in zip(records, problems, strict=True)
        if record.detail.get("tensors")
    ]
    failed = [problem for record, problem in judged if _failed(record)]
    if not failed:
        return []
    mine = [problem for problem in failed if problem.dtype == failed[0].dtype]
    T = min(mine, key=lambda problem: (problem.T < CHUNK - 1, abs(problem.T - CHUNK))).T
    seen = [
        Seen(
            problem,
            truths(problem, record.seed),
            fingerprint_of(record.status, record.detail, problem.tokens),
        )
        for record, problem in judged
        if (problem.dtype, problem.T) == (failed[0].dtype, T)
        and (
            problem.backward or "laws" in record.detail or problem.direction == failed[0].direction
        )
    ]
    return suspects(sorted(seen, key=lambda one: (one.found.status == "ok", -len(one.found.wrong))))


def _tensors(records: Sequence[Record]) -> list[str]:
    """The tensors that are wrong or not finite in any of these."""
    found = [
        name
        for record in records
        for name, tensor in record.detail.get("tensors", {}).items()
        if tensor["verdict"] in ("wrong", "not-finite")
    ]
    return list(dict.fromkeys(found))


def _common(failed: Sequence[tuple[Record, Problem]], problems: Sequence[Problem]) -> str:
    """`, always S, only at T >= 65, only with state in+out`."""
    parts = []
    if tensors := _tensors([record for record, _ in failed]):
        parts.append(f"in {', '.join(tensors)}")
    for field in ("T", "dtype", "inputs", "state", "direction"):
        asked = {getattr(problem, field) for problem in problems}
        bad = {getattr(problem, field) for _, problem in failed}
        if bad != asked:
            values = ", ".join(map(str, sorted(bad)))
            parts.append(f"only at {field}={values.replace(', ', ',')}")
    return f": {'; '.join(parts)}" if parts else ""
