"""A model's configuration, family and identity, told without its weights."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from harness.disk.reading import read_object
from harness.errors import UserError, first_line, unknown
from harness.model.checkpoint import (
    ADAPTER,
    WHOLE,
    checkpoint_sha256,
    refuse_other_kinds,
    refused_quantized,
)
from harness.model.families.shipped import config_file
from harness.model.names import EDITS_FILE, folder_of
from harness.records.record import ModelInfo


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
    from harness.model.families.family import family_of

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


def check_unchanged(ref: str, sha256: str) -> None:
    """Raise a UserError if a folder's files are not those that its identity was taken of.

    Args:
        ref: As for `describe`; the hub's commits do not change.
        sha256: The identity that `describe` gave.
    """
    folder = folder_of(ref)
    if folder is not None and checkpoint_sha256(folder) != sha256:
        raise UserError(f"{ref} was changed while it was in use; run again.")


def _structure_sha256(ref: str, config: Any) -> str:
    """Hash of the files that say what a model is made of, its weights apart."""
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


def read_config(ref: str, *, offline: bool = False, quantized: bool = False) -> Any:
    """The transformers configuration; `offline` as for `describe`.

    Args:
        ref: As for `describe`.
        offline: As for `describe`.
        quantized: Take the configuration of weights that another library has quantized, too.

    Raises:
        UserError: it is missing, corrupt, of an unknown family or cannot be fetched, or the weights
            are not all that transformers would load, or not where they usually are.
    """
    from transformers import AutoConfig

    from harness.model.families import deepseek
    from harness.model.families.family import FAMILIES
    from harness.model.families.fields import refuse_unread
    from harness.model.families.limits import check_limits
    from harness.model.families.sizes import refuse_impossible

    deepseek.register()
    folder = folder_of(ref)
    here = folder or (shipped_config(ref) if offline else None)
    if folder is not None:
        refuse_other_kinds(folder)
        where = str(folder / "config.json")
        values = read_object(folder / "config.json")
        model_type = str(values.get("model_type"))
        if model_type not in FAMILIES:
            raise unknown("model family", model_type, FAMILIES, where=where)
        check_limits(values, where)
    try:
        config = AutoConfig.from_pretrained(
            here or ref, trust_remote_code=False, local_files_only=here is not None
        )
    except Exception as error:  # whatever transformers does with values that it does not expect
        if here is None and isinstance(error, OSError):
            raise UserError(
                f"{ref}: no folder here, not in the hub's cache, and the hub did not give it (no "
                "network, no such model, or one that needs a login)."
            ) from error
        raise UserError(f"the configuration of {ref} cannot be read: {_reason(error)}.") from error
    _refuse_other_weights(config, ref, quantized=quantized)
    where = f"the configuration of {ref}" if folder is None else str(folder / "config.json")
    try:
        refuse_unread(config, where)
        refuse_impossible(config, where)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{where}: a field is of another kind ({first_line(error)}).") from error
    return config


def write_config(config: Any, folder: Path) -> None:
    """Write `config.json`.

    transformers' own way refuses a configuration with settings of generation, which old ones have.
    """
    config.to_json_file(folder / "config.json", use_diff=True)


def _reason(error: Exception) -> str:
    """The field at fault, where transformers names it in a line and says why in the next."""
    lines = [line.strip() for line in str(error).splitlines()]
    named = len(lines) > 1 and lines[0].endswith(":")
    return " ".join(lines[:2]).rstrip(".") if named else first_line(error)


_QUANTIZED = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
"""Files beside a configuration in which quantizers put what others put into it."""
_SETTINGS = ("quantization_config", "compression_config", "quantization")
"""Fields of a configuration for the same."""


def _refuse_other_weights(config: Any, ref: str, *, quantized: bool) -> None:
    if getattr(config, "transformers_weights", None) is not None:
        raise UserError(
            f"the configuration of {ref} names its weights itself (transformers_weights); give "
            f"that file the name {WHOLE} and take the field out."
        )
    if quantized:
        return
    folder = folder_of(ref)
    beside = [name for name in _QUANTIZED if folder is not None and (folder / name).is_file()]
    for field in _SETTINGS:
        settings = getattr(config, field, None)
        if settings is not None:
            how = settings.get("quant_method") if isinstance(settings, dict) else None
            raise refused_quantized(ref, str(how or f"{field} in config.json"))
    if beside:
        raise refused_quantized(ref, f"it has {beside[0]}")


def refuse_adapter_on_hub(ref: str) -> None:
    """Raise a UserError if the hub has an adapter beside a model, which transformers would load."""
    from transformers.utils.peft_utils import find_adapter_config_file

    if find_adapter_config_file(ref) is not None:
        raise UserError(
            f"{ref} holds an adapter ({ADAPTER}); merge it into the weights first, in a folder."
        )
