"""A plain transformers checkpoint, where one can express the edits (target "hf")."""

from __future__ import annotations

from pathlib import Path

from harness.export.blocking import check_plain, check_structure
from harness.export.configuration import configuration
from harness.export.folder import new_folder, write_checkpoint
from harness.model.view import MoEModel


def write_plain(model: MoEModel, folder: Path, *, dequantise: bool = False) -> None:
    """Write a checkpoint that `AutoModelForCausalLM.from_pretrained` reads without our code.

    The deepseek family excepted, which transformers does not have: its checkpoint has the
    published names.

    Args:
        model: Its edits must be such that a configuration can say them.
        folder: Must not exist, or be empty; it appears whole or not at all.
        dequantise: Multiply packed weights out in place of refusing them.

    Raises:
        Refused: an edit, named, that a plain checkpoint cannot hold; nothing is written.
        UserError: the folder holds something, or cannot be written.
    """
    check_structure(model, "hf")
    if not dequantise:
        check_plain(model)
    config = configuration(model)
    with new_folder(folder) as scratch:
        write_checkpoint(model, scratch, config)
