"""The language model: its probabilities, its size, and that reading in pieces is reading."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.operators.operator import Operator
from fwpbench.operators.streams import stream
from fwpbench.suites.language_model import LanguageModel, TiedSoftmax
from fwpbench.suites.language_modeling import OPERATORS, SOFTMAX
from fwpbench.suites.model import TokenMixer, initialize, parameter_count

WORDS = 13


def model(operator: Operator, implementation: str = "chunked") -> LanguageModel:
    """In float64, so that what differs differs."""
    made = LanguageModel(
        lambda: TokenMixer(operator, 20, 2, implementation),
        words=WORDS, layers=2, width=20, hidden=17, cutoffs=(4, 7),
    )  # fmt: skip
    initialize(made, stream(0, "model"), std=0.3)
    return made.double()


def tokens(B: int, T: int) -> torch.Tensor:
    return torch.randint(WORDS, (B, T), generator=stream(0, "tokens"))


@pytest.mark.parametrize("name", OPERATORS)
def test_reading_in_pieces_with_the_state_is_reading_at_once(name: str) -> None:
    read, text = model(OPERATORS[name]), tokens(3, 19)
    whole, pieces, states, first = read(text).x, [], None, 0
    for piece in text.split([1, 7, 1, 1, 9], dim=1):
        x, states = read(piece, states=states, first=first, return_states=True)
        pieces.append(x)
        first += piece.shape[1]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", OPERATORS)
def test_no_token_knows_of_a_later_one(name: str) -> None:
    read, text = model(OPERATORS[name]), tokens(2, 19)
    other = text.clone()
    other[:, 11:] = (other[:, 11:] + 1) % WORDS
    before, after = read(text).x, read(other).x
    torch.testing.assert_close(after[:, :11], before[:, :11], rtol=1e-9, atol=1e-9)
    assert not torch.allclose(after[:, 11:], before[:, 11:])


def test_without_sinusoids_the_same_word_alone_is_the_same_anywhere() -> None:
    read, text = model(OPERATORS[SOFTMAX]), tokens(1, 1)
    assert not torch.allclose(read(text).x, read(text, first=5).x)
    read.sinusoids = False
    assert torch.equal(read(text).x, read(text, first=5).x)


@pytest.mark.parametrize("cutoffs", [(), (4,), (4, 7), (1, 2, 12)], ids=str)
def test_the_softmax_sums_to_one_and_says_of_a_target_what_it_says_of_all_words(
    cutoffs: tuple[int, ...],
) -> None:
    embedding = nn.Embedding(WORDS, 6)
    output = TiedSoftmax(embedding, cutoffs)
    initialize(output, stream(0, "output"), std=1.0)
    output.bias.data.normal_(generator=stream(0, "bias"))
    x = torch.randn(WORDS, 6, generator=stream(0, "x"))
    every = output.log_probabilities(x)
    torch.testing.assert_close(every.exp().sum(-1), torch.ones(WORDS))
    for targets in (torch.arange(WORDS), torch.zeros(WORDS, dtype=torch.long)):
        torch.testing.assert_close(
            output.log_likelihood(x, targets), every.gather(-1, targets[:, None])[:, 0]
        )


def test_the_gradient_of_a_rare_word_reaches_its_cluster_and_the_head() -> None:
    embedding = nn.Embedding(WORDS, 6)
    output = TiedSoftmax(embedding, (4, 7))
    initialize(output, stream(0, "output"), std=1.0)
    output.log_likelihood(torch.ones(1, 6), torch.tensor([9])).sum().backward()
    assert embedding.weight.grad is not None
    touched = embedding.weight.grad.abs().sum(-1) > 0
    assert touched.tolist() == [True] * 4 + [False] * 3 + [True] * 6


@pytest.mark.parametrize(
    ("width", "rule", "published"),
    [
        (128, "sum", 44_018_394),
        (128, "delta", 44_034_778),
        (256, "sum", 89_833_434),
        (256, "delta", 89_866_202),
    ],
)
def test_models_of_the_published_sizes_have_the_published_numbers_of_parameters(
    width: int, rule: str, published: int
) -> None:
    """WikiText-103 has 267,735 words, scored in clusters from 20, 40 and 200 thousand on."""
    with torch.device("meta"):
        made = LanguageModel(
            lambda: TokenMixer(Operator(rule, "dpfp-1", "sum"), width, 8),
            words=267_735, layers=16, width=width, hidden=2048, cutoffs=(20_000, 40_000, 200_000),
        )  # fmt: skip
    assert parameter_count(made) == published


def test_another_implementation_can_take_over() -> None:
    read, text = model(OPERATORS["Delta Network"]), tokens(2, 9)
    before = read(text).x
    read.use(IMPLEMENTATIONS["reference"])
    assert {m.implementation for m in read.modules() if isinstance(m, TokenMixer)} == {
        IMPLEMENTATIONS["reference"]
    }
    torch.testing.assert_close(read(text).x, before, rtol=1e-9, atol=1e-9)
