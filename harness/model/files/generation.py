"""Settings of generation, `generation_config.json`, which go where the weights go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from harness.model.view import MoEModel

GENERATION = "generation_config.json"


def read_generation(model: MoEModel, folder: Path) -> None:
    """Give a model that was built from its configuration what `from_pretrained` gives it."""
    here: dict[str, Any] = {"local_files_only": True}
    try:
        config = GenerationConfig.from_pretrained(folder, **here)
    except OSError:  # as in transformers: none there, or none that can be read
        here |= {"config_file_name": "config.json", "_from_model_config": True}
        config = GenerationConfig.from_pretrained(folder, **here)
    model.frame.generation_config = config


def write_generation(model: MoEModel, folder: Path) -> None:
    """Write the file; unlike transformers' own way, without refusing settings that clash."""
    config = getattr(model.frame, "generation_config", None)
    if isinstance(config, GenerationConfig):
        config.to_json_file(folder / GENERATION)
