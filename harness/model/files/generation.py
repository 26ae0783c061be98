"""Settings of generation, `generation_config.json`, which go where the weights go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from harness.disk.reading import read_object
from harness.errors import UserError, first_line
from harness.model.families.switches import switch_off_answers
from harness.model.view import MoEModel

GENERATION = "generation_config.json"


def check_generation(folder: Path) -> None:
    """Raise a UserError for settings that cannot be read, which transformers would leave out."""
    file = folder / GENERATION
    if not file.exists():
        return
    values = read_object(file)
    try:
        GenerationConfig.from_dict(values)
    except Exception as error:  # whatever transformers does with values that it does not expect
        raise UserError(f"{file}: no settings of generation ({first_line(error)}).") from None


def read_generation(model: MoEModel, folder: Path) -> None:
    """Give a model that was built from its configuration what `from_pretrained` gives it.

    Raises:
        UserError: the file is there and cannot be read.
    """
    check_generation(folder)
    here: dict[str, Any] = {"local_files_only": True}
    if not (folder / GENERATION).exists():
        here |= {"config_file_name": "config.json", "_from_model_config": True}
    try:
        config = GenerationConfig.from_pretrained(folder, **here)
    except (AttributeError, TypeError, ValueError) as error:
        where = folder / str(here.get("config_file_name", GENERATION))
        raise UserError(f"{where}: no settings of generation ({first_line(error)}).") from None
    model.frame.generation_config = config
    switch_off_answers(config)


def write_generation(model: MoEModel, folder: Path) -> None:
    """Write the file; unlike transformers' own way, without refusing settings that clash."""
    config = getattr(model.frame, "generation_config", None)
    if isinstance(config, GenerationConfig):
        config.to_json_file(folder / GENERATION)
