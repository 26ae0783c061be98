"""The real model and two mixtures of it, made once; real lines and real items for them."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest
import torch

from harness.data import DataRoot
from harness.errors import UserError
from harness.reference.real.__main__ import make
from harness.reference.real.dense import NAME, gguf_file
from harness.reference.real.mixture import FORMS
from tests.evaluate.conftest import write

MADE = (FORMS[0], FORMS[-1])
MIXTURE = MADE[0].name
NAMES = (NAME, *(form.name for form in MADE))
TASKS = {
    "arc_easy": ("allenai/ai2_arc", "ARC-Easy", "test"),
    "openbookqa": ("allenai/openbookqa", "main", "test"),
    "piqa": ("baber/piqa", "default", "validation"),
    "winogrande": ("allenai/winogrande", "winogrande_xl", "validation"),
}
"""Tasks with the data sets of their items."""


@pytest.fixture(scope="session")
def real_models(real_texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the models; experts are made by fewer tokens than a suite's."""
    try:
        gguf_file()
    except UserError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("real")
    torch.set_num_threads(1)
    text = (real_texts / "wikitext2-tokenised.valid.txt").read_text("utf-8")
    make(folder, text, 2, MADE)
    return folder


@pytest.fixture(scope="session")
def real_root(real_texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root: 20 lines of WikiText-2, and ten items of each of four tasks."""
    root = tmp_path_factory.mktemp("real-data")
    lines = (real_texts / "wikitext2-tokenised.test.txt").read_text("utf-8").splitlines(True)
    rows = [{"text": line} for line in lines if 50 < len(line) < 300]
    write(root, "Salesforce/wikitext", "wikitext-2-raw-v1", "test", rows[:20])
    source = DataRoot(real_texts / "tasks")
    for hub_id, config, split in TASKS.values():
        items = source.rows(hub_id, config, split, limit=10)
        write(root, hub_id, config, split, items)
        write(root, hub_id, config, "train", items)  # stock lm-eval reads it in vain
    return root


@pytest.fixture(scope="session")
def calibration_text(real_texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real sentences as documents of a file."""
    file = tmp_path_factory.mktemp("calibration") / "ptb.jsonl"
    with (real_texts / "ptb.valid.txt").open(encoding="utf-8") as lines:
        texts = [line.strip() for line in islice(lines, 400)]
    file.write_text(json.dumps({"text": " ".join(texts)}), encoding="utf-8")
    return file
