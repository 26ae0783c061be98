"""The models of a cell are those that it was planned with."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.model.files.identity import describe
from harness.run.job import Job
from harness.run.stages.stored_models import StoredModels
from tests.cells import MakeCell
from tests.models import save_checkpoint


def test_a_base_that_changes_during_a_run_is_named(make_cell: MakeCell, tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "base")
    cell = dataclasses.replace(make_cell(), model=describe(str(folder)), steps=())
    models = StoredModels(Job(cell, None, tmp_path / "work", tmp_path / "cache"), lambda _: None)
    models.compress()
    model = models.compressed_model()
    models.base_model(beside=model)
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "add_bos_token": True}))
    with pytest.raises(UserError, match="base was changed while it was in use; run again"):
        models.base_model(beside=model)
    with pytest.raises(UserError, match="base was changed while it was in use; run again"):
        models.compress()
