"""The installed methods in a sentence each, without importing them; kept in the cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
from collections.abc import Iterable
from importlib.metadata import EntryPoint
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import UserError
from harness.method import registry, source
from harness.places import cache_folder

Stamps = dict[str, tuple[int, int]]
"""Size in bytes and time of change in nanoseconds of files, by path."""


class Summary(BaseModel):
    """A method as a list shows it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sentence: str
    """The first paragraph of the docstring of the method's class."""
    options: tuple[str, ...]
    """Names of the options, `seed` left out."""


class _Entry(BaseModel):
    """A summary and the files that it was taken from, the file of the method's class first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    summary: Summary
    files: Stamps


class _Cache(BaseModel):
    """The file in the cache folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    readers: Stamps
    """Of the two modules that take summaries: what others took is taken again."""
    entries: dict[str, _Entry]
    """By `module:Class`."""


def summaries() -> dict[str, Summary]:
    """Return the summary of every installed method, by name.

    A summary is taken from the method's source, and by importing the method only where the source
    does not tell. It is kept until a file that it was taken from changes.
    """
    file = _cache_file()
    kept = _kept(file)
    reader = source.Reader()
    taken: dict[str, _Entry] = {}
    result: dict[str, Summary] = {}
    for name, point in sorted(registry.entries().items()):
        entry = kept.get(point.value)
        if entry is None or not _fresh(entry, point):
            try:
                entry = _entry(reader, name, point)
            except UserError as error:
                result[name] = Summary(sentence=f"Cannot be used: {error}", options=())
                continue
        result[name] = entry.summary
        taken[point.value] = entry
    if taken != kept:
        _keep(file, taken)
    return result


def _entry(reader: source.Reader, name: str, point: EntryPoint) -> _Entry:
    """What the source of a method says of it, or what importing it does."""
    try:
        doc, fields, files = reader.describe(point.module, point.attr)
    except source.Unreadable:
        method = registry.method(name)
        doc, fields = inspect.getdoc(method) or "", tuple(method.model_fields)
        sources = (inspect.getsourcefile(kind) for kind in method.__mro__ if kind is not object)
        files = tuple(dict.fromkeys(Path(file) for file in sources if file))
    sentence = " ".join(doc.partition("\n\n")[0].split())
    options = tuple(field for field in fields if field != "seed")
    return _Entry(summary=Summary(sentence=sentence, options=options), files=_stamps(files))


def _fresh(entry: _Entry, point: EntryPoint) -> bool:
    """True if an entry is of the installed file, and no file that it was taken from changed."""
    paths = [Path(path) for path in entry.files]
    try:
        return paths[:1] == [source.file_of(point.module)] and _stamps(paths) == entry.files
    except (OSError, source.Unreadable):
        return False


def _stamps(paths: Iterable[Path]) -> Stamps:
    return {
        str(path): (status.st_size, status.st_mtime_ns)
        for path in paths
        for status in [path.stat()]
    }


def _readers() -> Stamps:
    return _stamps([Path(__file__), Path(source.__file__)])


def _cache_file() -> Path:
    """One file for each place where moebench is installed."""
    place = hashlib.sha256(str(Path(__file__).resolve()).encode()).hexdigest()[:12]
    return cache_folder() / "methods" / f"{place}.json"


def _kept(file: Path) -> dict[str, _Entry]:
    """The entries kept in a file; none where it is not there, damaged, or of another moebench."""
    try:
        cache = _Cache.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return {}
    return cache.entries if cache.readers == _readers() else {}


def _keep(file: Path, entries: dict[str, _Entry]) -> None:
    """Write the entries; where that is impossible they are taken again next time."""
    text = _Cache(readers=_readers(), entries=entries).model_dump_json(indent=1)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(text + "\n", encoding="utf-8")
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)
