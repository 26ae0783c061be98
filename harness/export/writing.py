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

EXPORT_FORMATS = ("hf", *FORMATS)


def check_format(to: str) -> None:
    """Raise a UserError unless there is a format of this name."""
    if to not in EXPORT_FORMATS:
        raise unknown("format", to, EXPORT_FORMATS, argument="to")


def export(model: MoEModel, folder: Path, to: str, *, dequantise: bool = False) -> Proof:
    """Write a checkpoint and prove it.

    Args:
        model: Compressed or not.
        folder: Must not exist, or be empty; it appears whole and proven, or not at all.
        to: One of `EXPORT_FORMATS`.
        dequantise: With "hf", multiply packed weights out in place of refusing them.

    Raises:
        Refused: an edit, named, stands in the way; nothing is written.
        UserError: no such format, the folder holds something or cannot be written, or what was
            read back is not the model.
    """
    check_format(to)
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
