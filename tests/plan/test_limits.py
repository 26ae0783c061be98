"""Values beyond reason in a suite, and the work that a long suite takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UserError
from harness.plan import lines
from harness.plan.check import check
from harness.plan.suite import Suite

SUITE = 'models = ["reference/mixtral"]\n'
STEP = 'steps = [{method = "random", keep = 2}]\n'
RECIPE = f'[[recipes]]\nname = "one"\n{STEP}'


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"seeds = [-1]\n{SUITE}", r":1: 'seeds' should be at least 0, not -1"),
        (f"seeds = [{2**32}]\n{SUITE}", r":1: 'seeds' should be at most 4294967295"),
        (SUITE + RECIPE + f"seeds = [{2**32}]\n", r":5: 'seeds' should be at most 4294967295"),
        (
            SUITE + '[[recipes]]\nname = "one"\nsteps = [{method = "random", keep = 2, seed = -1}]',
            r":4: method 'random': option 'seed' should be at least 0",
        ),
        (f"{SUITE}[calibration]\nseed = {2**32}\n", r":3: 'seed' should be at most 4294967295"),
        (f"{SUITE}[calibration]\nlength = {10**12}\n", r":3: 'length' should be at most"),
        (f"{SUITE}[protocol]\nbatch_size = {10**12}\n", r":3: 'batch_size' should be at most"),
        (f"{SUITE}[protocol]\nlimit = {'9' * 5000}\n", r"too many digits"),
        (f"{SUITE}[protocol]\nlimit = 0x{'f' * 5000}\n", r"too many digits"),
        (f"{SUITE}x = {'[' * 200}{']' * 200}\n", r"nested too deeply"),
        (f'{SUITE}[[recipes]]\nname = "{"x" * 10_000}"\n{STEP}', r":3: 'name' should be text of"),
    ],
)
def test_a_value_beyond_reason_is_named_with_its_line_and_limit(
    tmp_path: Path, text: str, sentence: str
) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(UserError, match=sentence):
        check(Suite.load(tmp_path / "mine.toml"))


def test_a_binary_suite_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(bytes(range(256)))
    with pytest.raises(UserError, match=r"mine\.toml:\d+: it is not text in UTF-8"):
        Suite.load(tmp_path / "mine.toml")


def test_a_suite_is_scanned_once_however_many_recipes_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The work is counted, not timed: scans of the text, and characters in which breaks are looked
    for."""
    scans = []
    document = lines._Scanner.document

    def counted(self: lines._Scanner) -> None:
        scans.append(1)
        document(self)

    monkeypatch.setattr(lines._Scanner, "document", counted)
    for recipes in (10, 100):
        more = [f'[[recipes]]\nname = "r {n}"\n{STEP}' for n in range(recipes)]
        (tmp_path / f"{recipes}.toml").write_text(SUITE + "".join(more))
        check(Suite.load(tmp_path / f"{recipes}.toml"))
    assert len(scans) == 2


def test_line_breaks_are_counted_once() -> None:
    class Counted(str):
        looked = 0

        def count(self, text: str, start: int = 0, end: int | None = None) -> int:  # type: ignore[override]
            end = len(self) if end is None else end
            Counted.looked += end - start
            return str.count(self, text, start, end)

    text = Counted("".join(f"[[recipes]]\nname = {n}\n" for n in range(500)))
    scanner = lines._Scanner(text)
    scanner.document()
    assert scanner.lines["recipes", 499, "name"] == 1000
    assert Counted.looked <= len(text)
