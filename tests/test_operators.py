"""The vocabulary: every row has a formula, a source and a width; nonsense has a reason."""

from __future__ import annotations

import math
import re

import pytest
import torch

from fwpbench.commands import list as listing
from fwpbench.operators import FEATURE_MAPS, INPUT_FAMILIES, NORMALIZATIONS, UPDATE_RULES
from fwpbench.operators.errors import UserError
from fwpbench.operators.feature_maps import orthogonal_projection
from fwpbench.operators.inputs import make_inputs
from fwpbench.operators.operator import Operator, enumerate_operators, undefined
from tests.tables import SENSELESS, VARIED, problem_of


@pytest.mark.parametrize(
    "rows", [listing.feature_maps, listing.update_rules, listing.normalizations]
)
def test_every_row_has_a_formula_and_a_source(rows):
    for row in rows():
        assert row["formula"], row
        assert row["source"], row


@pytest.mark.parametrize("name", FEATURE_MAPS)
def test_feature_maps_are_as_wide_and_as_positive_as_they_say(name):
    feature_map = FEATURE_MAPS[name]
    for K in (4, 7, 16):
        if feature_map.refuses_size(K) is not None:
            continue
        generator = torch.Generator().manual_seed(K)
        x = torch.randn(50, K, generator=generator, dtype=torch.float64)
        M = feature_map.projection_columns
        projection = None if M is None else orthogonal_projection(K, M, generator)
        phi = feature_map(x, projection)
        assert phi.shape == (50, feature_map.size(K))
        assert (phi.min() >= 0) == feature_map.nonnegative
        scaled = feature_map(x, projection, scaled_query=True)
        if feature_map.queries is None:
            assert torch.equal(scaled, phi)
        else:  # one factor a query
            factor = (phi * scaled).sum(-1, keepdim=True) / phi.square().sum(-1, keepdim=True)
            torch.testing.assert_close(scaled, factor * phi)


def test_dpfp_is_the_published_one():
    """Schlag et al. 2021, appendix C: feature (j, i) is u_i · u_(i−j), u = [relu(x); relu(−x)]."""
    x = torch.tensor([1.0, -2.0, 3.0])
    u = [1.0, 0.0, 3.0, 0.0, 2.0, 0.0]
    wanted = [u[i] * u[(i - j) % 6] for j in (1, 2) for i in range(6)]
    assert FEATURE_MAPS["dpfp-2"](x).tolist() == wanted


def test_elu_plus_one_keeps_its_small_values_in_bf16():
    """elu(x) + 1 cancels to 0 below −5.5."""
    x = torch.tensor([-8.0, -20.0], dtype=torch.bfloat16)
    torch.testing.assert_close(FEATURE_MAPS["elu+1"](x), x.exp())


def test_favor_estimates_the_softmax_kernel():
    """φ(q)·φ(k) → exp(q·k / √K) as M grows."""
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 200, 8, generator=generator, dtype=torch.float64)
    projection = orthogonal_projection(8, 20_000, generator)
    phi = FEATURE_MAPS["favor-20000"]
    estimate = (phi(q, projection) * phi(k, projection)).sum(-1)
    exact = ((q * k).sum(-1) / math.sqrt(8)).exp()
    error = (estimate / exact - 1).abs()
    assert error.median() < 0.05


def test_favor_projections_are_orthogonal_within_blocks():
    omega = orthogonal_projection(6, 15, torch.Generator().manual_seed(1))
    assert omega.shape == (6, 15)
    for block in omega.split(6, dim=1):
        gram = block.mT @ block
        off = gram - gram.diag().diag()
        assert off.abs().max() < 1e-12


@pytest.mark.parametrize(("operator", "reason"), SENSELESS, ids=lambda x: str(x)[:60])
def test_what_makes_no_sense_has_a_reason(operator, reason):
    assert reason
    if undefined(operator) is not None:
        with pytest.raises(UserError, match="rule="):
            problem_of(operator)
    else:
        problem_of(operator)  # only discouraged: the function still runs it


def test_every_triple_is_enumerated_once():
    sound, senseless = enumerate_operators()
    triples = [str(operator) for operator in (*sound, *(o for o, _ in senseless))]
    sizes = [len(table) for table in (UPDATE_RULES, FEATURE_MAPS, NORMALIZATIONS)]
    assert len(triples) == len(set(triples)) == math.prod(sizes)


def test_the_tables_of_the_tests_cover_every_word():
    for table, words in (
        (UPDATE_RULES, {operator.rule for operator in VARIED}),
        (FEATURE_MAPS, {re.sub(r"-\d+$", "", operator.phi) for operator in VARIED}),
        (NORMALIZATIONS, {operator.norm for operator in VARIED}),
    ):
        assert {re.sub(r"-[A-Z]+$", "", name) for name in table.rows()} == words


def test_dpfp_refuses_a_roll_that_comes_round():
    with pytest.raises(UserError, match="below 2K"):
        problem_of(Operator("sum", "dpfp-8", "attention"), K=4)
    problem_of(Operator("sum", "dpfp-7", "attention"), K=4)


@pytest.mark.parametrize("inputs", INPUT_FAMILIES)
@pytest.mark.parametrize("operator", VARIED, ids=str)
def test_inputs_are_seeded_shaped_and_finite(operator, inputs):
    problem = problem_of(operator, dtype="bf16", inputs=inputs)
    first, second = make_inputs(problem, seed=3), make_inputs(problem, seed=3)
    other = make_inputs(problem, seed=4)
    p = problem
    assert first.q.shape == first.k.shape == (p.B, p.T, p.H, p.K)
    assert first.v.shape == (p.B, p.T, p.H, p.V)
    assert first.q.dtype == first.v.dtype == torch.bfloat16
    for x, y in zip((*first[:3], *first.state), (*second[:3], *second.state), strict=True):
        assert x is y or torch.equal(x, y)
        assert x is None or x.isfinite().all()
    assert not torch.equal(first.v, other.v)
    for name, per in operator.update_rule.gates.items():
        gate = first.gates[name]
        assert gate.dtype == torch.float32
        assert gate.shape == ((p.B, p.T, p.H, p.D) if per == "feature" else (p.B, p.T, p.H))
        assert 0 <= gate.min() <= gate.max() <= 1
        assert torch.equal(gate, second.gates[name])
    assert (first.state.z is not None) == operator.divides


@pytest.mark.parametrize(
    ("inputs", "holds"),
    [
        ("one-hot", lambda x: ((x.k != 0).sum(-1) == 1).all()),
        ("zero-keys", lambda x: (x.k == 0).all(-1).any()),
        ("beta-0", lambda x: (x.gates["beta"] == 0).all()),
        ("beta-1", lambda x: (x.gates["beta"] == 1).all()),
        ("saturated-gates", lambda x: {0.0, 1.0} < set(x.gates["alpha"].flatten().tolist())),
        ("long-decay", lambda x: x.gates["alpha"].min() > 0.96),
        ("all-negative", lambda x: x.k.max() <= 0 and x.q.max() <= 0),
        ("repeated-keys", lambda x: len(x.k[0, :, 0].unique(dim=0)) <= 37 // 4),
        ("huge", lambda x: x.k.abs().max() > 32),
        ("tiny", lambda x: x.k.abs().max() < 2**-7),
    ],
)
def test_input_families_are_what_they_say(inputs, holds):
    problem = problem_of(Operator("gated-delta", "elu+1", "sum"), inputs=inputs)
    assert holds(make_inputs(problem, seed=5))


def test_other_inputs_do_not_depend_on_which_gates_a_rule_has():
    """The same q, k, v for every rule: rules can be compared on the same data."""
    first, second = (
        make_inputs(problem_of(Operator(rule, "elu+1", "sum")), seed=1) for rule in ("sum", "delta")
    )
    assert torch.equal(first.q, second.q)
    assert torch.equal(first.k, second.k)
    assert torch.equal(first.v, second.v)


def test_decoding_attends_to_T_tokens():
    problem = problem_of(VARIED[-1], direction="decode", T=50)
    given = make_inputs(problem, seed=0)
    assert given.k.shape[1] == 1
    assert given.state.S.shape[2] == 50
