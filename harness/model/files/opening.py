"""Opening models by a reference name, a hub id, a checkpoint folder or an artifact."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.model.checkpoint import plain_files
from harness.model.files.identity import (
    check_unchanged,
    describe,
    read_config,
    refuse_adapter_on_hub,
)
from harness.model.files.skeleton import _implementations, build_on_meta, building
from harness.model.names import EDITS_FILE, folder_of
from harness.model.tokenizer import tokenizer_source

if TYPE_CHECKING:
    from pathlib import Path

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
    verify: bool = True,
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
        verify: Refuse an artifact with a file that is not the one that was saved.

    Raises:
        UserError: the model is not there, not whole, not of a known family, or its files change
            while they are read.
    """
    from harness.model.files.artifact import load
    from harness.model.files.streaming import open_streamed

    how: dict[str, Any] = {"device": device, "dtype": dtype}
    how |= {"experts": experts, "attention": attention}
    if streaming:
        return open_streamed(ref, verify=verify, **how)
    folder = folder_of(ref)
    if folder is not None and (folder / EDITS_FILE).is_file():
        return load(folder, verify=verify, **how)
    return _open_checkpoint(ref, folder, **how)


def _open_checkpoint(
    ref: str,
    folder: Path | None,
    *,
    dtype: torch.dtype | None,
    device: str,
    experts: str,
    attention: str,
) -> MoEModel:
    """Load a checkpoint whole, as transformers does."""
    from harness.model.families.switches import switch_off, switch_off_answers
    from harness.model.files.beside import fetch_beside
    from harness.model.files.fit import check_folder
    from harness.model.files.generation import check_generation
    from harness.model.files.head import tell_head
    from harness.model.shell import own
    from harness.model.view import MoEModel

    info = describe(ref)
    if folder is None:
        refuse_adapter_on_hub(ref)
    else:
        plain_files(folder)
        check_generation(folder)
        check_folder(folder, experts=experts, attention=attention)
    config = read_config(ref)
    stated = switch_off(config)
    lm = _from_pretrained(
        str(folder or ref),
        config=config,
        local_files_only=folder is not None,
        dtype=dtype or "auto",
        **_implementations(info.family, experts, attention),
    )
    tell_head(lm)
    switch_off_answers(lm.generation_config)
    lm.to(device)  # type: ignore[arg-type]
    if lm.device.type == "cpu":
        own(lm)
    check_unchanged(ref, info.sha256)
    return MoEModel(
        lm,
        ref=ref,
        sha256=info.sha256,
        tokenizer_source=tokenizer_source(ref),
        check=partial(check_unchanged, ref, info.sha256),
        home=folder or fetch_beside(ref, getattr(config, "_commit_hash", None)),
        stated=stated,
    )


def _from_pretrained(source: str, **options: Any) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    lm: PreTrainedModel
    report: dict[str, Any]
    with building(source):
        lm, report = AutoModelForCausalLM.from_pretrained(  # type: ignore[misc]
            source,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        keys = sorted(str(key) for key in report.get(kind) or ())
        if keys:
            raise UserError(
                f"{source}: the checkpoint does not fit its configuration: {len(keys)} "
                f"{kind.replace('_', ' ')}, the first is {keys[0]}."
            )
    return lm


def open_meta(
    ref: str, *, experts: str = "grouped_mm", attention: str = "sdpa", verify: bool = True
) -> MoEModel:
    """The model on the meta device, edits of an artifact applied: what a dry run compresses.

    A known hub id is opened from its shipped configuration, without network. Of a folder's weights
    only the head and the embedding are read, where its configuration ties what may stand apart.

    Raises:
        UserError: as `describe`, or a file of an artifact is not the one that was saved.
    """
    from harness.model.families.switches import switch_off
    from harness.model.files.artifact import meta_model
    from harness.model.files.head import settle_head
    from harness.model.files.manifest import Manifest
    from harness.model.stored import Files
    from harness.model.view import MoEModel

    folder = folder_of(ref)
    if folder is not None and (folder / EDITS_FILE).is_file():
        manifest = Manifest.read(folder, verify=verify)
        return meta_model(manifest, experts=experts, attention=attention)
    config = read_config(ref, offline=True)
    if folder is not None and any(folder.glob("*.safetensors")):
        settle_head(config, Files(plain_files(folder)))
    stated = switch_off(config)
    lm = build_on_meta(config, experts=experts, attention=attention)
    source = tokenizer_source(ref)
    return MoEModel(lm, ref=ref, sha256=f"meta/{ref}", tokenizer_source=source, stated=stated)
