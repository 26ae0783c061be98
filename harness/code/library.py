"""The outlines of modules, remembered from one process to the next while their files stay alike."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.cache import sealed
from harness.cache.notes import file_sha256, settled, stamp
from harness.code.modules import Unreadable, file_of
from harness.code.outline import Definition, Outline, as_json, from_json, outline, outline_of
from harness.places import cache_folder

_READERS = ("modules.py", "names.py", "outline.py", "syntax.py")
"""Files whose change makes all that is remembered void."""


_Note = tuple[str, list[Any]]
"""Facts of a file, and its outline as `as_json` gives it."""


class Library:
    """Modules by name, each read at most once.

    Args:
        texts: Texts of modules that count instead of what their files hold.
    """

    def __init__(self, texts: Mapping[str, bytes] | None = None) -> None:
        self._texts = texts or {}
        self._files: dict[str, Path | None] = {}
        self._outlines: dict[str, Outline] = {}
        self._digests: dict[tuple[str, str], str] = {}
        self._stamps: dict[Path, str | None] = {}
        self._notes = _notes()
        self._remembered: dict[str, Any] = sealed.read(self._notes, dict[str, _Note]) or {}
        self._news: dict[str, Any] = {}

    def knows(self, module: str) -> bool:
        """Return True if a module has a source that can be read."""
        try:
            self.outline(module)
        except Unreadable:
            return False
        return True

    def outline(self, module: str) -> Outline:
        """Return a module's outline.

        Raises:
            Unreadable: there is no source, or it is no Python.
        """
        if module not in self._outlines:
            self._outlines[module] = self._read(module, self.file(module))
        return self._outlines[module]

    def has(self, module: str, name: str) -> bool:
        """Return True if a module with a source has a definition of this name."""
        return self.knows(module) and name in self.outline(module).definitions

    def definition(self, module: str, name: str) -> Definition:
        """Return a definition of a module."""
        return self.outline(module).definitions[name]

    def digest(self, module: str, name: str) -> str:
        """Return the digest of a definition and of the files beside its module that it names."""
        key = (module, name)
        if key not in self._digests:
            definition = self.definition(module, name)
            folder = self.file(module).parent
            files = [folder / file for file in definition.files]
            files = [file for file in files if file.is_file()]
            self._stamps |= {file: _stamp(file) for file in files}
            beside = [file_sha256(file) for file in files]
            self._digests[key] = _joined(definition.digest, *beside)
        return self._digests[key]

    def is_fresh(self) -> bool:
        """Return True if no file has changed since it was read."""
        return all(facts and _stamp(file) == facts for file, facts in self._stamps.items())

    def keep(self) -> None:
        """Write down for other processes what was read now."""
        if self._news:
            sealed.write(self._notes, {**self._remembered, **self._news})
            self._news = {}

    def file(self, module: str) -> Path:
        """Return a module's source file.

        Raises:
            Unreadable: there is none.
        """
        if module not in self._files:
            try:
                self._files[module] = file_of(module)
            except Unreadable:
                self._files[module] = None
        file = self._files[module]
        if file is None:
            raise Unreadable(f"{module} has no source")
        return file

    def _read(self, module: str, file: Path) -> Outline:
        if module in self._texts:
            return outline_of(self._texts[module], file, module)
        facts = self._stamps[file] = _stamp(file)
        key = f"{module} {file}"
        before = self._remembered.get(key)
        if before is not None and facts is not None and before[0] == facts:
            return from_json(before[1])
        read = outline(file, module)
        if facts is not None:
            self._news[key] = [facts, as_json(read)]
        return read


def _stamp(file: Path) -> str | None:
    """The facts by which a file is taken for the same; None where they do not tell yet."""
    now = time.time_ns()
    try:
        stat = file.stat()
    except OSError:
        return None
    return stamp(stat) if settled(stat, now) else None


def _notes() -> Path:
    """The file of outlines: one for each state of the code that makes them."""
    here = Path(__file__).parent
    code = hashlib.sha256(b"".join((here / name).read_bytes() for name in _READERS))
    return cache_folder() / "code" / f"{code.hexdigest()[:16]}.json"


def _joined(digest: str, *more: str) -> str:
    return hashlib.sha256(" ".join((digest, *more)).encode()).hexdigest() if more else digest
