"""Every implementation keeps every law, wherever it says it can."""

from __future__ import annotations

import pytest
import torch

from fwpbench.harness.agreement import check
from fwpbench.harness.golden import Truths, named
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.operators.inputs import Inputs, make_inputs
from fwpbench.operators.state import State
from tests.comparison import assert_close
from tests.tables import OPERATORS, able, problem_of

truths = Truths()
ORDER_FREE = [(name, operator) for name, operator in able() if operator.update_rule.order_free]


#: Every implementation with every operator of the table that it does.
every = pytest.mark.parametrize(("name", "operator"), able(), ids=str)


def cut(inputs: Inputs, at: slice, state: State | None) -> Inputs:
    return inputs._replace(
        q=inputs.q[:, at],
        k=inputs.k[:, at],
        v=inputs.v[:, at],
        gates={name: gate[:, at] for name, gate in inputs.gates.items()},
        mask=None if inputs.mask is None else inputs.mask[:, at],
        state=state,
    )


@pytest.mark.parametrize("operator", OPERATORS, ids=str)
def test_every_operator_is_scored_on_normal_and_realistic_inputs(operator):
    """In fp32, with every gradient: evidence, and right, for whoever can (the reference always)."""
    for inputs in ("normal", "realistic"):
        problem = problem_of(
            operator, B=1, T=67, H=2, K=16, V=12, dtype="fp32", inputs=inputs,
            direction="forward+backward",
        )  # fmt: skip
        for name, implementation in IMPLEMENTATIONS.items():
            if implementation.refuses(problem) is None:
                agreement = check(implementation.run, problem, truths(problem, 0))
                assert (agreement.status, agreement.evidence) == ("ok", True), (
                    f"{name}: {agreement.reason}"
                )


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@every
def test_low_precision_agrees(name, operator, dtype):
    for direction in ("forward", "decode"):
        problem = problem_of(operator, dtype=dtype, direction=direction, K=16)
        agreement = check(IMPLEMENTATIONS[name].run, problem, truths(problem, 1))
        assert agreement.status == "ok", agreement.reason


@pytest.mark.parametrize("T", [1, 2, 63, 64, 65, 131])
@pytest.mark.parametrize(("name", "operator"), able(["chunked", "torch-sdpa"]), ids=str)
def test_any_length_agrees(name, operator, T):
    """Around the borders of a chunk, from an initial state and from none."""
    for state in ("out", "in+out"):
        problem = problem_of(operator, B=1, T=T, H=2, state=state)
        given = make_inputs(problem, seed=T)
        law = IMPLEMENTATIONS["reference"].run(problem, given)
        assert_close(named(IMPLEMENTATIONS[name].run(problem, given)), named(law), within=1e-10)


@every
def test_two_halves_make_a_whole(name, operator):
    whole = problem_of(operator, T=70)
    implementation, given = IMPLEMENTATIONS[name], make_inputs(whole, seed=4)
    wanted = implementation.run(whole, given)
    for at in (1, 35, 64, 69):
        first = implementation.run(whole.replace(T=at), cut(given, slice(at), given.state))
        rest = whole.replace(T=70 - at)
        second = implementation.run(rest, cut(given, slice(at, None), first.state))
        got = named(second) | {"o": torch.cat([first.o, second.o], dim=1)}
        assert_close(got, named(wanted), within=1e-10)


@every
def test_no_token_sees_a_later_one(name, operator):
    problem = problem_of(operator, T=70)
    implementation, given = IMPLEMENTATIONS[name], make_inputs(problem, seed=5)
    before = implementation.run(problem, given).o
    for t in (0, 33, 64, 69):
        changed = given._replace(k=given.k.clone(), v=given.v.clone())
        changed.k[:, t] += 1
        changed.v[:, t] -= 2
        after = implementation.run(problem, changed).o
        assert_close({"o": after[:, :t]}, {"o": before[:, :t]}, within=1e-13)
        assert not torch.equal(after[:, t], before[:, t])


@every
def test_rows_of_a_batch_and_heads_do_not_meet(name, operator):
    """Permuting rows and heads of the inputs permutes those of the outputs, and nothing else."""
    problem = problem_of(operator)
    implementation, given = IMPLEMENTATIONS[name], make_inputs(problem, seed=6)
    rows, heads = torch.tensor([1, 0]), torch.tensor([2, 0, 1])

    def permuted(x):
        return None if x is None else x[rows][:, :, heads]

    def permuted_state(x):
        return None if x is None else x[rows][:, heads]

    turned = given._replace(
        q=permuted(given.q),
        k=permuted(given.k),
        v=permuted(given.v),
        gates={name: permuted(gate) for name, gate in given.gates.items()},
        state=State(permuted_state(given.state.S), permuted_state(given.state.z)),
    )
    wanted, got = implementation.run(problem, given), implementation.run(problem, turned)
    assert_close({"o": got.o}, {"o": permuted(wanted.o)}, within=1e-12)
    assert_close({"S": got.state.S}, {"S": permuted_state(wanted.state.S)}, within=1e-12)


@every
def test_inputs_are_left_alone(name, operator):
    problem = problem_of(operator)
    implementation, given = IMPLEMENTATIONS[name], make_inputs(problem, seed=7)
    implementation.run(problem, given)
    again = make_inputs(problem, seed=7)
    for mine, fresh in zip((*given[:3], *given.state), (*again[:3], *again.state), strict=True):
        assert mine is fresh or torch.equal(mine, fresh)
    assert all(torch.equal(given.gates[gate], again.gates[gate]) for gate in given.gates)


@every
def test_only_writing_gives_the_same_state(name, operator):
    problem = problem_of(operator)
    implementation, given = IMPLEMENTATIONS[name], make_inputs(problem, seed=8)
    wanted = implementation.run(problem, given).state
    output = implementation.run(problem.replace(reads=False), given._replace(q=None))
    assert output.o is None
    assert_close({"S": output.state.S}, {"S": wanted.S}, within=1e-12)


@pytest.mark.parametrize(
    ("name", "operator", "causal"),
    [(*pair, True) for pair in able()] + [(*pair, False) for pair in ORDER_FREE],
    ids=str,
)
def test_a_masked_token_is_as_if_it_were_not_there(name, operator, causal):
    """Dropping the masked tokens of one row gives the outputs of those that are left."""
    keeps_tokens = operator.update_rule.keeps_tokens
    problem = problem_of(
        operator, B=1, masked=True, causal=causal, state="in" if keeps_tokens else "in+out"
    )
    implementation, given = IMPLEMENTATIONS[name], make_inputs(problem, seed=9)
    keep = given.mask[0]
    assert 0 < keep.sum() < len(keep)
    got = implementation.run(problem, given)
    left = problem.replace(T=int(keep.sum()), masked=False)
    wanted = implementation.run(left, cut(given, keep, given.state)._replace(mask=None))
    assert_close({"o": got.o[:, keep]}, {"o": wanted.o}, within=1e-10)
    if not keeps_tokens:
        assert_close({"S": got.state.S}, {"S": wanted.state.S}, within=1e-10)


@pytest.mark.parametrize(("name", "operator"), ORDER_FREE, ids=str)
def test_without_causality_the_order_of_the_tokens_does_not_matter(name, operator):
    problem = problem_of(operator, causal=False)
    implementation, given = IMPLEMENTATIONS[name], make_inputs(problem, seed=10)
    order = torch.randperm(problem.T, generator=torch.Generator().manual_seed(0))
    wanted = implementation.run(problem, given).o
    turned = given._replace(k=given.k[:, order], v=given.v[:, order])
    assert_close({"o": implementation.run(problem, turned).o}, {"o": wanted}, within=1e-12)


def test_what_chunked_saves_for_the_backward_pass_grows_with_T_not_with_T_D_V():
    """Twice the tokens need twice the memory, a small part of one state a token."""

    def saved_bytes(T: int, operator) -> int:
        problem = problem_of(
            operator, B=1, T=T, H=1, K=64, V=128, dtype="fp32",
            direction="forward+backward", state="none",
        )  # fmt: skip
        given = make_inputs(problem, seed=0)
        leaves = [given.q, given.k, given.v, *given.gates.values()]
        for leaf in leaves:
            leaf.requires_grad_()
        storages: dict[int, int] = {}

        def pack(x):
            storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            output = IMPLEMENTATIONS["chunked"].run(problem, given)
        assert output.o.requires_grad
        return sum(storages.values())

    for _, operator in able(["chunked"]):
        short, long = saved_bytes(512, operator), saved_bytes(1024, operator)
        assert 1.8 < long / short < 2.2, operator
        D = operator.feature_map.size(64)
        assert long < 0.5 * 1024 * D * 128 * 4, operator
