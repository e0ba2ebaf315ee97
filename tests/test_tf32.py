"""tf32 by name: its rounding, what it is judged by, and that nobody has it without saying so."""

from __future__ import annotations

import pytest
import torch

import fwpbench
from fwpbench.cli import main
from fwpbench.harness.agreement import check, yardstick_of
from fwpbench.harness.attention import STORED
from fwpbench.harness.golden import Truths
from fwpbench.harness.roofline import _at_least
from fwpbench.harness.yardstick import rounded_chunks
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations.base import Output
from fwpbench.operators.cost import compulsory_bytes
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import DTYPES
from fwpbench.operators.rounding import rounded
from tests.tables import VARIED, problem_of

truths = Truths(16)
TIE, LAST = 2.0**-11, 2.0**-23
LARGEST = torch.finfo(torch.float32).max
#: A float32, and the tf32 nearest to it.
ROUNDED = {
    0.0: 0.0,
    1.0: 1.0,
    1 + 2 * TIE: 1 + 2 * TIE,
    1 + TIE - LAST: 1.0,
    1 + TIE: 1 + 2 * TIE,  # a tie goes away from zero
    1 + TIE + LAST: 1 + 2 * TIE,
    1 + 3 * TIE: 1 + 4 * TIE,
    2 - LAST: 2.0,  # into the next power of two
    3 + 2 * TIE - 2 * LAST: 3.0,
    2.0**-126: 2.0**-126,
    2.0**-149: 0.0,  # below the least number of tf32, 2⁻¹³⁶
    2.0**-137: 2.0**-136,
    LARGEST: float("inf"),
    float("inf"): float("inf"),
}


def test_the_nearest_number_of_tf32_ties_away_from_zero():
    given = torch.tensor(list(ROUNDED), dtype=torch.float32)
    wanted = torch.tensor(list(ROUNDED.values()), dtype=torch.float32)
    assert given.double().tolist() == list(ROUNDED), "the table has numbers that are no float32"
    for sign in (1, -1):
        assert rounded(sign * given, "tf32").tolist() == (sign * wanted).tolist()
    # A NaN of ones alone, as GPUs make it: added to, it would become a 0.
    nans = torch.tensor([0x7FC00000, 0x7FFFFFFF, -1], dtype=torch.int32).view(torch.float32)
    assert rounded(nans, "tf32").isnan().all()


def test_rounding_is_that_of_eleven_binary_digits_in_float64():
    """Of numbers of all sizes: the mantissa times 2¹¹, and half of one, without what is after the
    point."""
    bits = torch.randint(-(2**31), 2**31, (100_000,), generator=torch.Generator().manual_seed(0))
    x = bits.to(torch.int32).view(torch.float32)
    x = x[x.isfinite() & (x.abs() >= 2.0**-126)]
    mantissa, exponent = torch.frexp(x.double())
    digits = (mantissa.abs() * 2**11 + 0.5).floor() * mantissa.sign()
    assert torch.equal(rounded(x, "tf32"), torch.ldexp(digits / 2**11, exponent).float())


def test_every_number_of_fp16_is_one_of_tf32():
    halves = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.float16)
    halves = halves[halves.isfinite()].float()
    assert torch.equal(rounded(halves, "tf32"), halves)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_was_rounded_is_not_rounded_again(dtype):
    x = torch.randn(1000, generator=torch.Generator().manual_seed(1))
    once = rounded(x, dtype)
    assert once.dtype == x.dtype
    assert torch.equal(rounded(once, dtype), once)
    assert torch.equal(once, x) == (dtype in ("fp32", "fp64"))


@pytest.mark.parametrize("operator", VARIED, ids=str)
def test_it_is_the_problem_of_fp32_with_an_error_between_those_of_fp32_and_bf16(operator):
    """The same inputs, the same golden; more error is allowed in o than in fp32, less than in
    bf16."""
    problem = problem_of(operator, B=1, K=16, dtype="tf32", inputs="realistic")
    found = {each: truths(problem.replace(dtype=each), 0) for each in ("fp32", "tf32", "bf16")}
    for name, golden in found["tf32"].golden.items():
        assert torch.equal(golden, found["fp32"].golden[name])
    errors = {each: yardstick_of(truth, "o")[0] for each, truth in found.items()}
    assert 16 * errors["fp32"] < errors["tf32"] < errors["bf16"] / 2
    assert compulsory_bytes(problem) == compulsory_bytes(problem.replace(dtype="fp32"))


@pytest.mark.parametrize(("asked", "under"), [("bf16", "tf32"), ("tf32", "fp32")])
def test_products_of_another_dtype_are_wrong(asked, under):
    """bf16 under the name of tf32, and tf32 under that of fp32."""
    operator = Operator("gated-delta", "identity", "l2")
    problem = problem_of(operator, B=1, T=67, K=16, dtype=under, inputs="realistic")
    run, truth = rounded_chunks(64), truths(problem, 0)

    def under_another_name(problem, inputs):
        o, state = run(problem.replace(dtype=asked), inputs)
        return Output(o.float(), state)

    assert check(under_another_name, problem, truth).status == "incorrect"
    assert check(run, problem, truth).status == "ok"


def test_nobody_has_it_without_saying_so():
    """Whoever is not declared to round operands refuses, on every device, before it is asked."""
    problem = problem_of(Operator("sum", "elu+1", "attention"), dtype="tf32")
    mine = fwpbench.Implementation(lambda problem, inputs: None, "a plugin's")
    for implementation in (mine, *map(IMPLEMENTATIONS.__getitem__, ("reference", "chunked"))):
        for device in ("cpu", "cuda"):
            assert "no tf32" in implementation.refuses(problem, device)
            assert implementation.refuses(problem.replace(dtype="fp32"), device) is None
    theirs = fwpbench.Implementation(mine.run, "another's", tf32=True)
    assert theirs.refuses(problem) is None


def test_tensors_of_float32_are_never_taken_for_tf32():
    assert STORED[torch.float32] == "fp32"
    assert set(STORED.values()) == set(DTYPES) - {"tf32"}


def test_the_peak_it_is_held_against_is_that_of_fp32():
    assert _at_least("tf32") == _at_least("fp32") == ["float32"]
    assert _at_least("bf16") == ["bfloat16", "float32"]


def test_check_finds_it_in_the_standard_profile_and_says_who_has_none(monkeypatch, capsys):
    """Without --profile: quick asks fp32 alone. (Planned for one operator, not for hundreds.)"""
    one = [Operator("sum", "relu", "l2")]
    monkeypatch.setattr("fwpbench.suites.agreement.enumerate_operators", lambda: (one, []))
    where = "dtype=tf32 inputs=normal direction=forward"
    words = ["check", "--implementations", "reference,chunked", "--where", where, "--device", "cpu"]
    assert main(words) == 0
    assert "it has no tf32" in capsys.readouterr().out
    assert main([*words, "--profile", "quick"]) == 2
    assert "no case of agreement (profile quick)" in capsys.readouterr().err


FILE = """
from fwpbench.operators.rounding import rounded


def mine(q, k, v, in_bf16=False):
    \"\"\"The sum rule, its products in tf32.\"\"\"
    dtype = "bf16" if in_bf16 else "tf32"
    q, k, v = (rounded(x, dtype) for x in (q, k, v))
    scores = torch.einsum("bthk,bshk->bhts", q, k).tril()
    return torch.einsum("bhts,bshv->bthv", rounded(scores, dtype), v)


def worse(q, k, v):
    return mine(q, k, v, in_bf16=True)
"""


@pytest.mark.parametrize(("function", "code"), [("mine", 0), ("worse", 1)])
def test_a_function_is_asked_for_tf32_by_name(function, code, tmp_path, capsys):
    (tmp_path / "mine.py").write_text("import torch\n" + FILE)
    words = ["check", f"{tmp_path / 'mine.py'}:{function}", "--rule", "sum", "--dtype", "tf32"]
    assert main([*words, "--direction", "forward", "--sizes", "T=33,67"]) == code
    assert "tf32" in capsys.readouterr().out
