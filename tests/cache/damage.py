"""Ways in which a file on a disk goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Damage = Callable[[Path], None]


def empty(path: Path) -> None:
    """What a full disk leaves of a file that is not written beside its place."""
    path.write_bytes(b"")


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def cut_by_one(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthened(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def zeros(path: Path) -> None:
    """What a power cut leaves of blocks that were promised and not written."""
    path.write_bytes(bytes(path.stat().st_size))


def flipped(path: Path, place: int = 0) -> None:
    """One bit, so low that a hexadecimal digit mostly stays one."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def flipped_inside(path: Path) -> None:
    flipped(path, path.stat().st_size // 3)


ALL: tuple[Damage, ...] = (empty, cut, cut_by_one, lengthened, zeros, flipped, flipped_inside)
