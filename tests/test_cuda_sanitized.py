"""The CUDA kernels under g++'s sanitizers: nothing out of bounds, nothing C++ leaves undefined.

Every kernel and rule, φ narrow or too wide for a block, every word of every constant, each at five
lengths and through the gate. With FWPBENCH_SANITIZE=pairs every two words of a kernel meet too.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations._kernel_terms import LAWS
from fwpbench.implementations.cuda_kernels import sources
from fwpbench.implementations.cuda_kernels.chunk_plan import RULES
from fwpbench.implementations.cuda_kernels.sources import Word
from fwpbench.operators import UPDATE_RULES
from tests.sanitized_problems import Case, covering, items, kernels, pointers, tensors

CUDA = IMPLEMENTATIONS["cuda"]
pytestmark = pytest.mark.skipif(
    CUDA.missing() is not None or "cpu" not in CUDA.devices,
    reason=CUDA.missing() or "FWPBENCH_CUDA_ON_CPU=1 is not set",
)
HERE = Path(__file__).parent
#: Unoptimised: compiling takes longer than running, and no access is optimised away.
FLAGS = "-O0 -fsanitize=address,undefined -fno-sanitize-recover=all"
#: As many processes as take turns at the cases: each starts torch under the sanitizer.
PROCESSES = 4


@cache
def chosen(which: str = "items") -> list[Case]:
    """By a process that does not check the types of thousands of problems, as tests do."""
    command = [sys.executable, "-m", "tests.sanitized_problems", which]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=True)
    return [Case.parse(line) for line in done.stdout.splitlines()]


def libasan() -> str:
    found = subprocess.run(
        ["g++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not Path(found).is_absolute():
        pytest.skip("g++ comes without libasan")
    return found


def watched(*command: str, options: str = "") -> subprocess.CompletedProcess[str]:
    """A Python in which libasan comes first: what it loads later may be watched."""
    settings = {
        "LD_PRELOAD": libasan(),
        # Python keeps memory to its end.
        "ASAN_OPTIONS": f"detect_leaks=0{options}",
        "FWPBENCH_CUDA_ON_CPU_FLAGS": FLAGS,
    }
    return subprocess.run(
        [sys.executable, *command],
        cwd=HERE.parent,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )


def told(mode: str, cases: list[Case], options: str = "") -> list[dict[str, Any]]:
    done = watched("-m", "tests.sanitized_kernels", mode, *map(str, cases), options=options)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("turn", range(PROCESSES))
def test_kernels_stay_inside_their_memory_and_the_language(turn):
    cases = chosen()[turn::PROCESSES]
    lines = told("agrees", cases)
    for line in lines:
        assert line["code"] == 0, f"{line['case']}\n{line['said']}"
    assert [line["case"] for line in lines] == list(map(str, cases))


@pytest.mark.skipif(
    os.environ.get("FWPBENCH_SANITIZE") != "pairs",
    reason="FWPBENCH_SANITIZE=pairs is not set: ten minutes of one core",
)
@pytest.mark.parametrize("turn", range(PROCESSES))
def test_every_two_words_of_a_kernel_stay_inside(turn):
    """Whether they agree too is asked where the yardstick has more numbers to go by."""
    cases = chosen("pairs")[turn::PROCESSES]
    lines = told("runs", cases)
    assert [f"{line['case']}\n{line['said']}" for line in lines if line["code"]] == []
    assert [line["case"] for line in lines] == list(map(str, cases))


def rules_of(kernel: str) -> set[str]:
    """By the tables that choose the kernels."""
    if kernel.startswith("unordered"):
        return {rule for rule in LAWS if UPDATE_RULES[rule].order_free}
    return set(RULES if kernel.startswith("chunk") else LAWS)


def enumerations() -> dict[str, set[str]]:
    """The words that the sources have for constants."""
    header = (sources.FOLDER / "portable.cuh").read_text(encoding="utf-8")
    found = re.findall(r"enum class (\w+) \{(.*?)\};", header)
    return {of: {f"{of}::{word.strip()}" for word in words.split(",")} for of, words in found}


def words_of(kernel: str) -> set[tuple[str, str]]:
    """What there is to meet: rules, what they give their kernels, each word of each enumeration."""
    chunks, laws = kernel.startswith("chunk"), [LAWS[rule] for rule in rules_of(kernel)]
    widths = ("", ", wide") if chunks else ("",)
    words = {("rule", rule + width) for rule in rules_of(kernel) for width in widths}
    for law in laws:
        words |= {("DECAY", str(Word("Decay", law.DECAY)))}
        words |= {("WEIGHS", str(law.WEIGHS)), ("CORRECTS", str(law.CORRECTS))}
        words |= set() if chunks else {("CLIPS", str(law.CLIPS))}
    words |= {("Number", number) for number in sources.NUMBERS.values()}
    words |= {("READS", "True"), ("READS", "False")}
    named = {"KEY_MAP": "Map", "QUERY_MAP": "Map", "SCALE": "Scale", "NORMALIZER": "Normalizer"}
    named |= {"PRECISION": "Precision"} if chunks else {}
    assert enumerations().keys() == {"Map", "Scale", "Normalizer", "Precision", "Decay"}
    words |= {(name, word) for name, of in named.items() for word in enumerations()[of]}
    # Keys keep their factor; fp16 is multiplied in tf32; only what corrects has z by another law.
    words -= {("KEY_MAP", "Map::favor_queries"), ("PRECISION", "Precision::fp16")}
    if not any(law.CORRECTS for law in laws):
        words -= {("NORMALIZER", "Normalizer::sum")}
    return words


@pytest.mark.parametrize("kernel", kernels())
def test_every_kernel_meets_every_rule_and_every_word(kernel):
    found = {
        (name, word) for who, name, word in set().union(*map(items, chosen())) if who == kernel
    }
    assert words_of(kernel) <= found
    # And no as well as yes, but to what a kernel is for and what its rules alone decide.
    for name in {name for name, word in found if word in ("True", "False")}:
        decided = name == "CAUSAL" or hasattr(LAWS["sum"], name)
        assert decided or {(name, "True"), (name, "False")} <= found, name


def test_every_case_has_five_lengths():
    """One token, C − 1, C, C + 1, and a prime: a kernel's chunks begin and end there."""
    for case in chosen():
        one, before, C, after, prime = case.lengths()
        assert (before, after) == (C - 1, C + 1)
        assert prime > 2 * C
        assert one == 1 or case.problem.operator.divides


#: What a kernel takes null for: there is none, and nobody follows the pointer.
NONE = {
    "recurrent_forward": {"S_in", "z_in", "clips", "kept", "S_out", "z_out"},
    # What was kept is always there; null it would be zeros to the first head's first tokens.
    "recurrent_backward": {"kept", "kept_z", "dS_out", "dz_out", "dS_in", "dz_in"},
    "unordered_backward": {"kept", "kept_z", "dS_out", "dz_out", "dS_in", "dz_in"},
}


def test_a_tensor_too_short_by_one_number_or_null_ends_the_process():
    """Every one that is handed over, in a launch of its kernel that is right but for it."""
    cases = [case.for_every_number() for case in covering(chosen(), tensors)]
    found = set()
    # Without lines of source, which take most of a report's time.
    for line in told("broken", cases, ":symbolize=0"):
        kernel, name, said = line["kernel"], line["tensor"], line["said"]
        found.add((kernel, name, line["how"]))
        where = f"{line['case']}: {kernel}, {name}: {said}"
        if line["how"] == "short":
            assert "heap-buffer-overflow" in said, where
            beside = rf"0 bytes (to the right of|after) {line['bytes']}-byte region"
            assert re.search(beside, said), where
        elif name in NONE.get(kernel, ()):
            assert (line["code"], "null" in said) == (0, False), where
        else:
            assert line["code"] != 0, where
            assert re.search("through a null pointer|(of|to) null pointer of type", said), where
    both = ("short", "null")
    assert found == {
        (kernel, name, how) for kernel in kernels() for name in pointers(kernel) for how in both
    }


BAD = {
    # launch_on_cpu.py has room for 256 numbers.
    "out[255 + threadIdx.x] = 1.f": "heap-buffer-overflow",
    "out[0] = float(2147483647 + int(threadIdx.x))": "signed integer overflow",
    "out[0] = *none": "load of null pointer of type 'const float'",
}
NULL = {
    "out[0] = none[1 + threadIdx.x]": "an access through a null pointer (cuda_fwp_bad, block 0, 0;",
    "nowhere[10000 + threadIdx.x] = 1.f": "an access through a null pointer (cuda_fwp_bad, block",
}


def ends(monkeypatch, code: str, flags: str) -> str:
    """What is said by the process that runs `code`."""
    from fwpbench.implementations.cuda_kernels import on_cpu

    text = f"""
        #include "portable.cuh"
        extern "C" __global__ void cuda_fwp_bad(float* out) {{
          const float* none = blockDim.x ? nullptr : out;
          float* nowhere = blockDim.x ? nullptr : out;
          __syncthreads();
          {code};
        }}
        EXPORT(cuda_fwp_bad)
        extern "C" void seed(unsigned) {{}}
    """
    monkeypatch.setenv("FWPBENCH_CUDA_ON_CPU_FLAGS", flags)
    on_cpu.library.cache_clear()
    command = ("tests/launch_on_cpu.py", str(on_cpu.library(text)), "bad", "32", "1", "0", "0")
    if "-fsanitize" in flags:
        done = watched(*command)
    else:
        done = subprocess.run(
            [sys.executable, *command], cwd=HERE.parent, capture_output=True, text=True, check=False
        )
    assert done.returncode != 0
    return done.stderr


@pytest.mark.parametrize("code", BAD | NULL)
def test_what_is_wrong_with_global_memory_is_found(monkeypatch, code):
    assert (BAD | NULL)[code] in ends(monkeypatch, code, FLAGS)


@pytest.mark.parametrize("code", NULL)
def test_a_null_pointer_is_named_without_a_sanitizer_too(monkeypatch, code):
    (said,) = ends(monkeypatch, code, "-O1").splitlines()
    assert said.startswith(f"CUDA on CPU: {NULL[code]}")
