"""Where models come from: a reference name, a hub id, a checkpoint folder or an artifact."""

from __future__ import annotations

import copy
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError, unknown
from harness.model.checkpoint import checkpoint_sha256, read_json, weight_files
from harness.model.known import config_file
from harness.record import ModelInfo

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from harness.model.view import MoEModel

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
EDITS_FILE = "edits.json"


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
    if path.is_dir():
        return path
    if path.exists():
        raise UserError(f"{ref} is a file; name the checkpoint folder that holds config.json.")
    if _HUB_ID.fullmatch(ref) and not ref.startswith("."):
        return None
    raise UserError(
        f"model {ref!r}: no such folder, and not a hub id (owner/name). "
        f"Reference models: {', '.join(sorted(MODELS))}."
    )


def shipped_config(ref: str) -> Path | None:
    """The configuration a dry run reads in place of the hub's.

    None for folders, and for hub ids that no configuration ships for.
    """
    return config_file(ref) if folder_of(ref) is None else None


def describe(ref: str, *, offline: bool = False, random: bool = False) -> ModelInfo:
    """Family and identity of a model, without loading its weights.

    Args:
        ref: Reference name, hub id, checkpoint folder, or artifact folder.
        offline: Take the shipped configuration of a known hub id. Which revision the hub has then
            stays unknown, and the identity is not the one of a real run.
        random: Of the model with random weights: its configuration (and an artifact's edits) are
            all there is to it. The hub is asked only for configurations that do not ship.

    Raises:
        UserError: no such model, or its family is not known.
    """
    from harness.model.families import family_of

    folder = folder_of(ref)
    config = read_config(ref, offline=offline or random)
    family = family_of(config, where=ref)
    if random:
        return ModelInfo(
            ref=ref,
            family=family.model_type,
            sha256=_structure_sha256(ref, config),
            label=f"{_label(ref, folder)} (random weights)",
            weights="random",
        )
    if folder is None:
        commit = getattr(config, "_commit_hash", None) or "unknown"
        sha256 = hashlib.sha256(f"{ref}@{commit}".encode()).hexdigest()
    else:
        sha256 = checkpoint_sha256(folder)
    return ModelInfo(ref=ref, family=family.model_type, sha256=sha256, label=_label(ref, folder))


def _structure_sha256(ref: str, config: Any) -> str:
    """Of the files that say what a model is made of, its weights apart."""
    folder, shipped = folder_of(ref), shipped_config(ref)
    digest = hashlib.sha256(b"random weights\n")
    if folder is not None:
        files = [folder / "config.json", folder / EDITS_FILE]
    elif shipped is not None:
        files = [shipped]
    else:
        files = []
        digest.update(f"{ref}@{getattr(config, '_commit_hash', None)}".encode())
    for file in files:
        digest.update(file.read_bytes() if file.is_file() else b"")
    return digest.hexdigest()


def _label(ref: str, folder: Path | None) -> str:
    if ref.startswith("reference/") or folder is None:
        return ref
    return folder.resolve().name


def read_config(ref: str, *, offline: bool = False) -> Any:
    """The transformers configuration; `offline` as for `describe`.

    Raises:
        UserError: it is missing, corrupt, of an unknown family, or cannot be fetched.
    """
    from transformers import AutoConfig

    from harness.model import deepseek
    from harness.model.families import FAMILIES

    deepseek.register()
    folder = folder_of(ref)
    here = folder or (shipped_config(ref) if offline else None)
    if folder is not None:
        model_type = read_json(folder / "config.json").get("model_type")
        if model_type not in FAMILIES:
            raise unknown("model family", str(model_type), FAMILIES, where=f"{folder}/config.json")
    try:
        return AutoConfig.from_pretrained(
            here or ref, trust_remote_code=False, local_files_only=here is not None
        )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"the configuration of {ref} cannot be read: {_first(error)}.") from error


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
    from harness.model.artifact import load
    from harness.model.streaming import open_streamed
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


def _implementations(model_type: str, experts: str, attention: str) -> dict[str, str]:
    """What to ask of transformers, which refuses an experts implementation for dense models."""
    from harness.model.families import FAMILIES

    found = {"attn_implementation": attention}
    return found if FAMILIES[model_type].dense else {**found, "experts_implementation": experts}


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


def build_on_meta(config: Any, *, experts: str, attention: str) -> PreTrainedModel:
    """The architecture without weights; non-persistent buffers are real."""
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    # Drawing random numbers on the meta device takes most of the time and gives nothing.
    with init_empty_weights(include_buffers=False), no_init_weights():
        lm: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            copy.deepcopy(config),  # from_config writes the implementations into it
            dtype=config.dtype,
            trust_remote_code=False,
            **_implementations(config.model_type, experts, attention),
        )
    lm.tie_weights()
    return lm


def open_meta(ref: str, *, experts: str = "grouped_mm", attention: str = "sdpa") -> MoEModel:
    """The model on the meta device, edits of an artifact applied: what a dry run compresses.

    A known hub id is opened from its shipped configuration, without network.

    Raises:
        UserError: as `describe`.
    """
    from harness.model.artifact import meta_model
    from harness.model.view import MoEModel

    folder = folder_of(ref)
    if folder is not None and (folder / EDITS_FILE).is_file():
        return meta_model(folder, experts=experts, attention=attention)
    lm = build_on_meta(read_config(ref, offline=True), experts=experts, attention=attention)
    return MoEModel(lm, ref=ref, sha256=f"meta/{ref}", tokenizer_source=tokenizer_source(ref))


def tokenizer_source(ref: str) -> Path | str | None:
    """Where a model's tokenizer is: its folder if that holds one, or the hub."""
    folder = folder_of(ref)
    if folder is None:
        return ref
    return folder if any((folder / name).is_file() for name in _TOKENIZER_FILES) else None


def load_tokenizer(source: str | Path | None, ref: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if source is None:
        raise UserError(f"{ref} has no tokenizer; put its tokenizer.json into the model's folder.")
    here = isinstance(source, Path)
    try:
        found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            source, trust_remote_code=False, local_files_only=here
        )
        if _loses_spaces(found):
            found = PreTrainedTokenizerFast.from_pretrained(source, local_files_only=here)
        if _forgets_bos(found, source, here):
            found = type(found).from_pretrained(source, local_files_only=here, add_bos_token=True)
        return found
    except Exception as error:  # tokenizers raises a plain Exception for a corrupt file
        raise UserError(f"the tokenizer of {ref} cannot be read: {_first(error)}.") from error


def _forgets_bos(tokenizer: PreTrainedTokenizerBase, source: str | Path, here: bool) -> bool:
    """Whether tokenizer_config.json asks for a BOS and none comes.

    transformers 5 ignores `add_bos_token` where there is a tokenizer.json; DeepSeek's has no such
    step, and its models would be scored without the BOS they were trained with.
    """
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    asked = get_tokenizer_config(source, local_files_only=here).get("add_bos_token")
    bos = tokenizer.bos_token_id
    return asked is True and bos is not None and tokenizer("a")["input_ids"][:1] != [bos]


def _loses_spaces(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a byte-level vocabulary got steps that are not byte-level.

    DeepSeek's tokenizers call themselves LlamaTokenizerFast, and some releases of transformers 5
    put Llama's steps in the place of those in tokenizer.json: "a b" is then read as "ab".
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = tokenizer.get_vocab()
    byte_level = "\u0120" in vocabulary and "\u2581" not in vocabulary  # how each spells a space
    return backend is not None and byte_level and "ByteLevel" not in str(backend.pre_tokenizer)


_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


def _first(error: BaseException) -> str:
    """The first line of an error's message, without a full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")
