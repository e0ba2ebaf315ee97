"""CUDA C++ on a CPU catches what it promises to catch; the same done right passes."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fwpbench.implementations import IMPLEMENTATIONS

CUDA = IMPLEMENTATIONS["cuda"]
pytestmark = pytest.mark.skipif(
    CUDA.missing() is not None or "cpu" not in CUDA.devices,
    reason=CUDA.missing() or "FWPBENCH_CUDA_ON_CPU=1 is not set",
)
HERE = Path(__file__).parent
THREADS = 64
#: Of two groups, which have barriers of their own by number.
IN_GROUPS = 128


@pytest.fixture(scope="module")
def library() -> str:
    from fwpbench.implementations.cuda_kernels import on_cpu

    return str(on_cpu.library((HERE / "on_cpu_kernels.cu").read_text(encoding="utf-8")))


def launched(
    library: str, kernel: str, *, blocks: int = 1, seed: int = 0, threads: int = THREADS
) -> subprocess.CompletedProcess[str]:
    numbers = map(str, (threads, blocks, 4 * threads, seed))
    return subprocess.run(
        [sys.executable, str(HERE / "launch_on_cpu.py"), library, kernel, *numbers],
        capture_output=True,
        text=True,
        check=False,
    )


RACE_READ = "a race: shared memory is read that another thread writes"
RACE_WRITTEN = "a race: shared memory is written that another thread reads"
RACE_TWICE = "a race: two threads write to one place"
#: A read and a write without a barrier between them are met in either order.
EITHER = (RACE_READ, RACE_WRITTEN)
CAUGHT = {
    "some_threads_return": ("__syncthreads() is not reached by all threads",),
    "two_barriers_for_one": ("threads wait at different __syncthreads()",),
    "a_lane_returns_before_a_shuffle": ("the others have gone on or returned",),
    "a_shuffle_against_a_barrier_of_the_warp": ("lanes of a warp shuffle, the others are at",),
    "a_barrier_of_the_warp_against_one_of_the_block": ("the others have gone on or returned",),
    "half_a_warp_is_named": ("whole warps only",),
    "what_is_assumed_does_not_hold": ("may assume does not hold: threadIdx.x < 63",),
    "part_of_a_warp_shuffles": ("whole warps only",),
    "nobody_has_written": ("shared memory is read that nobody has written",),
    "what_the_last_block_wrote_is_gone": ("shared memory is read that nobody has written",),
    "a_number_too_far": ("an access outside shared memory",),
    "a_number_before": ("an access outside shared memory",),
    **{
        f"{what}_{where}": sentences
        for where in ("within", "shuffled", "across")
        for what, sentences in {
            "write_then_read": (*EITHER, "nobody has written"),
            "read_then_write": EITHER,
            "all_read_then_one_writes": EITHER,
            "write_twice": (RACE_TWICE,),
        }.items()
    },
}
#: Barriers by number, which some warps of a block have for themselves.
NOT_ALL = ("a barrier by number is not reached by all it counts",)
PART = ("some lanes of a warp wait at a barrier by number, the others do not",)
MORE = ("more threads wait at a barrier than it counts",)
OTHERS = ("a barrier is that of other warps",)
CAUGHT_IN_GROUPS = {
    "a_thread_of_a_group_returns": PART,
    "a_warp_of_a_group_returns": NOT_ALL,
    "two_barriers_for_a_group": ("threads wait at different barriers of one number",),
    "half_a_warp_waits_for_its_group": PART,
    "a_group_against_the_block": NOT_ALL,
    "both_groups_by_one_number": MORE,
    "the_number_of_the_other_group": OTHERS,
    "a_number_and_then_another": ("a warp waits at a barrier of another number than before",),
    "a_group_counts_one_warp": MORE,
    "a_group_counts_the_block": NOT_ALL,
    "two_counts_for_a_group": ("threads wait at a barrier for different counts",),
    "half_a_warp_is_counted": ("a barrier counts whole warps",),
    "the_number_of_the_block": ("barriers have the numbers 1 to 15",),
    "a_number_of_no_barrier": ("barriers have the numbers 1 to 15",),
    "write_then_read_between_groups": (*EITHER, "nobody has written"),
    "read_then_write_between_groups": EITHER,
    "all_read_then_one_writes_between_groups": EITHER,
    "write_twice_between_groups": (RACE_TWICE,),
}
RACES = ("write_then_read", "read_then_write", "all_read_then_one_writes", "write_twice")
PASSES = ("barriers_are_met", *(f"{what}_in_order" for what in RACES))
PASSES_IN_GROUPS = (
    "a_group_waits_without_the_other",
    *(f"{what}_in_groups" for what in RACES),
    *(f"{what}_in_order" for what in RACES),
)


def ends_with_a_sentence(kernel: str, sentences: tuple[str, ...], done) -> None:
    assert done.returncode < 0, done.stdout
    (said,) = done.stderr.splitlines()
    assert said.startswith("CUDA on CPU: ")
    assert any(sentence in said for sentence in sentences), said
    assert f"(cuda_fwp_{kernel}, block " in said


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kernel", CAUGHT)
def test_what_is_wrong_ends_the_process_with_a_sentence(library, kernel, seed):
    blocks = 2 if kernel == "what_the_last_block_wrote_is_gone" else 1
    done = launched(library, kernel, blocks=blocks, seed=seed)
    ends_with_a_sentence(kernel, CAUGHT[kernel], done)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kernel", CAUGHT_IN_GROUPS)
def test_what_is_wrong_with_barriers_by_number_does_too(library, kernel, seed):
    done = launched(library, kernel, seed=seed, threads=IN_GROUPS)
    ends_with_a_sentence(kernel, CAUGHT_IN_GROUPS[kernel], done)


@pytest.mark.parametrize(
    ("kernel", "threads"),
    [
        *((kernel, THREADS) for kernel in PASSES),
        *((kernel, IN_GROUPS) for kernel in PASSES_IN_GROUPS),
    ],
)
def test_the_same_done_right_passes_in_every_order(library, kernel, threads):
    done = [launched(library, kernel, seed=seed, threads=threads) for seed in range(3)]
    assert [each.stderr for each in done] == [""] * 3
    first, *others = [json.loads(each.stdout)[:threads] for each in done]
    assert others == [first, first]
    wanted = {
        "barriers_are_met": [(n ^ 1) + 100.0 * (n // 32 * 32 + 3) for n in range(threads)],
        "a_group_waits_without_the_other": [float(n < 64) for n in range(threads)],
        "write_then_read": [float(n ^ 32) for n in range(threads)],
        "read_then_write": [float(n ^ 32) for n in range(threads)],
        "all_read_then_one_writes": [7.0 * (n < 64) for n in range(threads)],
        "write_twice": [2.0] * threads,
    }
    assert first == wanted[kernel.removesuffix("_in_order").removesuffix("_in_groups")]


def test_threads_run_in_an_order_that_the_seed_shuffles(library):
    """Then what is right in every order is told from what is right by luck."""
    orders, sums = [], []
    for seed in range(2):
        numbers = json.loads(launched(library, "who_came_when", seed=seed).stdout)
        assert sorted(numbers[:THREADS]) == list(range(THREADS))
        orders.append(numbers[:THREADS])
        sums.append(numbers[THREADS + 1 : 2 * THREADS + 1])
    assert orders[0] != orders[1]
    assert list(range(THREADS)) not in orders
    assert sums[0] == sums[1]


@pytest.mark.parametrize("threads", [0, 33, 1056])
def test_a_block_is_whole_warps(library, threads):
    arguments = [library, "barriers_are_met", *map(str, (threads, 1, 0, 0))]
    done = subprocess.run(
        [sys.executable, str(HERE / "launch_on_cpu.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "a block has 32 to 1024 threads, whole warps" in done.stderr


def test_static_shared_memory_is_refused_by_the_compiler():
    from fwpbench.implementations.cuda_kernels import on_cpu

    text = '#include "portable.cuh"\n__global__ void kernel() { __shared__ float x[32]; }\n'
    with pytest.raises(RuntimeError, match=r"take shared_memory<T>\(byte\)"):
        on_cpu.library(text)


def floats() -> torch.Tensor:
    """Every number of 16 bits, the ties between neighbours, and what lies just beside these."""
    each = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    halves = each.view(torch.float16).float()
    bits = (each.to(torch.int32) & 0xFFFF) << 16
    near = [bits + offset for offset in (0, 0x7FFF, 0x8000, 0x8001)]
    numbers = [halves, *(part.view(torch.float32) for part in near)]
    # Ties of fp16 lie half a unit, which a float32 has, above each number.
    finite = halves[halves.isfinite()]
    step = torch.nextafter(finite.half(), torch.tensor(torch.inf, dtype=torch.half)).float()
    ties = (finite + step) / 2
    beside = torch.tensor(torch.inf)
    numbers += [ties, torch.nextafter(ties, beside), torch.nextafter(ties, -beside)]
    return torch.cat([*numbers, torch.tensor([65519.996, 65520.0, 65536.0, 1e-45, 3.4e38, -0.0])])


def test_numbers_of_16_bits_are_rounded_as_torch_rounds(library):
    x = floats().contiguous()
    half, bfloat = torch.empty_like(x, dtype=torch.half), torch.empty_like(x, dtype=torch.bfloat16)
    from_half, from_bfloat = torch.empty_like(x), torch.empty_like(x)
    given = [t.data_ptr() for t in (x, half, bfloat, from_half, from_bfloat)] + [len(x)]
    numbers = [ctypes.c_int64(number) for number in given]
    arguments = (ctypes.c_void_p * len(numbers))(*map(ctypes.addressof, numbers))
    grid, block = (ctypes.c_uint * 3)(1, 1, 1), (ctypes.c_uint * 2)(32, 1)
    ctypes.CDLL(library).launch_cuda_fwp_sixteen_bits(grid, block, ctypes.c_size_t(0), arguments)
    for got, back in ((half, from_half), (bfloat, from_bfloat)):
        wanted = x.to(got.dtype)
        assert torch.equal(got.isnan(), wanted.isnan())
        numbers_ = ~wanted.isnan()
        assert torch.equal(got[numbers_].view(torch.int16), wanted[numbers_].view(torch.int16))
        assert torch.equal(back[numbers_], wanted[numbers_].float())
        assert torch.equal(back.isnan(), wanted.isnan())


def test_in_a_run_it_costs_its_own_record_which_has_the_sentence():
    where = "rule=sum phi=identity norm=none inputs=normal"
    command = ["check", "--plugin", "tests/racing_plugin.py", "--implementations", "races,chunked"]
    done = subprocess.run(
        [sys.executable, "-m", "fwpbench", *command, "--where", where, "--json"],
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    records = [json.loads(line) for line in done.stdout.splitlines()]
    healthy = [record for record in records if record["implementation"] == "chunked"]
    racing = [record for record in records if record["implementation"] == "races"]
    assert {record["status"] for record in healthy} == {"ok"}
    assert len(racing) == len(healthy) > 0
    for record in racing:
        assert record["status"] == "runtime-error"
        assert "SIGABRT" in record["reason"]
        assert any("CUDA on CPU: a race:" in line for line in record["detail"]["log"])
