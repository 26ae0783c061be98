"""The manifest of an artifact, `edits.json`: its edits, and the digests of all its other files.

No file of an artifact can be another one than was saved without the loader saying so.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from harness.disk.reading import is_file, read_object
from harness.errors import UserError
from harness.model.checkpoint import refuse_other_kinds, shards, side_files
from harness.model.names import EDITS_FILE

FORMAT = 2
"""Counts the changes of what an artifact is; before 2 there were no digests."""
_ANYWAY = "`--no-verify` opens it all the same"
_MEND = f"make the artifact again, or copy it again; {_ANYWAY}"
Stamp = tuple[int, int, int, int]


def write_manifest(folder: Path, text: Mapping[str, Any]) -> None:
    """Write the manifest of a folder that holds everything else of its artifact.

    Args:
        folder: The artifact's.
        text: Base, recipe, calibration and edits, as JSON.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = {str(path.relative_to(folder)): _sha256(path) for path in files}
    whole = {"format": FORMAT, **text, "files": digests}
    whole["sha256"] = _own_sha256(whole)
    (folder / EDITS_FILE).write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


@dataclass
class Manifest:
    """A manifest that was read."""

    folder: Path
    """The artifact's."""
    base: Mapping[str, Any]
    """The model that the artifact was made of: `ref` and `sha256`."""
    edits: Sequence[Mapping[str, Any]]
    """As JSON."""
    digests: Mapping[str, str] | None
    """The files' names in the folder, and their sha256; None to believe all of them."""
    identity: str
    """Hash of the whole artifact; of one that is believed, a number that never comes again."""
    _stamps: dict[Path, Stamp] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, *, verify: bool = True) -> Self:
        """The manifest of an artifact, all of whose small files are what was saved.

        Args:
            folder: The artifact's.
            verify: Compare files with their digests: here the manifest itself and all but the
                weights, which `check` compares when they are read.

        Raises:
            UserError: the manifest is missing, corrupt or of another format, a file is damaged or
                missing, or there is one more that loading would read.
        """
        refuse_other_kinds(folder)
        where = folder / EDITS_FILE
        text = read_object(where)
        _check_format(text.get("format"), where, verify=verify)
        if verify and text.get("sha256") != _own_sha256(text):
            raise UserError(f"{where} was changed after the artifact was made; {_MEND}.")
        base, edits, digests = text.get("base"), text.get("edits"), text.get("files", {})
        if not (isinstance(base, dict) and isinstance(edits, list) and isinstance(digests, dict)):
            raise UserError(f"{where} lacks 'base', 'edits' or 'files'; it is no whole artifact.")
        identity = text["sha256"] if verify else uuid.uuid4().hex
        manifest = cls(folder, base, edits, digests if verify else None, identity)
        manifest.check_small()
        return manifest

    def check(self, file: Path) -> None:
        """Compare a file's content with its digest; once, until the file changes.

        Raises:
            UserError: it is another file than the one that was saved.
        """
        if self.digests is None:
            return
        now = stamp(file)
        if self._stamps.get(file) == now:
            return
        name = os.path.relpath(file, self.folder)
        if name not in self.digests:
            raise UserError(
                f"{file} does not belong to the artifact and would change how it is loaded; take "
                f"it out of the folder; {_ANYWAY}."
            )
        if _sha256(file) != self.digests[name]:
            raise UserError(f"{file} was changed after the artifact was made; {_MEND}.")
        self._stamps[file] = now

    def check_all(self) -> None:
        """Compare all weights with their digests: where tensors do not fit, a file is damaged.

        Raises:
            UserError: as `check`.
        """
        for file in shards(self.folder):
            self.check(file)

    def check_small(self) -> None:
        """Compare all but the weights; of these only see that none is missing or too many.

        Raises:
            UserError: as `read`.
        """
        if self.digests is None:
            return
        for name in self.digests:
            if not is_file(self.folder / name):
                raise UserError(f"{self.folder / name} is missing; {_MEND}.")
            if not name.endswith(".safetensors"):
                self.check(self.folder / name)
        for file in side_files(self.folder):
            if file.name != EDITS_FILE:
                self.check(file)
        for file in self.folder.glob("*.safetensors"):
            if file.name not in self.digests:
                self.check(file)


def _check_format(number: object, where: Path, *, verify: bool) -> None:
    if number == FORMAT or (number == 1 and not verify):
        return
    if number == 1:
        raise UserError(
            f"{where}: an artifact of format 1 has no digests, by which a change would be seen; "
            f"make the artifact again; {_ANYWAY}."
        )
    raise UserError(f"{where}: format {number!r} is not {FORMAT}; upgrade moebench.")


def _own_sha256(text: Mapping[str, Any]) -> str:
    """Digest of a manifest without its own digest, as canonical JSON."""
    rest = {name: value for name, value in text.items() if name != "sha256"}
    return hashlib.sha256(
        json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def stamp(file: Path) -> Stamp:
    """The system's facts about a file: inode, bytes, and times of its last changes in ns."""
    stat = file.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
