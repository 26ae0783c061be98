"""Fingerprints of data sets: digests of the files that their rows come from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from harness.cache.notes import file_sha256


class Fingerprints:
    """Fingerprints of the data sets of one place; each is taken once.

    Args:
        root: A data root; None for the hub, whose cache is looked at and nothing fetched.
    """

    def __init__(self, root: Path | None) -> None:
        self.root = root
        self._taken: dict[str, str] = {}

    def of(self, hub_id: str) -> str:
        """Return a data set's fingerprint; empty where there are no files of it.

        Below a data root it covers the name and the content of every file in the data set's
        folder; of the hub the commit that its cache has.

        Args:
            hub_id: The data set; empty for all that lies in the data root; or a file there.
        """
        if hub_id not in self._taken:
            self._taken[hub_id] = self._take(hub_id)
        return self._taken[hub_id]

    def _take(self, hub_id: str) -> str:
        if self.root is None:
            return _hub_commit(hub_id) if hub_id else ""
        path = self.root / hub_id
        return file_sha256(path) if path.is_file() else _folder_sha256(path)


def _folder_sha256(folder: Path) -> str:
    files = sorted(_files(folder))
    if not files:
        return ""
    content = hashlib.sha256()
    for file in files:
        name = file.relative_to(folder).as_posix()
        content.update(f"{name} {file_sha256(file)}\n".encode("utf-8", "surrogateescape"))
    return content.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    """The files below a folder that are not hidden; through links too, as data sets are read."""
    for place, folders, names in os.walk(folder, followlinks=True):
        here = Path(place)
        # A link to a folder around it would go on for ever.
        around = {here.resolve(), *here.resolve().parents}
        folders[:] = [name for name in folders if (here / name).resolve() not in around]
        for name in names:
            if not name.startswith(".") and (here / name).is_file():
                yield here / name


def _hub_commit(hub_id: str) -> str:
    """The commit of the hub's cache; else the digest of the files that `datasets` has made."""
    from datasets.config import HF_DATASETS_CACHE
    from huggingface_hub.constants import HF_HUB_CACHE

    head = Path(HF_HUB_CACHE, f"datasets--{hub_id.replace('/', '--')}", "refs", "main")
    if head.is_file():
        return head.read_text(encoding="ascii", errors="replace").strip()
    return _folder_sha256(Path(HF_DATASETS_CACHE, hub_id.replace("/", "___")))
