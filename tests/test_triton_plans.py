"""The plans of the Triton kernels: which is chosen, and that each agrees wherever it may be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from fwpbench.harness.agreement import check
from fwpbench.harness.device import CpuDevice
from fwpbench.harness.gate import judge
from fwpbench.harness.golden import Truths
from fwpbench.harness.profiles import PROFILES
from fwpbench.harness.suite import Case, Setting
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations.triton_kernels.choice import (
    SEGMENT,
    chosen_plan,
    described,
    for_few_tokens,
    plans,
)
from fwpbench.implementations.triton_kernels.layouts import BLOCKS
from fwpbench.implementations.triton_kernels.plan import plan
from fwpbench.operators.operator import Operator
from fwpbench.operators.problem import Problem
from fwpbench.suites import timed
from fwpbench.suites.agreement import answer
from tests.tables import problem_of

TRITON = IMPLEMENTATIONS["triton"]
interpreted = pytest.mark.skipif(
    TRITON.missing() is not None or "cpu" not in TRITON.devices,
    reason=TRITON.missing() or "TRITON_INTERPRET=1 is not set",
)
truths = Truths()


# What is chosen


def sized(rule: str, **changes) -> Problem:
    norm = "l2" if "delta" in rule else "attention"
    phi = "identity" if "delta" in rule else "elu+1"
    sizes = {"B": 1, "T": 65536, "H": 16, "K": 128, "V": 128, "dtype": "bf16", "state": "none"}
    return problem_of(Operator(rule, phi, norm), **(sizes | changes))


@pytest.mark.parametrize(
    ("problem", "plan"),
    [
        (sized("delta", B=8, T=4096), "fused"),
        (sized("delta", B=1, T=4096), "prepared"),
        (sized("delta", T=65536), "prepared"),
        (sized("delta", T=32), "fused"),
        (sized("delta", H=2), "segmented-2048"),
        (sized("delta", H=2, direction="forward+backward"), "segmented-8192"),
        (sized("gated-delta", H=2, T=2048), "prepared"),
        (sized("decay", H=16), "segmented-16384"),
        (sized("sum", H=4, T=1024), "fused"),
        (sized("sum", H=4, T=2048), "segmented-512"),
        (sized("decay", H=64), "fused"),
        (sized("sum", K=256, V=256, dtype="fp32"), "wide"),
        (sized("delta", direction="decode", state="in+out"), "recurrent"),
    ],
    ids=str,
)
def test_the_plan_follows_from_the_shape(problem, plan):
    assert chosen_plan(problem, 132) == plan


def test_a_smaller_gpu_is_full_sooner():
    assert chosen_plan(sized("decay", H=16), 66) == "fused"


def test_every_chunk_divides_a_segment():
    for both in BLOCKS.values():
        for blocks in both:
            for by_width in blocks.values():
                assert all(SEGMENT % each.C == 0 for each in by_width.values())


def test_the_layouts_are_described():
    assert described(sized("decay", H=64)) == "fused: C=16 BV=64 warps=8"
    both = described(sized("delta", direction="forward+backward"))
    assert both == "prepared: C=16 BV=64 warps=8, backward C=16 BV=16 warps=8"
    assert described(sized("sum", K=256, V=256, dtype="fp32")) == "wide: C=16 BV=16 BD=32 warps=8"
    decoded = described(sized("delta", direction="decode", state="in+out"))
    assert decoded == "recurrent: BV=32 warps=4"


# Agreement, by name, where the shape would choose another


def by(plan: str):
    from fwpbench.implementations.triton_kernels.operator import run

    return lambda problem, inputs: run(problem, inputs, plan)


#: Every way that a state goes from segment to segment, there and back.
OPERATORS = [
    Operator("sum", "identity", "none"),
    Operator("sum", "elu+1", "attention"),
    Operator("decay", "elu+1", "attention"),
    Operator("gated", "dpfp-1", "sum+attention"),
    Operator("delta", "dpfp-1", "sum"),
    Operator("delta", "elu+1", "attention"),
    Operator("gated-delta", "identity", "l2"),
]
CASES = [("segmented", operator) for operator in OPERATORS]
CASES += [("prepared", operator) for operator in OPERATORS if "delta" in operator.rule]


def small(operator: Operator, **changes) -> Problem:
    sizes = {"B": 1, "T": 37, "H": 1, "K": 5 if "dpfp" in operator.phi else 10, "V": 7}
    rest = {"dtype": "fp32", "direction": "forward+backward"}
    return problem_of(operator, **(sizes | rest | changes))


def agrees(plan: str, problem: Problem, tokens: int = 16) -> None:
    plan = f"{plan}-{tokens}" if plan == "segmented" else plan
    agreement = check(by(plan), problem, truths(problem, 0))
    assert agreement.status == "ok", f"{plan} {problem}: {agreement.reason}"


@interpreted
@pytest.mark.oldest_triton
@pytest.mark.parametrize(("plan", "operator"), CASES, ids=str)
def test_every_plan_agrees(plan, operator):
    """Three segments, the last of them partial; also with value columns in more than one tile."""
    agrees(plan, small(operator, V=17 if "attention" in operator.norm else 7))


@interpreted
@pytest.mark.parametrize("T", [1, 16, 17, 33])
@pytest.mark.parametrize(("plan", "operator"), [CASES[2], CASES[5], CASES[8]], ids=str)
def test_every_length_agrees(plan, operator, T):
    """Heads of one token are many: of few numbers the yardstick may have all right by luck."""
    agrees(plan, small(operator, T=T, B=8 if T == 1 else 1, direction="forward"))


@interpreted
@pytest.mark.parametrize("state", ["none", "in", "out"])
@pytest.mark.parametrize(("plan", "operator"), [CASES[1], CASES[3], CASES[5]], ids=str)
def test_every_way_of_the_states_agrees(plan, operator, state):
    agrees(plan, small(operator, T=19, state=state))


@interpreted
@pytest.mark.parametrize(
    ("plan", "operator", "dtype"),
    [
        ("segmented", OPERATORS[1], "bf16"),
        ("segmented", OPERATORS[2], "fp16"),
        ("segmented", OPERATORS[5], "bf16"),
        ("prepared", OPERATORS[4], "fp16"),
        ("prepared", OPERATORS[6], "bf16"),
        ("segmented", OPERATORS[4], "tf32"),
        ("prepared", OPERATORS[4], "tf32"),
    ],
    ids=str,
)
def test_low_precision_agrees(plan, operator, dtype):
    agrees(plan, small(operator, T=67, V=16, dtype=dtype), tokens=64)


@interpreted
def test_many_segments_do_not_add_up_errors():
    """What goes from one to the next is as exact as float32."""
    problem = small(Operator("gated-delta", "identity", "l2"), T=330, V=16, dtype="bf16")
    agrees("segmented", problem.replace(direction="forward", inputs="realistic"), tokens=32)


@interpreted
@pytest.mark.parametrize("operator", OPERATORS[2:4] + OPERATORS[6:], ids=str)
def test_gates_may_be_exactly_0_and_1(operator):
    agrees("segmented", small(operator, inputs="saturated-gates", T=33))


@interpreted
@pytest.mark.parametrize(
    ("plan", "operator"), [("segmented-16", OPERATORS[5]), ("prepared", OPERATORS[6])], ids=str
)
def test_the_gate_with_its_laws(plan, operator):
    """A batch's rows do not meet, two halves make a whole, nothing is seen before its time, …"""
    problem = small(operator, direction="forward", inputs="realistic")
    agreement, laws = judge(by(plan), problem, truths(problem, 0), "cpu", TRITON.cannot)
    assert agreement.status == "ok", agreement.reason
    assert laws is not None
    assert not laws.broken


# The gate judges what only a long problem gets


@pytest.mark.parametrize(
    ("problem", "names"),
    [
        (sized("delta", T=37), ["fused", "prepared", "segmented"]),
        (sized("delta", T=65536, H=2), ["segmented", "fused", "prepared"]),
        (sized("decay", B=8, T=4096), ["fused", "segmented"]),
        (sized("sum", K=256, V=256, dtype="fp32"), ["wide"]),
        (sized("delta", direction="decode", state="in+out"), ["recurrent"]),
    ],
    ids=str,
)
def test_every_plan_that_its_operator_may_get_is_judged(problem, names):
    assert plans(problem) == names == list(TRITON.plans(problem, "cpu"))


@pytest.mark.parametrize("direction", ["forward", "forward+backward"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("rule", ["sum", "decay", "delta"])
def test_few_tokens_have_several_segments_of_whole_chunks(rule, dtype, direction):
    problem = sized(rule, T=131, K=32, dtype=dtype, direction=direction)
    tokens = int(for_few_tokens("segmented", problem).removeprefix("segmented-"))
    assert tokens <= 64
    for keeps, backward in ((False, False), (True, False), (False, True)):
        assert tokens % plan(problem, keeps=keeps, backward=backward).C == 0
    assert for_few_tokens("prepared", problem) == "prepared"


def forgetful(p, v, added, begin, *rest, **named) -> None:
    """A scan whose states end with it: every segment begins from nothing."""
    from fwpbench.implementations.triton_kernels.scan import scan

    scan(p, v, added, begin, *rest, **named)
    begin.zero_()


@pytest.fixture
def segments_forget(monkeypatch):
    """Tells when they begin to."""

    def begin() -> None:
        monkeypatch.setattr("fwpbench.implementations.triton_kernels.segmented.scan", forgetful)
        timed._gated.cache_clear()

    monkeypatch.setattr(timed, "GATE_TOKENS", 37)
    timed._gated.cache_clear()
    yield begin
    timed._gated.cache_clear()


CPU = Setting(CpuDevice(), PROFILES["quick"], 0)


@interpreted
@pytest.mark.parametrize("operator", [OPERATORS[1], OPERATORS[6]], ids=str)
def test_segments_that_forget_are_not_timed(operator, segments_forget):
    problem = small(operator)
    long = problem.replace(T=65536)
    assert chosen_plan(long).startswith("segmented")
    assert not chosen_plan(problem).startswith("segmented")
    assert timed.wrong(long, TRITON, CPU) is None
    segments_forget()
    why = timed.wrong(long, TRITON, CPU)
    assert why is not None
    assert why.status == "incorrect"
    assert why.detail["plan"] == "segmented"


@interpreted
def test_segments_that_forget_do_not_agree(segments_forget):
    """Though no problem of the agreement suite is long enough to get any."""
    case = Case(small(OPERATORS[1], direction="forward"))
    honest = answer(case, TRITON, CPU)
    assert honest.status == "ok"
    assert list(honest.detail["plans"]) == ["fused", "segmented"]
    segments_forget()
    wrong = answer(case, TRITON, CPU)
    assert wrong.status == "incorrect"
    assert wrong.reason.startswith("by the plan segmented: ")
    assert wrong.metrics["error ratio"].value > 1


# Compiled


STATES = "B=1 T=65536 H=2 direction=forward+backward state=in+out"
COMPILED = [
    f"{case} {STATES}"
    for case in (
        "segmented-512 rule=sum phi=elu+1 norm=attention K=64 V=64 dtype=bf16",
        "segmented-512 rule=sum phi=dpfp-1 norm=sum K=32 V=64 dtype=fp32",
        "segmented-512 rule=gated phi=elu+1 norm=sum+attention K=128 V=64 dtype=bf16",
        "segmented-512 rule=decay phi=relu norm=l2 K=64 V=64 dtype=fp16",
        "segmented-512 rule=delta phi=elu+1 norm=sum+attention K=128 V=64 dtype=bf16",
        "segmented-512 rule=delta phi=favor-8 norm=attention K=32 V=64 dtype=fp32",
        "segmented-512 rule=gated-delta phi=identity norm=l2 K=128 V=128 dtype=bf16",
        "segmented-512 rule=gated-delta phi=identity norm=l2 K=32 V=64 dtype=fp32",
        "segmented-512 rule=gated-delta phi=dpfp-2 norm=sum K=16 V=64 dtype=fp16",
        "prepared rule=delta phi=elu+1 norm=sum+attention K=64 V=64 dtype=bf16",
        "prepared rule=delta phi=dpfp-2 norm=sum+attention K=8 V=64 dtype=fp32",
        "prepared rule=delta phi=favor-64 norm=sum+attention K=64 V=64 dtype=bf16",
        "prepared rule=gated-delta phi=identity norm=l2 K=128 V=128 dtype=bf16",
        "prepared rule=gated-delta phi=favor-published-16 norm=sum K=64 V=64 dtype=fp16",
    )
]


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_nothing_is_spilled_on_sm_90():
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.compile_triton_plans", "90", *COMPILED],
        cwd=Path(__file__).parent.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kernels = [json.loads(line) for line in done.stdout.splitlines()]
    assert {k["case"] for k in kernels} == set(COMPILED)
    assert [k for k in kernels if k["stack"]] == []
    # Alone, a segment reads nothing: what only a query needs is gone when it is compiled.
    forward = [k for k in kernels if k["kernel"] == "fwp_chunk_forward" and "fp32" not in k["case"]]
    products = {(k["case"], k["alone"]): k["wgmma"] + k["mma"] for k in forward}
    for case, alone in products:
        assert not alone or products[case, True] < products[case, False]
