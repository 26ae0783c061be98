"""Impossible sizes in a configuration: a sentence before anything is built, for every way in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.model.families.limits import LIMITS
from harness.model.families.shipped import CONFIGS
from harness.model.files.identity import describe, read_config
from harness.model.files.opening import open_meta, open_model

Open = Callable[[str], object]
WAYS: dict[str, Open] = {
    "load": open_model,
    "stream": lambda ref: open_model(ref, streaming=True),
    "dry run": open_meta,
    "random weights": lambda ref: describe(ref, random=True),
    "identity": describe,
}


def changed(folder: Path, field: str, value: object) -> str:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, field: value}))
    return str(folder)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("value", [-1, 10**12, 100_000, 0, 4.0, "4", True, [4], None])
def test_an_impossible_number_of_blocks_is_refused_with_the_limit(
    checkpoint: Callable[..., Path], way: str, value: object
) -> None:
    ref = changed(checkpoint("mixtral"), "num_hidden_layers", value)
    sentence = f"{ref}/config.json: 'num_hidden_layers' should be a whole number of 1 to 1000, not "
    with pytest.raises(UserError, match=re.escape(sentence)):
        WAYS[way](ref)


@pytest.mark.parametrize("field", LIMITS)
def test_every_size_has_a_limit(checkpoint: Callable[..., Path], field: str) -> None:
    with pytest.raises(UserError, match=f"{field!r} should be a whole number"):
        read_config(changed(checkpoint("qwen2_moe"), field, 10**15))


@pytest.mark.parametrize("field", ["num_hidden_layers", "hidden_size", "vocab_size"])
def test_sizes_that_the_files_do_not_have_are_refused_before_memory_is_taken(
    checkpoint: Callable[..., Path], field: str
) -> None:
    """transformers would draw the missing weights first, as large as these sizes say."""
    large = {"num_hidden_layers": 900, "hidden_size": 2**13, "vocab_size": 2**22}
    ref = changed(checkpoint("mixtral"), field, large[field])
    with pytest.raises(UserError, match="tensors and configuration do not agree"):
        open_model(ref)


def test_a_tensor_beyond_all_memory_is_refused(checkpoint: Callable[..., Path]) -> None:
    folder = checkpoint("mixtral")
    changed(folder, "vocab_size", 2**23)
    with pytest.raises(UserError, match="'vocab_size' x 'hidden_size' is 8388608 x 131072, a"):
        open_meta(changed(folder, "hidden_size", 2**17))


def test_known_models_are_far_below_the_limits() -> None:
    for file in CONFIGS.glob("*/*.json"):
        for field, value in json.loads(file.read_text()).items():
            if field in LIMITS and field != "max_window_layers" and value:
                assert 8 * value <= LIMITS[field].most
