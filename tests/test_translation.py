"""The translation suite: what it plans and answers; a kill or a swap changes nothing."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest

from fwpbench.harness.device import CpuDevice
from fwpbench.harness.profiles import PROFILES
from fwpbench.harness.suite import Setting
from fwpbench.implementations import IMPLEMENTATIONS
from fwpbench.implementations.base import Implementation, Output
from fwpbench.operators.streams import stream
from fwpbench.suites import training, translation
from fwpbench.suites.training import load_program, train
from fwpbench.suites.transduction import LONGEST
from fwpbench.suites.translation import (
    OPERATORS,
    SIZES,
    SUITE,
    make_model,
    score,
    state_bytes,
    translations,
)
from fwpbench.suites.translation_data import Corpus, Pair
from fwpbench.suites.translation_training import (
    Size,
    Training,
    draw_batches,
    numbered,
    warmed,
)

pytest.importorskip("sacrebleu")
CHUNKED, REFERENCE = IMPLEMENTATIONS["chunked"], IMPLEMENTATIONS["reference"]
QUICK = PROFILES["quick"]
#: So small that a training takes a second, so large that models translate some of it.
TINY = Size(
    longest=13, width=32, hidden=64, heads=2, layers=1, batch=48, steps=60, learning_rate=0.01,
    trials=2,
)  # fmt: skip


@pytest.fixture
def tiny(monkeypatch) -> Setting:
    monkeypatch.setitem(SIZES["transduction"], "quick", TINY)
    return Setting(CpuDevice(), QUICK, seed=0)


def case_of(name: str, trial: int = 0):
    return next(
        case
        for case in SUITE.cases(QUICK)
        if case.name == name and case.parameters["trial"] == trial
    )


def test_every_operator_is_trained_on_equal_terms():
    for profile in PROFILES.values():
        cases = SUITE.cases(profile)
        trials = SIZES["transduction"][profile.name].trials
        assert trials >= 2
        assert Counter(case.name for case in cases) == dict.fromkeys(OPERATORS, trials)
        sizes = {tuple(getattr(case.problem, axis) for axis in "BTHKV") for case in cases}
        assert len(sizes) == 1
        assert all(case.parameters["data"] == "transduction" for case in cases)


def test_no_pair_is_too_long_for_the_model():
    longest = SIZES["transduction"]["quick"].longest
    assert longest == LONGEST + 1, "its words and END"
    data = numbered("transduction", None, longest)
    assert len(data.train) == len(data.corpus.train)
    assert len(numbered("transduction", None, longest - 1).train) < len(data.train)


def test_real_data_are_taken_when_asked_for():
    cases = SUITE.cases(replace(QUICK, data=("wikitext-2", "multi30k")))
    assert {case.parameters["data"] for case in cases} == {"multi30k"}
    assert {case.name for case in cases} < set(OPERATORS)


def test_the_token_loop_is_not_trained_and_softmax_once_in_quick():
    for profile in (QUICK, PROFILES["standard"]):
        for case in SUITE.cases(profile):
            once = profile is QUICK and case.name == "Softmax attention"
            assert set(case.excluded) == {"reference", *(["torch-sdpa"] if once else [])}


def test_every_sentence_is_trained_on_once_before_any_twice_among_its_like():
    lengths = [number % 7 + 3 for number in range(100)]
    batches = draw_batches(lengths, 10, 25, stream(0, "batches"))
    assert [len(batch) for batch in batches] == [10] * 25
    seen = Counter(
        number for batch in draw_batches(lengths, 10, 160, stream(0, "b")) for number in batch
    )
    assert set(seen.values()) == {16}
    spread = [max(lengths[n] for n in batch) - min(lengths[n] for n in batch) for batch in batches]
    assert max(spread) <= 2
    assert batches != sorted(batches, key=lambda batch: lengths[batch[0]])
    assert batches == draw_batches(lengths, 10, 25, stream(0, "batches"))
    assert batches != draw_batches(lengths, 10, 25, stream(1, "batches"))


def test_the_learning_rate_rises_and_falls():
    rates = [warmed(step, 100) for step in range(1, 101)]
    assert rates[:10] == pytest.approx([step / 10 for step in range(1, 11)])
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert 0 < rates[-1] < 1e-3


def test_bleu_is_of_the_text_and_has_its_signature():
    corpus = Corpus([], [], [Pair("", "der Hund sieht den Ball")], rare=1)
    exact, signatures = score(["der Hund sieht den Ball"], corpus)
    assert exact == pytest.approx({"bleu": 100, "chrf": 100})
    # Precisions 4/5, 3/4, 2/3 and 1/2, no brevity penalty: their geometric mean is 1/5 ** (1/4).
    near, _ = score(["die Hund sieht den Ball"], corpus)
    assert near["bleu"] == pytest.approx(100 * 0.2**0.25)
    assert signatures["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")


def test_an_answer_has_a_score_and_a_curve_beside_the_baselines(tiny):
    answer = SUITE.answer(case_of("Linear Transformer"), CHUNKED, tiny)
    assert answer.status == "ok"
    value = {name: measured.value for name, measured in answer.metrics.items()}
    assert set(value) == set(SUITE.metrics)
    assert value["copy bleu"] < 1 < value["dictionary bleu"] < 30
    assert value["bleu"] == score(answer.detail["translations"], transduced())[0]["bleu"]
    assert list(answer.samples) == ["step", "training loss", "validation loss"]
    assert answer.samples["step"] == [float(step) for step in range(6, 61, 6)]
    assert value["validation loss"] == answer.samples["validation loss"][-1]
    assert value["validation loss"] < answer.samples["validation loss"][0] - 1
    # S and z of two heads: 16 × 16 and 16 numbers of 4 bytes.
    assert value["state"] == 2 * (16 * 16 + 16) * 4
    assert len(json.dumps(answer.detail)) < 100_000
    again = SUITE.answer(case_of("Linear Transformer"), CHUNKED, tiny)
    assert again == answer, "the same bits again"
    other = SUITE.answer(case_of("Linear Transformer", 1), CHUNKED, tiny)
    assert other.samples != answer.samples


def transduced() -> Corpus:
    return numbered("transduction", None, TINY.longest).corpus


def test_softmax_attention_keeps_what_was_written():
    data = numbered("transduction", None, TINY.longest)
    model = make_model(OPERATORS["Softmax attention"], data, TINY, REFERENCE)
    assert [state_bytes(model, words) for words in (1, 5)] == [
        2 * (16 + 16) * 4 * n for n in (1, 5)
    ]


class Killed(Training):
    """Ends as Ctrl-C would, at its 40th step."""

    def step(self) -> float:
        if self.taken == 39:
            raise KeyboardInterrupt
        return super().step()


@pytest.mark.parametrize("name", ["Softmax attention", "Delta Network"])
def test_a_training_that_was_killed_goes_on_bit_for_bit(name, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "EVERY", 0.0)  # a checkpoint after every step
    here = replace(tiny, checkpoints=tmp_path, task="translate")
    data = numbered("transduction", None, TINY.longest)

    def make(program: type[Training]) -> Training:
        model = make_model(OPERATORS[name], data, TINY, auto(name))
        return program(model, data, TINY, 0, 0, "cpu")

    whole, again = make(Training), make(Training)
    curve = train(whole, steps=TINY.steps, every=10, setting=tiny)
    with pytest.raises(KeyboardInterrupt):
        train(make(Killed), steps=TINY.steps, every=10, setting=here)
    assert train(again, steps=TINY.steps, every=10, setting=here) == curve
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert one.equal(other)


def auto(name: str) -> Implementation:
    return IMPLEMENTATIONS["torch-sdpa" if name == "Softmax attention" else "chunked"]


@pytest.mark.parametrize("name", ["Softmax attention", "Delta Network"])
def test_another_implementation_of_a_trained_model_changes_less_than_another_seed(
    name, tiny, tmp_path
):
    """The checkpoint of a training, scored again by the token loop."""
    data, operator = numbered("transduction", None, TINY.longest), OPERATORS[name]
    corpus = replace(data.corpus, test=data.corpus.test[:100])
    data = data._replace(corpus=corpus)
    bleu, loss = [], []

    def look(program: Training) -> None:
        loss.append(program.evaluate()["validation loss"])
        bleu.append(
            score(translations(program.model, data, TINY.longest, "cpu"), corpus)[0]["bleu"]
        )

    for trial in range(2):
        program = Training(
            make_model(operator, data, TINY, auto(name)), data, TINY, 0, trial, "cpu"
        )
        here = replace(tiny, checkpoints=tmp_path / str(trial), task="translate")
        train(program, steps=TINY.steps, every=TINY.steps, setting=here)
        look(program)
    swapped = Training(make_model(operator, data, TINY, REFERENCE), data, TINY, 0, 0, "cpu")
    (kept,) = (tmp_path / "0").iterdir()
    load_program(kept, swapped)
    look(swapped)
    assert abs(loss[2] - loss[0]) < 1e-3 * abs(loss[1] - loss[0])
    assert bleu[1] != bleu[0]
    assert abs(bleu[2] - bleu[0]) < abs(bleu[1] - bleu[0])


def test_a_training_that_diverges_says_at_which_step(tiny, monkeypatch):
    def step(self) -> float:
        self.taken += 1
        return float("inf") if self.taken == 8 else 1.0

    monkeypatch.setattr(Training, "step", step)
    answer = SUITE.answer(case_of("Delta Network"), CHUNKED, tiny)
    assert (answer.status, answer.detail) == ("diverged", {"step": 8})
    assert answer.reason == "the loss of step 8 is no finite number"
    assert answer.samples["step"] == [6.0]


def test_without_sacrebleu_it_says_how_to_have_it_before_training(tiny, monkeypatch):
    monkeypatch.setattr(translation, "find_spec", lambda name: None)
    monkeypatch.setattr(translation, "train", None)
    answer = SUITE.answer(case_of("Delta Network"), CHUNKED, tiny)
    assert answer.status == "missing"
    assert "pip install 'fwpbench[quality]'" in answer.reason


def test_what_is_wrong_is_never_trained(tiny, monkeypatch):
    monkeypatch.setattr(translation, "train", None)

    def in_training(problem, inputs):
        return _scaled(problem, inputs, problem.T > 1 and problem.causal)

    def in_decoding(problem, inputs):
        return _scaled(problem, inputs, problem.T == 1)

    def both_ways(problem, inputs):
        return _scaled(problem, inputs, not problem.causal)

    for run in (in_training, in_decoding, both_ways):
        answer = SUITE.answer(case_of("Delta Network"), Implementation(run, run.__name__), tiny)
        assert (run, answer.status) == (run, "incorrect")
        assert not answer.metrics


def _scaled(problem, inputs, here: bool) -> Output:
    output = CHUNKED.run(problem, inputs)
    return output if not here or output.o is None else output._replace(o=output.o * 1.01)


def test_what_cannot_read_both_ways_leaves_the_encoder_to_another_and_says_so(tiny):
    one_way = replace(CHUNKED, cannot=lambda p: None if p.causal else "from left to right only")
    answer = SUITE.answer(case_of("Delta Network"), one_way, tiny)
    assert answer.detail["encoder"] == (
        "rule=sum phi=dpfp-1 norm=attention, by chunked, because this implementation: "
        "from left to right only"
    )
    assert answer.metrics == SUITE.answer(case_of("Delta Network"), CHUNKED, tiny).metrics


def test_what_cannot_decode_has_no_translation(tiny, monkeypatch):
    monkeypatch.setattr(translation, "train", None)
    stateless = replace(CHUNKED, cannot=lambda p: "keeps no state" if p.state_out else None)
    answer = SUITE.answer(case_of("Delta Network"), stateless, tiny)
    assert (answer.status, answer.reason) == ("unsupported", "it cannot decode: keeps no state")
