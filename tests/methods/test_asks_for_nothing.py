"""Nothing asks for what it does not use: no tokenizer for ids, no data for blind methods."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.calibration.tokens import Tokens
from harness.errors import UserError
from harness.method.registry import method, names
from harness.model.files.artifact import load
from harness.plan.cell import CellStep
from harness.plan.forms import CalibrationForm
from harness.records.protocol import Protocol
from harness.run.stages.compressing import Places, compress_to
from tests.methods.contract.cases import OPTIONS
from tests.models import draw_weights, from_config, tiny_config

BLIND = ("magnitude", "random", "rtn", "svd")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint without a tokenizer."""
    folder = tmp_path_factory.mktemp("bare")
    lm = from_config(tiny_config("mixtral"), dtype=torch.float32)
    draw_weights(lm, 0)
    lm.save_pretrained(folder)
    return folder


def compressed(bare: Path, out: Path, name: str, form: CalibrationForm) -> Path:
    step = CellStep(name, {**OPTIONS[name][0], "seed": 0}, (), "", form)
    places = Places(None, out.parent / "cache")
    compress_to(out, str(bare), [step], Protocol(), places, say=lambda _: None)
    return out


def test_a_file_of_ids_needs_no_tokenizer(bare: Path, tmp_path: Path) -> None:
    ids = torch.arange(48).reshape(4, 12)
    Tokens(ids, None, "ids", 0, "ids").save(tmp_path / "ids.safetensors")
    form = CalibrationForm(ref=str(tmp_path / "ids.safetensors"), seed=0)
    model = load(compressed(bare, tmp_path / "out", "frequency", form))
    assert not model.has_tokenizer
    assert {len(block.experts) for block in model.blocks} == {4}
    with pytest.raises(UserError, match=r"has no tokenizer; put its tokenizer\.json into"):
        _ = model.tokenizer


def test_ids_are_those_that_the_model_knows(bare: Path, tmp_path: Path) -> None:
    Tokens(torch.full((2, 4), 53), None, "ids", 0, "ids").save(tmp_path / "ids.safetensors")
    form = CalibrationForm(ref=str(tmp_path / "ids.safetensors"), seed=0)
    with pytest.raises(UserError, match="holds the id 53; the model has 0 to 52"):
        compressed(bare, tmp_path / "out", "frequency", form)


def test_text_needs_one(bare: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no tokenizer"):
        compressed(bare, tmp_path / "out", "frequency", CalibrationForm(ref="reference", seed=0))


@pytest.mark.parametrize("name", BLIND)
@pytest.mark.parametrize("ref", ["reference", "eep"])
def test_a_method_that_looks_at_no_token_asks_for_neither_data_nor_tokenizer(
    name: str, ref: str, bare: Path, tmp_path: Path
) -> None:
    """`eep` is C4, which is not here."""
    compressed(bare, tmp_path / "out", name, CalibrationForm(ref=ref, seed=0))
    assert load(tmp_path / "out").edits


def test_the_methods_that_look_at_no_token_say_so() -> None:
    assert tuple(name for name in names() if not method(name).calibrated) == BLIND
