"""Outcomes of faults: what a verb did, and whether it may."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tests.faults.calls import Called
from tests.faults.uses import Numbers

USER_ERROR, CELL_FAILED = 2, 1
LONGEST = 600
"""Characters of a sentence, paths included."""


class Outcome(StrEnum):
    """What a verb did with a spoiled file; all but the last it may do."""

    SAME = "same numbers"
    AGAIN = "same numbers, and a warning"
    SENTENCE = "one sentence"
    NAMED = "named beside the rest"
    RENAMED = "another identity"
    FAILED = "failed cell"
    FAULT = "fault"


@dataclass(frozen=True)
class Seen:
    """A call, and the numbers it gave; none where it ended with an error."""

    called: Called
    numbers: Numbers | None = None
    reasons: tuple[str, ...] = ()
    """Reasons of cells that failed."""


@dataclass(frozen=True)
class Judged:
    """An outcome with what there is to say about it."""

    outcome: Outcome
    why: str = ""


def judge(whole: Seen, now: Seen, spoiled: Path, *, sealed: bool) -> Judged:
    """Compare what a verb did with what it does on whole files.

    Args:
        whole: The call on whole files, without an error.
        now: The call on a spoiled one.
        spoiled: The file.
        sealed: True where the file has a digest: other numbers are then not even allowed under
            another identity.
    """
    called = now.called
    if called.fault:
        return Judged(Outcome.FAULT, called.fault)
    if called.code == USER_ERROR:
        return _sentence(called.said, whole.called.said)
    if called.code == CELL_FAILED and now.reasons:
        broken = [reason for reason in now.reasons if "Traceback" in reason]
        return Judged(Outcome.FAULT if broken else Outcome.FAILED, "\n".join(now.reasons))
    if called.code != whole.called.code or now.numbers is None or whole.numbers is None:
        return Judged(Outcome.FAULT, f"exit code {called.code}: {called.said}{called.out}")
    news = _news(called, whole.called)
    if now.numbers == whole.numbers:
        before = whole.called.said.splitlines()
        told = [line for line in called.said.splitlines() if line not in before]
        told = [line for line in told if not _progress(line) or "again" in line]
        return Judged(Outcome.AGAIN if told else Outcome.SAME, "\n".join(told))
    if sorted(now.numbers.values()) == sorted(whole.numbers.values()):
        return Judged(Outcome.RENAMED, _difference(whole.numbers, now.numbers))
    if sealed:
        named = [line for line in news if _names(line, spoiled)]
        what = "" if named else f"{_difference(whole.numbers, now.numbers)}\n"
        return Judged(Outcome.NAMED if named else Outcome.FAULT, f"{what}{''.join(named[:1])}")
    both = now.numbers.keys() & whole.numbers.keys()
    if any(now.numbers[key] != whole.numbers[key] for key in both):
        return Judged(Outcome.FAULT, _difference(whole.numbers, now.numbers))
    return Judged(Outcome.RENAMED, _difference(whole.numbers, now.numbers))


def _sentence(said: str, before: str) -> Judged:
    """Hold an error to one line that begins with the program's name, and no library's words."""
    told = [line for line in said.splitlines() if line.startswith("moebench: ")]
    rest = [
        line
        for line in said.splitlines()
        if line not in told and line not in before.splitlines() and not _progress(line)
    ]
    if len(told) != 1 or rest:
        return Judged(Outcome.FAULT, f"not one sentence:\n{said}")
    if "[Errno" in told[0] or len(told[0]) > LONGEST:
        return Judged(Outcome.FAULT, f"a library's words, or too many:\n{told[0]}")
    return Judged(Outcome.SENTENCE, told[0])


def _progress(line: str) -> bool:
    """True for a line on what is being done, and for a warning, which may stand before an error."""
    return not line.strip() or bool(
        re.match(r"cell \d+/\d+  |.* \.\.\.$|\d+ cells?: |.*(it is made again|again: )", line)
    )


def _news(now: Called, before: Called) -> list[str]:
    old = {*before.out.splitlines(), *before.said.splitlines()}
    return [line for line in (now.out + "\n" + now.said).splitlines() if line not in old]


def _names(line: str, spoiled: Path) -> bool:
    """True for a line that says that something is amiss with the file or what it holds."""
    return spoiled.name in line or any(
        word in line for word in ("damaged", "no record", "missing", "made again", " again: ")
    )


def _difference(whole: Numbers, now: Numbers) -> str:
    """Say what differs, shortly."""
    keys = [key for key in {**whole, **now} if whole.get(key) != now.get(key)]
    shown = [f"{key[:300]}:\n  {whole.get(key)}\n  {now.get(key)}"[:900] for key in keys[:3]]
    return "\n".join([f"{len(keys)} numbers differ", *shown])
