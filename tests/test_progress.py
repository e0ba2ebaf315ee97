"""What a run says while one of its cases takes long."""

from __future__ import annotations

import pytest

from fwpbench import progress
from fwpbench.progress import Plain, Silent, within


@pytest.mark.parametrize(
    ("done", "seconds", "said"),
    [
        (1, 2.0, "step 1 of 10 · loss 2.5 · about 18 s for this case"),
        (5, 600.0, "step 5 of 10 · loss 2.5 · about 10 min 00 s for this case"),
        (10, 3.0, "step 10 of 10 · loss 2.5 · about 0 s for this case"),
        (0, 3.0, "step 0 of 10 · loss 2.5 · about 30 s for this case"),
    ],
)
def test_a_case_says_how_far_it_is_and_when_it_will_end(
    done: int, seconds: float, said: str
) -> None:
    assert within(done, 10, "loss 2.5", seconds) == said


def test_a_case_whose_end_is_not_known_promises_none() -> None:
    assert within(700, 0, "loss 2.5", 3.0) == "step 700 · loss 2.5"


def test_plain_lines_come_now_and_then_and_none_with_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter = Plain([])
    reporter.tell(1, 10, "loss 2.5")
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(progress, "EVERY", 0.0)
    reporter.tell(2, 10, "loss 2.5")
    assert capsys.readouterr().out.startswith("  step 2 of 10 · loss 2.5 · about")
    Silent().tell(3, 10, "loss 2.5")
    assert capsys.readouterr().out == ""
