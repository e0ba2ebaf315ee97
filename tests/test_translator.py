"""Decoding on the recurrent state is re-running the prefix, and rows of a batch do not meet."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations.base import Implementation, Output
from fwpbench.operators.errors import UserError
from fwpbench.operators.operator import Operator
from fwpbench.operators.streams import stream
from fwpbench.suites.model import initialize
from fwpbench.suites.named_operators import NAMED_OPERATORS
from fwpbench.suites.translation import OPERATORS
from fwpbench.suites.translation_data import BEGIN, END, PAD, UNKNOWN, Padded, pad
from fwpbench.suites.translator import Translator, encoder_operator, likeliest, translate
from tests.comparison import assert_close

WORDS = (11, 13)
SOURCES = [[4, 7, 5, 9, 10, 6, END], [8, END], [5, 5, 6, END], [10, 9, 8, 7, END]]
LONGEST = 7


def encodable(operator: Operator) -> bool:
    try:
        return bool(encoder_operator(operator))
    except UserError:
        return False


EVERY = {**{n: o for n, o in NAMED_OPERATORS.items() if encodable(o)}, **OPERATORS}
every_operator = pytest.mark.parametrize("operator", EVERY.values(), ids=list(EVERY))


def make(
    operator: Operator, implementation: str | Implementation = "auto", seed: int = 0
) -> Translator:
    model = Translator(
        operator, WORDS, width=12, hidden=20, heads=3, layers=2, implementation=implementation,
        encoder_implementation="auto",
    )  # fmt: skip
    initialize(model, stream(seed, f"model of {operator}"), std=0.3)
    model.target.weight.data *= 0.2  # or it would say its last word again and again
    return model.double()  # a rounding error must not choose another word


def close(got: Tensor, wanted: Tensor) -> None:
    """In float64; the sinusoids alone come in float32, but the same to both."""
    assert_close({"x": got}, {"x": wanted}, 1e-12)


def rerun(model: Translator, source: Padded, longest: int) -> list[list[int]]:
    """By the definition: the whole prefix again for every word, one sentence at a time."""
    written = []
    for words, mask in zip(*source, strict=True):
        alone = Padded(words[mask][None], mask[mask][None])
        prefix = [BEGIN]
        while len(prefix) <= longest and prefix[-1] != END:
            logits = model(alone, torch.tensor([prefix]))
            prefix.append(int(likeliest(logits[:, -1:])))
        written.append([word for word in prefix[1:] if word != END])
    return written


@every_operator
@torch.no_grad()
def test_decoding_on_the_state_is_rerunning_the_prefix_alone(operator):
    """Which also says that neither padding nor company changes a translation."""
    source, said = pad(SOURCES), set()
    for seed in range(2):
        model = make(operator, seed=seed)
        written = translate(model, source, LONGEST)
        assert written == rerun(model, source, LONGEST)
        said |= {tuple(row) for row in written}
    assert len(said) > 1, "models that say one thing of all show nothing"


@every_operator
@torch.no_grad()
def test_every_step_has_the_logits_of_its_prefix(operator):
    model, source = make(operator), pad(SOURCES)
    generator = stream(1, "words")
    words = torch.randint(0, WORDS[1], (len(SOURCES), LONGEST), generator=generator)
    memory, states, steps = model.encode(source), None, []
    for first in range(LONGEST):
        logits, states = model.decode(
            words[:, first : first + 1], memory, source,
            first=first, states=states, return_states=True,
        )  # fmt: skip
        steps.append(logits)
    close(torch.cat(steps, dim=1), model(source, words))


@every_operator
@torch.no_grad()
def test_the_encoder_sees_both_ways_and_no_padding(operator):
    model = make(operator)
    alone, padded = pad(SOURCES[1:2]), pad(SOURCES)
    close(model.encode(padded)[1:2, : alone.words.shape[1]], model.encode(alone))
    changed = alone.words.clone()
    changed[0, 1] = 4
    first = model.encode(alone)[:, 0]
    assert not torch.allclose(model.encode(Padded(changed, alone.mask))[:, 0], first)


@torch.no_grad()
def test_the_decoder_sees_no_later_word():
    model, source = make(OPERATORS["Delta Network"]), pad(SOURCES)
    words = torch.randint(0, WORDS[1], (len(SOURCES), LONGEST), generator=stream(2, "words"))
    before = model(source, words)
    words[:, 5:] = END
    close(model(source, words)[:, :5], before[:, :5])


@torch.no_grad()
def test_what_is_carried_from_word_to_word_does_not_grow():
    """Except with softmax attention, which keeps its tokens."""
    for name, operator in OPERATORS.items():
        model, source = make(operator), pad(SOURCES)
        memory, sizes = model.encode(source), []
        states = None
        for first in range(3):
            word = torch.full((len(SOURCES), 1), BEGIN)
            _, states = model.decode(
                word, memory, source, first=first, states=states, return_states=True
            )
            sizes.append(sum(state.S.numel() for state in states))
        grows = [1, 2, 3] if name == "Softmax attention" else [1, 1, 1]
        assert [size / sizes[0] for size in sizes] == grows


@torch.no_grad()
def test_decoding_asks_the_implementation_for_one_token_at_a_time():
    asked = []
    chunked = IMPLEMENTATIONS["chunked"]

    def run(problem, inputs) -> Output:
        asked.append((problem.rule, problem.T, problem.state))
        return chunked.run(problem, inputs)

    model = make(OPERATORS["Delta Network"], replace(chunked, run=run))
    longest = len(max(translate(model, pad(SOURCES), LONGEST), key=len))
    steps = min(longest + 1, LONGEST)
    assert asked == [("delta", 1, "out")] * 2 + [("delta", 1, "in+out")] * 2 * (steps - 1)


@torch.no_grad()
def test_it_never_writes_what_is_no_word_and_stops_at_the_longest():
    logits = torch.zeros(1, 1, 6)
    logits[..., [PAD, BEGIN, UNKNOWN]] = 5.0
    logits[..., 4] = 1.0
    assert likeliest(logits).tolist() == [[4]]
    for name, operator in OPERATORS.items():
        for longest in (1, 4):
            rows = translate(make(operator), pad(SOURCES), longest)
            assert max(map(len, rows)) <= longest, name
            assert not {PAD, BEGIN, UNKNOWN, END} & {word for row in rows for word in row}


def test_the_encoder_reads_with_the_sum_of_the_same_feature_map():
    expected = {
        "Softmax attention": "rule=softmax-attention phi=identity norm=none",
        "Linear Transformer": "rule=sum phi=elu+1 norm=attention",
        "sum, dpfp-1": "rule=sum phi=dpfp-1 norm=attention",
        "Delta Network": "rule=sum phi=dpfp-1 norm=attention",
        "delta, elu+1": "rule=sum phi=elu+1 norm=attention",
    }
    assert {name: str(encoder_operator(o)) for name, o in OPERATORS.items()} == expected
    with pytest.raises(UserError, match="identity has both signs"):
        encoder_operator(NAMED_OPERATORS["DeltaNet"])
