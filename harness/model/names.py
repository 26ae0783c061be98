"""References to models: the name of a shipped one, a folder, or a hub id."""

from __future__ import annotations

import os
import re
from pathlib import Path

from harness.disk.reading import is_file, is_folder
from harness.errors import UserError, unknown

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


EDITS_FILE = "edits.json"


def is_artifact(folder: Path) -> bool:
    """Return True for a folder of an artifact, also where its manifest is no file any more.

    A link that leads nowhere or a folder under the manifest's name is a damaged artifact: taken for
    a plain checkpoint, it would be opened without its edits.
    """
    return os.path.lexists(folder / EDITS_FILE)


def folder_of(ref: str) -> Path | None:
    """The local folder a reference names; None for a hub id.

    Raises:
        UserError: an unknown reference model, a folder that is not there, or neither.
    """
    from harness.reference import MODELS

    if ref.startswith("reference/"):
        if ref not in MODELS:
            raise unknown("reference model", ref, MODELS)
        return Path(MODELS[ref])
    path = Path(ref)
    if is_folder(path):
        return path
    if is_file(path):
        raise UserError(f"{ref} is a file; name the checkpoint folder that holds config.json.")
    if _HUB_ID.fullmatch(ref) and not ref.startswith("."):
        return None
    raise UserError(
        f"model {ref!r}: no such folder, and not a hub id (owner/name). "
        f"Reference models: {', '.join(sorted(MODELS))}."
    )
