"""An artifact opened again right after it was saved: only then is it said to be there."""

from __future__ import annotations

from pathlib import Path

from harness.errors import UserError
from harness.model.files.artifact import remove
from harness.model.files.streaming import open_streamed


def reopen(folder: Path) -> None:
    """Compare an artifact's files with their digests and load every tensor once, block by block.

    Raises:
        UserError: a file is not the one that was saved, or the artifact cannot be opened; it is
            removed then.
    """
    try:
        model = open_streamed(
            str(folder), dtype=None, device="cpu", experts="grouped_mm", attention="sdpa"
        )
        for index in model.numbers:
            model.layer(index)
        if model.has_tokenizer:
            _ = model.tokenizer
    except UserError as error:
        remove(folder)
        why = str(error).partition("; ")[0].rstrip(".")
        raise UserError(
            f"the artifact cannot be opened again after it was written, and was removed: {why}."
        ) from error
