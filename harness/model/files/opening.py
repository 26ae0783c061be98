"""Opening models by a reference name, a hub id, a checkpoint folder or an artifact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.model.checkpoint import weight_files
from harness.model.files.identity import describe, read_config
from harness.model.files.skeleton import _implementations, build_on_meta
from harness.model.names import EDITS_FILE, _first, folder_of
from harness.model.tokenizer import tokenizer_source

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from harness.model.view import MoEModel


def open_model(
    ref: str,
    *,
    dtype: torch.dtype | None = None,
    device: str = "cpu",
    experts: str = "grouped_mm",
    attention: str = "sdpa",
    streaming: bool = False,
) -> MoEModel:
    """Load a model.

    Args:
        ref: Reference name, hub id, checkpoint folder, or artifact folder.
        dtype: None for the checkpoint's own.
        device: Where to.
        experts: transformers' experts implementation.
        attention: transformers' attention implementation.
        streaming: Load a block when it is asked for, and hold only a few: for what does not fit
            into memory. All but `MoEModel.lm` is there, and equal to the bit.

    Raises:
        UserError: the model is not there, not whole, or not of a known family.
    """
    from harness.model.files.artifact import load
    from harness.model.files.streaming import open_streamed
    from harness.model.view import MoEModel

    if streaming:
        return open_streamed(ref, device=device, dtype=dtype, experts=experts, attention=attention)
    folder = folder_of(ref)
    if folder is not None and (folder / EDITS_FILE).is_file():
        return load(folder, device=device, dtype=dtype, experts=experts, attention=attention)
    info = describe(ref)
    if folder is not None:
        weight_files(folder)
    lm = _from_pretrained(
        str(folder or ref),
        local_files_only=folder is not None,
        dtype=dtype or "auto",
        **_implementations(info.family, experts, attention),
    )
    lm.to(device)  # type: ignore[arg-type]
    return MoEModel(lm, ref=ref, sha256=info.sha256, tokenizer_source=tokenizer_source(ref))


def _from_pretrained(source: str, **options: Any) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    lm: PreTrainedModel
    report: dict[str, Any]
    try:
        lm, report = AutoModelForCausalLM.from_pretrained(  # type: ignore[misc]
            source,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{source} cannot be loaded: {_first(error)}.") from error
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        keys = sorted(str(key) for key in report.get(kind) or ())
        if keys:
            raise UserError(
                f"{source}: the checkpoint does not fit its configuration: {len(keys)} "
                f"{kind.replace('_', ' ')}, the first is {keys[0]}."
            )
    return lm


def open_meta(ref: str, *, experts: str = "grouped_mm", attention: str = "sdpa") -> MoEModel:
    """The model on the meta device, edits of an artifact applied: what a dry run compresses.

    A known hub id is opened from its shipped configuration, without network.

    Raises:
        UserError: as `describe`.
    """
    from harness.model.files.artifact import meta_model
    from harness.model.view import MoEModel

    folder = folder_of(ref)
    if folder is not None and (folder / EDITS_FILE).is_file():
        return meta_model(folder, experts=experts, attention=attention)
    lm = build_on_meta(read_config(ref, offline=True), experts=experts, attention=attention)
    return MoEModel(lm, ref=ref, sha256=f"meta/{ref}", tokenizer_source=tokenizer_source(ref))
