"""Compiles every Triton kernel for every architecture: hours, of which nothing is done twice.

    make compile-all
    python -m tests.compile_all --arch 80 --where 'rule=delta dtype=bf16 K=64' --workers 2
    python -m tests.compile_all --sample 5000 --seed 1

Rule × φ × normalisation × K × dtype × direction; kernels that several problems share are compiled
once. What came is kept, a line a kernel, under ~/.cache/fwpbench (XDG_CACHE_HOME) by the source
that a kernel depends on, its constants, arguments and options, architecture and version of Triton:
after Ctrl-C or a change the next call compiles what is not there. A larger sample of a seed begins
with a smaller one. Ends with the kernels that take most registers and with every one that spills,
and with 1 if one spills or does not compile.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import triton

from fwpbench.implementations._kernel_terms import LAWS, NORMS
from fwpbench.implementations.triton_kernels.plan import DOTS
from fwpbench.implementations.triton_kernels.refusal import cannot
from fwpbench.operators.errors import UserError
from fwpbench.operators.operator import Operator, discouraged, undefined
from fwpbench.operators.problem import Problem
from fwpbench.operators.where import Where
from fwpbench.progress import EVERY, duration
from fwpbench.terminal import console, table
from tests.compile_triton import argument, kernels, said, use

ARCHITECTURES = (80, 90, 100, 120)
PHIS = ("identity", "elu+1", "relu", "tanh", "favor-64", "favor-published-64")
PHIS += ("dpfp-1", "dpfp-2", "dpfp-3")
SIZES = (16, 64, 128)
FULLEST = 10


def problems(where: Where) -> Iterator[Problem]:
    for rule in LAWS:
        for phi in PHIS:
            for norm in NORMS:
                operator = Operator(rule, phi, norm)
                if undefined(operator) is None and discouraged(operator) is None:
                    yield from filter(where.matches, at_all_sizes(operator))


def at_all_sizes(operator: Operator) -> Iterator[Problem]:
    for dtype in DOTS:
        for K in SIZES:
            for direction in ("forward", "forward+backward", "decode"):
                problem = Problem.of(
                    operator, B=2, T=1024, H=16, K=K, V=K, dtype=dtype, direction=direction,
                    state="in+out",
                )  # fmt: skip
                if cannot(problem) is None:
                    yield problem


def key(kernel: Any, problem: Problem, p: Any, arch: int) -> str:
    constants = {name: value for name, value in vars(p).items() if name in kernel.arg_names}
    names = [name for name in kernel.arg_names if name not in constants]
    kinds = [argument(name, problem, p.tiles) for name in names]
    depends_on = (
        triton.__version__, arch, kernel.cache_key, constants, p.options,
        [getattr(kind, "dtype", kind) for kind in kinds],
    )  # fmt: skip
    return hashlib.sha256(repr(depends_on).encode()).hexdigest()


def wanted(architectures: Iterable[int], where: Where) -> dict[str, tuple[int, str, int]]:
    """By key: architecture, problem, and which of its kernels."""
    found: dict[str, tuple[int, str, int]] = {}
    for arch in architectures:
        use(arch)
        for problem in problems(where):
            for n, (kernel, p) in enumerate(kernels(problem)):
                found.setdefault(key(kernel, problem, p, arch), (arch, str(problem), n))
    return found


def drawn(
    every: dict[str, tuple[int, str, int]], size: int, seed: int
) -> dict[str, tuple[int, str, int]]:
    """So many of them, in an order of each one's own: layouts change which others there are."""

    def order(item: tuple[str, tuple[int, str, int]]) -> bytes:
        return hashlib.sha256(f"{seed} {item[1]}".encode()).digest()

    return dict(sorted(every.items(), key=order)[:size])


def compile_one(arch: int, text: str, n: int) -> dict[str, Any]:
    use(arch)
    problem = Problem.parse(text)
    kernel, p = list(kernels(problem))[n]
    try:
        return said(kernel, problem, p)
    except Exception as error:  # whatever the compiler raises is what came of this kernel
        words = f"{type(error).__name__}: {error}".splitlines()[0]
        return {"problem": text, "kernel": kernel.fn.__name__, "arch": arch, "error": words}


def place() -> Path:
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "fwpbench" / "compiled.jsonl"


def kept() -> dict[str, dict[str, Any]]:
    """What was compiled before; a line that was cut off is compiled again."""
    found: dict[str, dict[str, Any]] = {}
    for line in place().read_text().splitlines() if place().exists() else ():
        try:
            read = json.loads(line)
        except json.JSONDecodeError:
            continue
        found[read.pop("key")] = read
    return found


def compile_all(left: dict[str, tuple[int, str, int]], workers: int) -> dict[str, dict[str, Any]]:
    """Each is kept as soon as it is there, and the time left is that of those before."""
    done: dict[str, dict[str, Any]] = {}
    place().parent.mkdir(parents=True, exist_ok=True)
    pool = ProcessPoolExecutor(
        workers,
        multiprocessing.get_context("spawn"),
        # Ctrl-C is for the process that keeps what they found.
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )
    begun = last = time.monotonic()
    waiting: dict[Future[dict[str, Any]], str] = {}
    todo = iter(left.items())
    try:
        with place().open("a") as file:
            file.write("\n")  # ends a line that was cut off
            while len(done) < len(left):
                while len(waiting) < 2 * workers and (job := next(todo, None)) is not None:
                    waiting[pool.submit(compile_one, *job[1])] = job[0]
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    name = waiting.pop(future)
                    done[name] = future.result()
                    print(json.dumps({"key": name} | done[name]), file=file, flush=True)
                now = time.monotonic()
                if now - last >= EVERY or len(done) == len(left):
                    last = now
                    rest = (now - begun) / len(done) * (len(left) - len(done))
                    print(f"{len(done)} of {len(left)} · about {duration(rest)} left", flush=True)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return done


def show(results: Sequence[dict[str, Any]]) -> int:
    """The fullest kernels, then all that spill or do not compile; how many those are."""
    bad = [result for result in results if result.get("error") or result["stack"]]
    by_registers = [result for result in results if "registers" in result]
    by_registers.sort(key=lambda result: (-result["registers"], -result["shared"]))
    for title, rows in (("the fullest", by_registers[:FULLEST]), ("spilled or failed", bad)):
        shown = table("sm", "kernel", "problem", "registers", "spilled", "shared", title=title)
        for row in rows:
            numbers = [row.get("error") or row["registers"], *map(row.get, ("stack", "shared"))]
            shown.add_row(str(row["arch"]), row["kernel"], row["problem"], *map(str, numbers))
        console().print(shown)
    print(f"{len(results)} kernels, {len(bad)} of them spill or do not compile")
    return len(bad)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--arch", type=int, nargs="+", default=ARCHITECTURES, metavar="90")
    parser.add_argument("--where", default="", help="a filter of problems: 'rule=delta dtype=bf16'")
    parser.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--sample", type=int, metavar="N", help="only so many, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default: 0)")
    arguments = parser.parse_args()
    try:
        every = wanted(arguments.arch, Where(arguments.where))
    except UserError as error:
        parser.error(str(error))
    if arguments.sample is not None:
        print(f"{arguments.sample} of {len(every)} kernels, seed {arguments.seed}")
        every = drawn(every, arguments.sample, arguments.seed)
    known = {name: result for name, result in kept().items() if name in every}
    left = {name: job for name, job in every.items() if name not in known}
    print(f"{len(every)} kernels, {len(known)} of them compiled before", flush=True)
    try:
        done = compile_all(left, arguments.workers) if left else {}
    except KeyboardInterrupt:
        print("\ninterrupted: the next call goes on from here", file=sys.stderr)
        return 130
    return 1 if show(list((known | done).values())) else 0


if __name__ == "__main__":
    sys.exit(main())
