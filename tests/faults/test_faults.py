"""No spoiled file gives another number silently, a traceback, or a wait without end."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.faults.calls import Called
from tests.faults.kinds import SPOILS, Kind, fits
from tests.faults.outcomes import Outcome, Seen, judge
from tests.faults.page import noted
from tests.faults.targets import COUNT, SEED, SHORT, TARGETS, fault
from tests.faults.trial import Trials


@pytest.mark.slow
def test_thirty_faults_are_named_or_change_nothing(trials: Trials) -> None:
    tried = [trials.carry_out(fault(number)) for number in SHORT]
    assert len(tried) == 30
    assert "".join(one.told() for one in tried if one.judged.outcome is Outcome.FAULT) == ""


@pytest.mark.long
@pytest.mark.parametrize("number", range(COUNT))
def test_a_fault_is_named_or_changes_nothing(trials: Trials, number: int) -> None:
    tried = trials.carry_out(fault(number))
    assert tried.judged.outcome is not Outcome.FAULT, tried.told()


def test_the_thirty_are_of_every_target_and_kind() -> None:
    short = [fault(number) for number in SHORT]
    assert {one.target.noun for one in short} == {target.noun for target in TARGETS}
    assert {one.kind for one in short} == set(Kind)


def test_the_table_is_of_these_faults_and_has_none() -> None:
    values = noted()
    drawn = Counter((one.target.noun, str(one.kind)) for one in map(fault, range(COUNT)))
    counts = {
        (noun, kind): sum(outcomes.values())
        for noun, kinds in values["counts"].items()
        for kind, outcomes in kinds.items()
    }
    assert (values["seed"], counts) == (SEED, dict(drawn)), "run: python -m tests.faults --write"
    every = [
        outcome
        for kinds in values["counts"].values()
        for cell in kinds.values()
        for outcome in cell
    ]
    assert Outcome.FAULT not in every


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.SWAP])
def test_every_kind_of_fault_spoils_its_file(kind: Kind, tmp_path: Path) -> None:
    files = {
        "a.json": '{"a": 1, "b": [2]}',
        "a.toml": 'a = 1\nb = "x"\n',
        "a.jsonl": '{"a": 1}\n' * 3,
    }
    for name, text in files.items():
        file = tmp_path / name
        file.write_text(text)
        if fits(kind, file):
            SPOILS[kind](file, fault(1).dice)
            assert not file.is_file() or file.read_text() != text
        if file.is_dir():
            file.rmdir()
        file.unlink(missing_ok=True)


WHOLE = Seen(Called(0, "", "working ...\n"), {"a": "1", "b": "2"})
SENTENCE = "moebench: a.json: it is empty.\n"


@pytest.mark.parametrize(
    ("now", "sealed", "outcome"),
    [
        (WHOLE, True, Outcome.SAME),
        (Seen(Called(0, "", "a: cut; it is made again\n"), WHOLE.numbers), True, Outcome.AGAIN),
        (Seen(Called(0, "", "working on it ...\n"), WHOLE.numbers), True, Outcome.SAME),
        (Seen(Called(0, "", ""), {"a": "1", "b": "3"}), False, Outcome.FAULT),
        (Seen(Called(0, "", ""), {"a": "1", "c": "3"}), False, Outcome.RENAMED),
        (Seen(Called(0, "", ""), {"a": "1", "c": "3"}), True, Outcome.FAULT),
        (Seen(Called(0, "", ""), {"a": "1", "c": "2"}), True, Outcome.RENAMED),
        (Seen(Called(0, "", "a.json: damaged\n"), {"a": "1"}), True, Outcome.NAMED),
        (Seen(Called(2, "", SENTENCE)), True, Outcome.SENTENCE),
        (Seen(Called(2, "", SENTENCE * 2)), True, Outcome.FAULT),
        (Seen(Called(2, "", f"{SENTENCE}and more\n")), True, Outcome.FAULT),
        (Seen(Called(2, "", "moebench: a.json: [Errno 21].\n")), True, Outcome.FAULT),
        (Seen(Called(1, "", ""), reasons=("a.json: it is empty.",)), True, Outcome.FAILED),
        (Seen(Called(1, "", ""), reasons=("Traceback ...",)), True, Outcome.FAULT),
        (Seen(Called(1, "", "")), True, Outcome.FAULT),
        (Seen(Called(0, "", "", "Traceback"), WHOLE.numbers), True, Outcome.FAULT),
    ],
)
def test_outcomes_are_told_apart(now: Seen, sealed: bool, outcome: Outcome) -> None:
    assert judge(WHOLE, now, Path("a.json"), sealed=sealed).outcome is outcome
