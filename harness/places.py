"""Places of data sets and caches, and the need for the hub, where the user names none."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from harness import reference
from harness.disk.reading import is_file, is_folder, read_object
from harness.errors import UserError

SHIPPED = "reference/"
"""Beginning of the names of models that ship with the package."""


def origin(ref: str) -> str:
    """Return the model that an artifact was made from, or any other model itself."""
    edits = Path(ref) / "edits.json"
    if not is_file(edits):
        return ref
    try:
        base = read_object(edits).get("base")
    except UserError:
        return ref  # opening the artifact will say what is wrong with it
    return str(base["ref"]) if isinstance(base, dict) and "ref" in base else ref


def data_root_of(ref: str, data_root: Path | None) -> Path | None:
    """Return the data root for a model: the user's, the embedded data, or None for the hub.

    Args:
        ref: The model. Without a data root of the user's, models that ship with the package, and
            artifacts made from them, have the embedded data.
        data_root: The user's.
    """
    if data_root is None and origin(ref).startswith(SHIPPED):
        return reference.DATA
    return data_root


def prepare_environment(refs: Iterable[str], data_root: Path | None) -> None:
    """Set the variables that libraries read when they are imported; workers inherit them.

    The hub stays out of reach unless a model, or the data for it, has to come from there.
    """
    if not any(_needs_hub(ref, data_root) for ref in refs):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def _needs_hub(ref: str, data_root: Path | None) -> bool:
    base = origin(ref)
    local = base.startswith(SHIPPED) or is_folder(Path(base))
    return not local or data_root_of(ref, data_root) is None


def cache_folder() -> Path:
    """Return `$MOEBENCH_CACHE`, or `moebench` in the user's cache folder; neither is created."""
    given = os.environ.get("MOEBENCH_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moebench"
