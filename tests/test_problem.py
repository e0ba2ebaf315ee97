"""Laws of the problem grammar: what it prints it reads, and as a filter it finds it again."""

from __future__ import annotations

import operator as comparisons
from contextlib import suppress
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fwpbench.operators import FEATURE_MAPS, INPUT_FAMILIES, NORMALIZATIONS, UPDATE_RULES
from fwpbench.operators.errors import UserError
from fwpbench.operators.operator import enumerate_operators
from fwpbench.operators.problem import DEFAULTS, DIRECTIONS, DTYPES, STATES, Problem, field_names
from fwpbench.operators.where import Where

PROBLEM = Problem(
    rule="delta", phi="dpfp-3", norm="sum", B=8, T=4096, H=16, K=64, V=63,
    dtype="bf16", direction="forward+backward",
)  # fmt: skip
HUNDRED = settings(max_examples=150, deadline=None, derandomize=True)

operators = st.sampled_from(enumerate_operators()[0])
sizes = st.integers(1, 4) | st.integers(1, 10**12 - 1)
values: dict[str, st.SearchStrategy[Any]] = {
    "rule": st.sampled_from(list(UPDATE_RULES)),
    "phi": st.sampled_from([*FEATURE_MAPS, "favor-1", "dpfp-31"]),
    "norm": st.sampled_from(list(NORMALIZATIONS)),
    **dict.fromkeys("BTH", sizes),
    "K": st.sampled_from([1, 2, 16, 64, 10**6]),
    "V": sizes,
    "dtype": st.sampled_from(list(DTYPES)),
    "direction": st.sampled_from(DIRECTIONS),
    "state": st.sampled_from(STATES),
    "inputs": st.sampled_from(list(INPUT_FAMILIES)),
    "causal": st.booleans(),
    "masked": st.booleans(),
    "reads": st.booleans(),
}


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Drawn field by field; what an earlier one rules out is mended."""
    drawn = {name: draw(strategy) for name, strategy in values.items()}
    operator = draw(operators)
    drawn |= {"rule": operator.rule, "phi": operator.phi, "norm": operator.norm}
    if operator.feature_map.refuses_size(drawn["K"]):
        drawn["K"] = 64
    if drawn["direction"] == "decode":
        drawn["state"] = draw(st.sampled_from(["none", "in+out"]))
    written = "out" in drawn["state"] or drawn["direction"] == "decode"
    drawn["causal"] |= not operator.update_rule.order_free
    drawn["reads"] |= not written
    drawn["masked"] &= not (operator.update_rule.keeps_tokens and written)
    return Problem(**drawn)


def test_every_field_is_drawn() -> None:
    assert list(values) == field_names()


# Printing and reading


@HUNDRED
@given(problems(), st.randoms(use_true_random=False))
def test_a_problem_is_read_as_it_is_printed_in_any_order(problem: Problem, chance: Any) -> None:
    words = str(problem).split()
    assert Problem.parse(str(problem)) == problem
    assert str(Problem.parse(str(problem))) == str(problem)
    chance.shuffle(words)
    assert Problem.parse(" ".join(words)) == problem
    assert Problem.parse(problem.every_word) == problem
    assert hash(Problem.parse(problem.every_word)) == hash(problem)


@HUNDRED
@given(problems())
def test_what_is_the_default_is_not_printed(problem: Problem) -> None:
    assert len(problem.every_word.split()) == len(fields(Problem))
    for name, value in DEFAULTS.items():
        if name != "state" or problem.direction != "decode":
            assert (f" {name}=" in str(problem)) == (getattr(problem, name) != value)


def test_a_problem_reads_as_in_the_manual() -> None:
    text = (
        "rule=delta phi=dpfp-3 norm=sum B=8 T=4096 H=16 K=64 V=63 dtype=bf16 "
        "direction=forward+backward"
    )
    assert str(PROBLEM) == text
    assert PROBLEM.every_word == f"{text} state=none inputs=normal causal=yes masked=no reads=yes"


BAD = {
    "rule": ("no update rule named 'dleta'. Did you mean 'delta'?", "dleta"),
    "phi": ("no feature map named 'dpfp-0'", "dpfp-0"),
    "norm": ("no normalization named 'l3'. Did you mean 'l2'?", "l3"),
    "dtype": ("no dtype named 'fp23'. Did you mean 'fp32'?", "fp23"),
    "direction": ("no direction named 'backward'", "backward"),
    "state": ("no state named 'out+in'", "out+in"),
    "inputs": ("no inputs named 'norml'. Did you mean 'normal'?", "norml"),
    "causal": ("causal is yes or no", "True"),
    "masked": ("masked is yes or no", ""),
    "reads": ("reads is yes or no", "1"),
    **{axis: (f"{axis} must be a whole number of at least 1", "0") for axis in "BTHKV"},
}


@pytest.mark.parametrize("name", field_names())
def test_a_value_that_does_not_exist_is_refused_with_a_sentence(name: str) -> None:
    sentence, value = BAD[name]
    words = [f"{name}={value}", *(w for w in str(PROBLEM).split() if not w.startswith(f"{name}="))]
    with pytest.raises(UserError) as raised:
        Problem.parse(" ".join(words))
    assert str(raised.value).startswith(sentence)


@pytest.mark.parametrize("size", ["-1", "1.0", "1e3", "", "x", "٣", "1_000", "+1", "9" * 13])
def test_a_size_is_a_whole_number(size: str) -> None:
    with pytest.raises(UserError, match="whole number"):
        Problem.parse(str(PROBLEM).replace("T=4096", f"T={size}"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "a problem needs rule, phi"),
        (str(PROBLEM).replace(" T=4096", ""), "a problem needs T too"),
        (f"{PROBLEM} T=1", "T is given twice"),
        (f"{PROBLEM} fast", "'fast' is not of the form name=value"),
        (
            f"{PROBLEM} imputs=normal",
            "no field of a problem named 'imputs'. Did you mean 'inputs'?",
        ),
        (f"{PROBLEM} =", "no field of a problem named ''"),
    ],
)
def test_a_sentence_that_is_no_problem_says_why(text: str, sentence: str) -> None:
    with pytest.raises(UserError) as raised:
        Problem.parse(text)
    assert str(raised.value).startswith(sentence)


@HUNDRED
@given(st.text(max_size=30), st.integers(0, 90))
def test_any_text_is_a_problem_or_a_sentence(noise: str, place: int) -> None:
    whole = str(PROBLEM)
    for text in (noise, whole[:place] + noise + whole[place:]):
        with suppress(UserError):
            Problem.parse(text)
        with suppress(UserError):
            Where(text).matches(PROBLEM)


@pytest.mark.parametrize(
    "changes",
    [
        *({"T": size} for size in (0, -1)),
        {"state": "in", "direction": "decode"},
        {"causal": False},
        {"reads": False},
        {"phi": "tanh"},
        {"phi": "dpfp-128"},
        {
            "rule": "softmax-attention",
            "phi": "identity",
            "norm": "none",
            "masked": True,
            "state": "out",
        },
    ],
    ids=str,
)
def test_what_makes_no_sense_cannot_be_made(changes: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        PROBLEM.replace(**changes)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("T", size) for size in (1.0, True, "1", None)),
        *((name, value) for name in ("causal", "masked", "reads") for value in ("no", 0, None)),
    ],
)
def test_a_value_of_another_type_is_refused_where_types_are_not_checked(
    name: str, value: Any
) -> None:
    """`causal="no"` is true, and must not be taken for that."""
    problem = object.__new__(Problem)  # not by __init__, whose types the tests check
    for field in fields(Problem):
        object.__setattr__(problem, field.name, getattr(PROBLEM, field.name))
    object.__setattr__(problem, name, value)
    with pytest.raises(UserError, match=name):
        problem.__post_init__()


def test_decoding_takes_one_token_and_carries_its_state() -> None:
    decode = PROBLEM.replace(direction="decode")
    assert (decode.tokens, decode.state, decode.state_in, decode.state_out) == (
        1,
        "in+out",
        True,
        True,
    )
    assert decode == PROBLEM.replace(direction="decode", state="in+out")


# Filters


@HUNDRED
@given(problems(), problems())
def test_every_word_lets_only_this_problem_pass(one: Problem, other: Problem) -> None:
    assert Where(one.every_word).matches(one)
    assert Where(one.every_word).matches(other) == (one == other)


@HUNDRED
@given(problems(), st.data())
def test_a_change_of_one_field_does_not_pass_every_word(
    problem: Problem, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(field_names()))
    try:
        other = problem.replace(**{name: data.draw(values[name])})
    except UserError:
        assume(False)
    assert Where(problem.every_word).matches(other) == (problem == other)


@HUNDRED
@given(problems(), st.sampled_from(field_names()), st.data())
def test_not_equal_is_the_opposite_of_equal(
    problem: Problem, name: str, data: st.DataObject
) -> None:
    value = data.draw(values[name])
    text = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
    passes = Where(f"{name}={text}").matches(problem)
    assert passes == (getattr(problem, name) == value)
    assert Where(f"{name}!={text}").matches(problem) != passes


SIGNS = {
    "<": comparisons.lt, "<=": comparisons.le, ">": comparisons.gt, ">=": comparisons.ge,
    "=": comparisons.eq, "!=": comparisons.ne,
}  # fmt: skip


@pytest.mark.parametrize("axis", "BTHKV")
@pytest.mark.parametrize("sign", SIGNS)
def test_sizes_compare_as_numbers(axis: str, sign: str) -> None:
    for size in (7, 9, 10, 11, 100):
        for written in ("10", "010"):
            passes = Where(f"{axis}{sign}{written}").matches(PROBLEM.replace(**{axis: size}))
            assert passes == SIGNS[sign](size, 10)


def test_the_empty_filter_lets_everything_pass() -> None:
    assert Where("").matches(PROBLEM)
    assert Where("  ").matches(PROBLEM)


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("rule=sum,delta", True),
        ("rule=sum,gated", False),
        ("rule!=sum,delta", False),
        ("rule!=sum,gated", True),
        ("phi=dpfp-*", True),
        ("phi=favor-*,dpfp-*", True),
        ("phi!=dpfp-*", False),
        ("rule=*delta", True),
        ("T=1,4096", True),
        ("T!=1,4096", False),
        ("T>=1024 T<8192 rule=delta", True),
        ("T>=1024 T<4096 rule=delta", False),
        ("state=none causal=yes masked=no", True),
        ("inputs=realistic", False),
    ],
)
def test_filters_mean_what_the_help_says(text: str, passes: bool) -> None:
    assert Where(text).matches(PROBLEM) == passes


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("rule", "'rule' is not a condition"),
        ("rule=", "'rule=' is not a condition"),
        ("=delta", "'=delta' is not a condition"),
        ("rule==delta", "no update rule named '=delta'"),
        ("role=delta", "no field of a problem named 'role'. Did you mean 'rule'?"),
        ("rule=dleta", "no update rule named 'dleta'. Did you mean 'delta'?"),
        ("rule=delta,smu", "no update rule named 'smu'. Did you mean 'sum'?"),
        ("rule=delta,", "no update rule named ''"),
        ("phi=elu+", "no feature map named 'elu+'. Did you mean 'elu+1'?"),
        ("norm!=l1", "no normalization named 'l1'"),
        ("dtype=float32", "no dtype named 'float32'"),
        ("T>=", "T must be a whole number"),
        ("T", "'T' is not a condition"),
        ("T=x", "T must be a whole number"),
        ("T=0", "T must be a whole number of at least 1"),
        ("T<1,2", "T< takes one number"),
        ("causal=true", "causal is yes or no"),
        ("rule>sum", "rule is a word"),
        ("dtype<=fp32", "dtype is a word"),
    ],
)
def test_a_filter_that_means_nothing_says_why(text: str, sentence: str) -> None:
    with pytest.raises(UserError) as raised:
        Where(text)
    assert str(raised.value).startswith(sentence)


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("trial=1", True),
        ("trial=0,1", True),
        ("trial=0", False),
        ("trial!=0", True),
        ("trial>=1 load<0.3", True),
        ("load>0.3", False),
        ("data=grammar", True),
        ("data=gram*", True),
        ("data!=grammar", False),
        ("data>1", False),
        ("pairs=3", False),  # a case without pairs has no value of it
        ("rule=delta trial=1", True),
    ],
)
def test_a_filter_may_speak_of_what_a_suite_varies_besides(text: str, passes: bool) -> None:
    parameters = {"trial": 1, "load": 0.25, "data": "grammar"}
    where = Where(text, frozenset({*parameters, "pairs"}))
    assert where.matches(PROBLEM.replace(rule="delta"), parameters) == passes


@pytest.mark.parametrize("text", ["trial>two", "trial<1,2", "trail=1"])
def test_a_condition_on_a_parameter_is_checked(text: str) -> None:
    with pytest.raises(UserError, match="trial"):
        Where(text, frozenset({"trial"}))
