"""Texts: how they are cut and numbered, and what counting makes of them."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from fwpbench.suites import data_sets, grammar, language_data
from fwpbench.suites.data_sets import VARIABLE, DataSet
from fwpbench.suites.language_baselines import surprisals
from fwpbench.suites.language_data import batches, load, segments, vocabulary


@pytest.mark.parametrize(("tokens", "T", "B"), [(25, 4, 2), (24, 4, 2), (9, 8, 3), (6, 8, 3)])
def test_every_token_but_the_first_is_a_target_once_after_the_one_before_it(
    tokens: int, T: int, B: int
) -> None:
    stream = torch.arange(tokens)
    cut = list(batches(stream, T, B))
    assert torch.cat([each.targets.flatten() for each in cut]).equal(stream[1:])
    for inputs, targets in cut:
        assert (targets == inputs + 1).all()
        assert inputs.shape[0] <= B
        assert inputs.shape[1] <= T
    assert len(segments(stream, T).inputs) == (tokens - 1) // T


def test_a_segment_of_the_grammar_is_a_document() -> None:
    text = load("grammar", None)
    inputs, targets = segments(text.test, grammar.LENGTH)
    assert (inputs[:, 0] == 0).all()
    assert (targets[:, -1] == 0).all()
    assert (inputs == 0).sum() == len(inputs) == grammar.DOCUMENTS["test"] - 1
    scored = sum(len(t.flatten()) for _, t in batches(text.test, grammar.LENGTH, 16))
    documents = text.test.view(-1, grammar.LENGTH).tolist()
    total = sum(sum(grammar.GRAMMAR.surprisals(document)) for document in documents)
    assert text.floor == pytest.approx(total / scored)


def test_words_are_numbered_by_how_frequent_they_are_after_eos() -> None:
    words = ["b", "a", "<eos>", "c", "a", "c", "d", "<eos>", "<eos>", "<eos>"]
    assert vocabulary(words) == ("<eos>", "a", "c", "b", "d")


SMALL = {
    "train.txt": " \n = A title = \n \n the cat saw the <unk> , and the dog \n",
    "valid.txt": " the dog \n",
    "test.txt": " the cow saw \n \n",
}


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files in the layout of WikiText-2, and a table that knows their hashes."""
    import hashlib

    (tmp_path / "wikitext-2").mkdir()
    hashes = {}
    for name, text in SMALL.items():
        (tmp_path / "wikitext-2" / name).write_text(text, encoding="utf-8")
        hashes[name] = hashlib.sha256(text.encode()).hexdigest()
    table = {"wikitext-2": DataSet("a few words", "nowhere", "none", hashes)}
    monkeypatch.setattr(data_sets, "DATA_SETS", table)
    return tmp_path


def test_wikitext_is_words_between_white_space_and_one_eos_a_line(small: Path) -> None:
    text = load("wikitext-2", small)
    assert text.words[:3] == ("<eos>", "the", "=")
    words = [text.words[token] for token in text.train]
    assert " ".join(words) == (
        "<eos> = A title = <eos> <eos> the cat saw the <unk> , and the dog <eos>"
    )
    assert [text.words[token] for token in text.test] == ["the", "<unk>", "saw", "<eos>", "<eos>"]
    assert len(text.validation) == 3
    assert text.floor is None


def test_the_published_counts_of_wikitext_2() -> None:
    folder = data_sets.data_folder(None)
    if folder is None or not (folder / "wikitext-2").is_dir():
        pytest.skip(f"WikiText-2 is no part of FWPBench: name its folder in {VARIABLE}")
    text = load("wikitext-2", folder)
    assert [len(part) for part in (text.train, text.validation, text.test)] == [
        2_088_628,
        217_646,
        245_569,
    ]
    assert len(text.words) == 33_278


def by_hand(train: list[int], text: list[int], words: int, order: int) -> list[float]:
    """Kneser and Ney's formula with dicts, n-gram by n-gram."""
    grams = {
        n: Counter(tuple(train[i : i + n]) for i in range(len(train) - n + 1))
        for n in range(1, order + 1)
    }
    counts = {order: grams[order]}
    for n in range(1, order):
        counts[n] = Counter(gram[1:] for gram in grams[n + 1])
    found = []
    for at in range(1, len(text)):
        p = 1 / words
        for n in range(1, order + 1):
            c = counts[n]
            history = tuple(text[at - n + 1 : at])
            after = {gram[-1]: times for gram, times in c.items() if gram[:-1] == history}
            if at - n + 1 < 0 or not after:
                continue
            times = Counter(c.values())
            d = times[1] / (times[1] + 2 * times[2]) if times[1] else 0.5
            p = (max(after.get(text[at], 0) - d, 0) + d * len(after) * p) / sum(after.values())
        found.append(-math.log(p))
    return found


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_ngrams_are_those_of_the_formula(order: int) -> None:
    generator = torch.Generator().manual_seed(order)
    train, text = (torch.randint(4, (n,), generator=generator) for n in (60, 30))
    text[7] = 5  # that was never seen
    found = surprisals(train, text, 6, order)
    np.testing.assert_allclose(found, by_hand(train.tolist(), text.tolist(), 6, order))


@pytest.mark.parametrize("order", [1, 3])
def test_the_probabilities_of_ngrams_sum_to_one(order: int) -> None:
    train = torch.randint(4, (60,), generator=torch.Generator().manual_seed(0))
    sums = defaultdict(float)
    for history in ((0, 1, 2), (3, 3, 3), (5, 5, 1)):
        for word in range(6):
            text = torch.tensor([*history, word])
            sums[history] += math.exp(-surprisals(train, text, 6, order)[-1])
    assert list(sums.values()) == pytest.approx([1.0] * 3)


def test_every_data_set_has_a_loader_and_every_loader_a_data_set() -> None:
    assert set(language_data.LOADERS) - {"grammar"} <= set(data_sets.DATA_SETS)
