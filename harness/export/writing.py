"""An artifact in another library's format, read back before it gets its name."""

from __future__ import annotations

from pathlib import Path

from harness.errors import unknown
from harness.export.blocking import check_plain, check_quantized, check_structure
from harness.export.configuration import configuration
from harness.export.folder import new_folder, write_checkpoint
from harness.export.formats import FORMATS
from harness.export.proof import Proof, prove
from harness.model.view import MoEModel

TARGETS = ("hf", *FORMATS)


def export(model: MoEModel, folder: Path, to: str, *, dequantise: bool = False) -> Proof:
    """Write a checkpoint and prove it.

    Args:
        model: Compressed or not.
        folder: Must not exist, or be empty; it appears whole and proven, or not at all.
        to: One of `TARGETS`.
        dequantise: With "hf", multiply packed weights out in place of refusing them.

    Raises:
        Refused: an edit, named, stands in the way; nothing is written.
        UserError: no such target, the folder holds something or cannot be written, or what was
            read back is not the model.
    """
    if to not in TARGETS:
        raise unknown("target", to, TARGETS, argument="to")
    check_structure(model, to)
    if to == "hf" and not dequantise:
        check_plain(model)
    form = FORMATS.get(to)
    if form is not None:
        check_quantized(model, to, form.limits)
    config = configuration(model)
    if form is not None:
        config.quantization_config = form.settings(model)
    with new_folder(folder) as scratch:
        write_checkpoint(model, scratch, config, form.pack if form else None)
        return prove(model, scratch, to)
