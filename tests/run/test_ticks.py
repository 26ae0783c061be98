from __future__ import annotations

import time

import pytest

from harness.run.ticks import Ticks, pulse


def test_progress_has_its_place_and_the_time_left_at_a_rate_that_slows_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    lines: list[str] = []
    tick = Ticks(lines.append, "task 1 of 2, boolq", "answers")
    tick(0, 2000)
    for done in range(1, 2001):
        now = done
        tick(done, 2000)
    assert lines[:3] == [
        "task 1 of 2, boolq: 2000 answers",
        "task 1 of 2, boolq: 10 of 2000 answers, about 33 min left",
        "task 1 of 2, boolq: 20 of 2000 answers, about 33 min left",
    ]
    assert lines[-1].endswith("s left")
    assert 20 < len(lines) < 60


def test_a_silent_phase_says_that_it_goes_on_and_ends_with_its_block() -> None:
    lines: list[str] = []
    with pytest.raises(KeyError), pulse(lines.append, silence=0.02) as tell:
        time.sleep(0.05)
        assert lines == []  # nothing has begun
        tell("loading the model")
        time.sleep(0.1)
        raise KeyError
    assert lines[0] == "loading the model"
    assert set(lines[1:]) == {"still loading the model, for 0 s"}
    count = len(lines)
    time.sleep(0.05)
    assert len(lines) == count
