"""Kinds of fault, and how each is done to a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from random import Random

from tests.faults.forms import form_of


class Kind(StrEnum):
    """A way in which a file can be spoiled."""

    FLIP = "flipped bit"
    CUT = "cut short"
    EMPTY = "emptied"
    DELETE = "deleted"
    EDIT = "edited value"
    TWICE = "key twice"
    LINE_GONE = "line deleted"
    LINE_TWICE = "line twice"
    SWAP = "swapped"
    FOLDER = "a folder"
    LINK = "a dead link"
    PIPE = "a pipe"


Spoil = Callable[[Path, Random], None]


def _rewrite(change: Callable[[bytes, Random], bytes]) -> Spoil:
    def spoil(path: Path, rng: Random) -> None:
        path.write_bytes(change(path.read_bytes(), rng))

    return spoil


def _flip(data: bytes, rng: Random) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def _cut(data: bytes, rng: Random) -> bytes:
    return data[: rng.randrange(1, len(data))]


def _edit(path: Path, rng: Random) -> None:
    change = form_of(path).edit
    assert change is not None
    path.write_bytes(change(path.read_bytes(), rng))


def _twice(path: Path, rng: Random) -> None:
    change = form_of(path).repeat
    assert change is not None
    path.write_bytes(change(path.read_bytes(), rng))


def _on_lines(copies: int) -> Spoil:
    """Let a line stand no times or twice."""

    def spoil(path: Path, rng: Random) -> None:
        form = form_of(path)
        assert form.split is not None
        lines = form.split(path.read_bytes())
        place = rng.randrange(len(lines))
        lines[place : place + 1] = [lines[place]] * copies
        path.write_bytes(form.join(lines))

    return spoil


def _swap(path: Path, rng: Random) -> None:
    """Swap a file with another of its folder and ending."""
    other = rng.choice(like(path))
    first, second = path.read_bytes(), other.read_bytes()
    path.write_bytes(second)
    other.write_bytes(first)


def like(path: Path) -> list[Path]:
    """Return the other files that stand beside a file and are of its form, sorted."""
    beside = sorted(one for one in path.parent.iterdir() if one.is_file() and one != path)
    return [one for one in beside if one.suffix == path.suffix]


def _folder(path: Path, rng: Random) -> None:
    path.unlink()
    path.mkdir()


def _link(path: Path, rng: Random) -> None:
    path.unlink()
    path.symlink_to(rng.choice(["nowhere", path.name]))  # the second leads to itself


def _pipe(path: Path, rng: Random) -> None:
    path.unlink()
    os.mkfifo(path)


SPOILS: dict[Kind, Spoil] = {
    Kind.FLIP: _rewrite(_flip),
    Kind.CUT: _rewrite(_cut),
    Kind.EMPTY: _rewrite(lambda data, rng: b""),
    Kind.DELETE: lambda path, rng: path.unlink(),
    Kind.EDIT: _edit,
    Kind.TWICE: _twice,
    Kind.LINE_GONE: _on_lines(0),
    Kind.LINE_TWICE: _on_lines(2),
    Kind.SWAP: _swap,
    Kind.FOLDER: _folder,
    Kind.LINK: _link,
    Kind.PIPE: _pipe,
}


def fits(kind: Kind, path: Path) -> bool:
    """Return True if a file can have a fault of this kind."""
    form = form_of(path)
    match kind:
        case Kind.EDIT:
            return form.edit is not None
        case Kind.TWICE:
            return form.repeat is not None
        case Kind.LINE_GONE | Kind.LINE_TWICE:
            return form.split is not None
    return path.stat().st_size > 1
