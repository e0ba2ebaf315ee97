"""`fwpbench check FILE.py:FUNCTION`: anybody's function, as it is, gets a verdict or a sentence."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fwpbench.cli import main
from fwpbench.commands import check
from fwpbench.harness.records import from_own_line
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.operators.errors import UserError
from fwpbench.operators.operator import Operator
from fwpbench.plain_function import SYNONYMS, PlainFunction

ROOT = Path(__file__).parent.parent
MINE = '''
import torch


def dpfp_1(x):
    r = torch.cat([x.relu(), (-x).relu()], -1)
    x = r * r.roll(1, -1)
    return x / (x.sum(-1, keepdim=True) + 1e-6)


def core(q, k, v, beta, S):
    """The delta rule alone: [B, T, H, ·], arithmetic in float32 or better."""
    dtype, read = v.dtype, []
    q, k, v = (x.to(beta.dtype) for x in (q, k, v))
    if S is None:
        S = v.new_zeros(*k.shape[:1], *k.shape[2:], v.shape[-1])
    for t in range(k.shape[1]):
        found = torch.einsum("bhdv,bhd->bhv", S, k[:, t])
        S = S + torch.einsum("bhd,bhv->bhdv", beta[:, t, :, None] * k[:, t], v[:, t] - found)
        read.append(torch.einsum("bhdv,bhd->bhv", S, q[:, t]))
    return torch.stack(read, 1).to(dtype), S


def delta(q, k, v, beta, initial_state=None):
    q, k = (dpfp_1(x.to(beta.dtype)) for x in (q, k))
    o, S = core(q, k, v.to(beta.dtype), beta, initial_state)
    return o.to(v.dtype), S


def without_state(q, k, v, beta):
    return delta(q, k, v, beta)[0]


def none_for_state(query, key, value, b):
    return without_state(query, key, value, b), None


def given(q, k, v, beta, S0=None):
    return core(q, k, v, beta, S0)


def head_first(q, k, v, beta, h0, *, scale, output_final_state=False):
    assert scale == 1 and output_final_state
    q, k, v, beta = (x.transpose(1, 2) for x in (q, k, v, beta))
    o, S = delta(q, k, v, beta, h0)
    return o.transpose(1, 2), S


def wide(q, k, v, beta):
    return without_state(*(x.float() for x in (q, k, v, beta)))


def late(q, k, v, beta, initial_state=None):
    """Wrong from token 65 on, as if written for one chunk."""
    kept = beta * (torch.arange(beta.shape[1]) < 64)[:, None]
    return delta(q, k, v, kept, initial_state)


def forgets_the_state(q, k, v, beta, initial_state=None):
    return delta(q, k, v, beta)


def detached(q, k, v, beta):
    return without_state(q, k, v, beta).detach()


def raises(q, k, v, beta):
    raise ValueError("not for me")


def another(q, k, v, beta, window): ...
def no_beta(q, k, v): ...
def gated(q, k, v, g): ...
def logarithmic(q, k, v, alpha_or_so=None, log_alpha=None): ...
def a_dict(q, k, v, beta): return {"o": v}
number = 3


def linear_attention(q, k, v, initial_state=None):
    """sum, elu+1, attention: the state is (S, z)."""
    dtype = v.dtype
    q, k = (torch.where(x > 0, x + 1, x.clamp(max=0).exp()) for x in (q.float(), k.float()))
    S = torch.einsum("bthd,bthv->bthdv", k, v.float()).cumsum(1)
    z = k.cumsum(1)
    if initial_state is not None:
        S, z = S + initial_state[0][:, None], z + initial_state[1][:, None]
    o = torch.einsum("bthdv,bthd->bthv", S, q)
    o = o / (torch.einsum("bthd,bthd->bth", z, q) + 1e-6)[..., None]
    return o.to(dtype), (S[:, -1], z[:, -1])


def log_decay(q, k, v, log_alpha, initial_state=None):
    """decay, identity, none, by the logarithm of its gate."""
    S, read = initial_state, []
    if S is None:
        S = v.new_zeros(v.shape[0], v.shape[2], k.shape[-1], v.shape[-1])
    for t in range(k.shape[1]):
        kv = torch.einsum("bhd,bhv->bhdv", k[:, t], v[:, t])
        S = S * log_alpha[:, t, :, None, None].exp() + kv
        read.append(torch.einsum("bhdv,bhd->bhv", S, q[:, t]))
    return torch.stack(read, 1), S


def sdpa(q, k, v, sm_scale):
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    o = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=sm_scale)
    return o.transpose(1, 2)
'''
DELTA = ["--rule", "delta", "--phi", "dpfp-1", "--norm", "sum", "--device", "cpu"]
SHORT = [*DELTA, "--dtype", "fp32", "--sizes", "T=65"]


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mine") / "mine.py"
    path.write_text(MINE, encoding="utf-8")
    return path


BEFORE = list(IMPLEMENTATIONS)


@pytest.fixture
def checked(mine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs `fwpbench check mine.py:…` beside the file; gives its exit code, output and errors."""
    monkeypatch.chdir(mine.parent)
    monkeypatch.setattr(check, "begin", lambda command: None)  # here: torch is imported already

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["check", *words])
        printed = capsys.readouterr()
        assert list(IMPLEMENTATIONS) == BEFORE, "nothing is left"
        return code, printed.out, printed.err

    return run


def test_from_the_start_to_a_verdict_takes_less_than_20_seconds(mine: Path) -> None:
    """Every default: both dtypes, five lengths, three input families, forward and gradients."""
    clock, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "fwpbench", "check", "mine.py:delta", *DELTA],
        cwd=mine.parent,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds, after = time.perf_counter() - clock, resource.getrusage(resource.RUSAGE_CHILDREN)
    # What a machine that does nothing else would take: others at work must not fail a test.
    alone = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{seconds:.1f} s from the command to the verdict, {alone:.1f} s of them computing")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "right: 60 of 60 problems\nnearest to its limit: " in done.stdout
    assert done.stderr == ""
    assert alone < 20


ENDING = """
import os, time, torch

def segfaults(q, k, v):
    import ctypes
    return ctypes.string_at(0)

def exits(q, k, v):
    os._exit(0)

def hangs(q, k, v):
    time.sleep(1000)

def at_65(q, k, v):
    return hangs(q, k, v) if q.shape[1] == 65 else v

def takes_everything(q, k, v):
    return [torch.zeros(2**40) for _ in range(2**20)][0]
"""
ENDS = {
    "segfaults": ("illegal-access: its process was ended by SIGSEGV", "nothing after that"),
    "exits": ("runtime-error: its process ended with exit code 0", "nothing after that"),
    "hangs": ("timeout: took longer than 2 s (--timeout gives more)", "nothing after that"),
    "at_65": ("timeout: took longer than 2 s (--timeout gives more)", "T=65 H=3"),
    "takes_everything": ("out-of-memory: ", "wrong: 4 of 4 problems"),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_function_that_ends_its_process_gets_a_verdict(name: str, tmp_path: Path) -> None:
    (tmp_path / "ending.py").write_text(ENDING, encoding="utf-8")
    words = ["--rule", "sum", "--dtype", "fp32", "--sizes", "T=9,65", "--inputs", "normal"]
    words += ["--device", "cpu", "--timeout", "2s"]
    clock = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "fwpbench", "check", f"ending.py:{name}", *words],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    print(f"{name}: {time.perf_counter() - clock:.1f} s: {done.stdout.splitlines()[:1]}")
    assert done.returncode == 1, done.stdout + done.stderr
    for sentence in ENDS[name]:
        assert sentence in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["segfaults", "at_65"])
def test_with_json_there_is_nothing_else_on_stdout(name: str, tmp_path: Path) -> None:
    """The last record is that of the problem that ended it; the first call of all has none."""
    (tmp_path / "ending.py").write_text(ENDING, encoding="utf-8")
    words = ["--rule", "sum", "--dtype", "fp32", "--sizes", "T=9,65", "--inputs", "normal"]
    words += ["--json", "--timeout", "2s"]
    done = subprocess.run(
        [sys.executable, "-m", "fwpbench", "check", f"ending.py:{name}", *words],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    records = [from_own_line(line) for line in done.stdout.splitlines()]
    if name == "segfaults":
        assert (records, ENDS[name][0] in done.stderr) == ([], True)
        return
    assert (records[-1].status, "T=65" in records[-1].command) == ("timeout", True)
    assert "took longer than 2 s" in records[-1].reason
    assert records[-1].implementation == "ending.py:at_65"


RIGHT = {
    "a state in and out": ("delta", SHORT, "saturated-gates │ in+out"),
    "no state": ("without_state", SHORT, "it returns no state: neither that nor its gradients"),
    "other names": ("none_for_state", SHORT, "it takes no initial_state"),
    "features given": ("given", [*SHORT, "--features", "given"], "right: 6 of 6"),
    "features given in bf16": (
        "given", [*DELTA, "--dtype", "bf16", "--sizes", "T=65", "--features", "given"], "6 of 6"
    ),
    "head first": ("head_first", [*SHORT, "--layout", "head-first"], "normal          │ in+out"),
    "a wider result": (
        "wide", [*DELTA, "--dtype", "bf16", "--sizes", "T=5"],
        "note: o comes in torch.float32 where torch.bfloat16 is asked for: converted",
    ),
    "S and z": (
        "linear_attention", ["--rule", "sum", "--phi", "elu+1", "--norm", "attention"],
        "right: ",  # at T = 1 without a state o is v, so that dq is 0 and nothing is to be judged
    ),
    "a logarithm": (
        "log_decay", ["--rule", "decay", "--dtype", "fp32", "--sizes", "T=65"],
        "long-decay is asked for saturated-gates",
    ),
    "softmax attention": (
        "sdpa", ["--rule", "softmax-attention", "--dtype", "fp32", "--sizes", "T=1,9"], "8 of 8"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_function_is_right_however_it_is_called(name: str, checked) -> None:
    function, words, sentence = RIGHT[name]
    code, out, err = checked(f"mine.py:{function}", *words)
    assert (code, err) == (0, ""), out
    assert sentence in out


WRONG = {
    "past a chunk": (
        "late", [*DELTA, "--dtype", "fp32", "--sizes", "T=64,65"],
        "wrong: 6 of 12 problems: in o, S, dq, dk, dv, dbeta, dS0; only at T=65",
    ),
    "the state left out": (
        "forgets_the_state", SHORT, "only at inputs=realistic,saturated-gates; only at state=in+out"
    ),
    "no gradient": (
        "detached", SHORT,
        "what it returns has no gradient: it is detached or computed under no_grad",
    ),
    "an exception": ("raises", SHORT, "runtime-error: ValueError: not for me (mine.py, line 68)"),
    "another layout": ("delta", [*SHORT, "--layout", "head-first"], "wrong: 6 of 6"),
    "the wrong rule": (
        "linear_attention", ["--rule", "sum", "--phi", "relu", "--norm", "attention"],
        "wrong: ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_function_is_wrong_and_it_is_said_where(name: str, checked) -> None:
    function, words, sentence = WRONG[name]
    code, out, err = checked(f"mine.py:{function}", *words)
    assert (code, err) == (1, "")
    assert sentence in out


def test_json_is_a_record_a_problem_whose_command_asks_it_again(checked) -> None:
    code, out, _ = checked("mine.py:late", *DELTA, "--sizes", "T=64,65", "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert (code, len(records)) == (1, 24)
    assert {record["implementation"] for record in records} == {"mine.py:late"}
    wrong = next(record for record in records if record["status"] == "incorrect")
    words = shlex.split(wrong["command"])
    assert words[:3] == ["fwpbench", "check", "mine.py:late"]
    _, again, _ = checked(*words[2:], "--json")
    (record,) = map(json.loads, again.splitlines())
    for field in ("problem", "status", "reason", "detail", "command"):
        assert record[field] == wrong[field]


REFUSED = {
    "no file": (["their.py:delta", *DELTA], "there is no file their.py. Python files beside it: "),
    "no function": (["mine.py:dleta", *DELTA], "no function named 'dleta'. Did you mean 'delta'?"),
    "no name": (["mine.py", *DELTA], "'mine.py' should be FILE.py:FUNCTION, as in"),
    "a number": (["mine.py:number", *DELTA], "mine.py: number is a int and cannot be called"),
    "a file that raises": (["raising.py:f", *DELTA], "raising.py, line 2: ZeroDivisionError: "),
    "a file that is not Python": (["syntax.py:f", *DELTA], "syntax.py, line 1: SyntaxError: "),
    "a package that is not there": (
        ["importing.py:f", *DELTA], "importing.py, line 3: ModuleNotFoundError: No module named"
    ),
    "no Python file": (["notes.txt:f", *DELTA], "notes.txt is no Python file"),
    "a parameter too many": (
        ["mine.py:another", *DELTA],
        "needs 'window', which cannot be filled for rule=delta phi=dpfp-1 norm=sum; it can be "
        "given q, k, v, beta, initial_state, return_state, scale, head_first. Rename it",
    ),
    "a gate too few": (
        ["mine.py:no_beta", *DELTA], "mine.py:no_beta has no parameter of that name (it has q, k, v"
    ),
    "a gate of two meanings": (
        ["mine.py:gated", "--rule", "decay"], "'g' is a gate in some libraries and its logarithm"
    ),
    "a gate too many": (
        ["mine.py:delta", "--rule", "sum"], "needs 'beta', which cannot be filled for rule=sum"
    ),
    "a dict": (["mine.py:a_dict", *DELTA], "all of them tensors; it returned a dict"),
    "no rule": (["mine.py:delta"], "which rule should mine.py:delta compute? For example"),
    "a rule": (["mine.py:delta", "--rule", "dleta"], "Did you mean 'delta'?"),
    "a dtype": (["mine.py:delta", *DELTA, "--dtype", "fp23"], "named 'fp23'. Did you mean 'fp32'?"),
    "a size": (["mine.py:delta", *DELTA, "--sizes", "N=3"], "--sizes is made of B, T, H, K and V"),
    "two sizes": (["mine.py:delta", *DELTA, "--sizes", "K=3,4"], "several T, and one K"),
    "inputs": (["mine.py:delta", *DELTA, "--inputs", "nomal"], "Did you mean 'normal'?"),
    "a filter": (["mine.py:delta", *DELTA, "--where", "T=3"], "--where chooses among what is"),
    "no file at all": (["--rule", "delta"], "--rule is for a function: fwpbench check FILE.py"),
    "nothing to judge": (
        ["mine.py:given", "--rule", "delta", "--inputs", "realistic", "--sizes", "T=131"],
        "nothing could be judged: rule=delta phi=identity norm=none: diverges unless",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_judged_is_a_sentence(name: str, checked) -> None:
    Path("raising.py").write_text("x = 1\nx / 0\n", encoding="utf-8")
    Path("syntax.py").write_text("def f(\n", encoding="utf-8")
    Path("importing.py").write_text("\n\nimport no_such_package\n", encoding="utf-8")
    Path("notes.txt").write_text("x", encoding="utf-8")
    words, sentence = REFUSED[name]
    code, out, err = checked(*words)
    assert (code, out) == (2, "")
    assert err.startswith("fwpbench: ")
    assert sentence in err
    assert err.count("\n") == 1


def test_every_synonym_is_filled_with_what_it_means() -> None:
    kda = Operator("kda", "favor-16", "l2")
    for what, names in SYNONYMS.items():
        for name in names:
            words = [other for other in ("q", "k", "v", "beta", "alpha", "projection")
                     if other != what and (what, other) != ("log_alpha", "alpha")]  # fmt: skip
            space: dict[str, object] = {}
            exec(f"def f({', '.join([*words, name])}): ...", space)
            plain = PlainFunction(space["f"], "f", kda)  # type: ignore[arg-type]
            assert plain._parameters[name] == what


def test_positional_parameters_and_keywords_of_any_name_are_filled() -> None:
    operator = Operator("delta", "identity", "l2")

    def positional(q, k, v, /, **rest):
        assert list(rest) == ["beta"]
        return v

    plain = PlainFunction(positional, "f", operator)
    assert not plain.takes_state
    with pytest.raises(UserError, match="cannot be read: wrap it"):
        PlainFunction(torch.add, "add", operator)


def test_the_documented_names_are_those_that_are_known() -> None:
    import fwpbench.plain_function as described

    for names in SYNONYMS.values():
        for name in names:
            assert name in re.findall(r"\w+", described.__doc__ or "")
