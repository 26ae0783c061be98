"""The verbs on models that are not what they were: one sentence, exit code 2, and no number."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from harness import reference
from harness.cli.app import app
from harness.model.edits import KeepExperts
from harness.model.files import artifact as artifacts
from harness.model.files.opening import open_model
from tests.models import save_checkpoint

Verb = Callable[[Path], list[object]]


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """The verbs run in this process, which they set up as their own."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    yield
    torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]


def evaluate(model: Path) -> list[object]:
    data = ("--data-root", reference.DATA, "--limit", 2)
    return ["evaluate", model, "--tasks", "boolq", *data]


def compress(model: Path) -> list[object]:
    asked = ("--method", "random", "--set", "keep=2", "--sequences", 1, "--length", 16)
    return ["compress", "--model", model, *asked, "--out", model.parent / "small"]


def compress_streaming(model: Path) -> list[object]:
    return [*compress(model), "--streaming"]


def export(model: Path) -> list[object]:
    return ["export", model, "--to", "hf", "--out", model.parent / "exported"]


VERBS = pytest.mark.parametrize("verb", [evaluate, compress, compress_streaming, export])


def moebench(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "base")


@pytest.fixture
def artifact(base: Path, tmp_path: Path) -> Path:
    model = open_model(str(base))
    for block in (0, 1):
        model.apply(KeepExperts(block=block, experts=(0, 2, 3)))
    artifacts.save(model, tmp_path / "artifact")
    return tmp_path / "artifact"


def flip(file: Path, place: int = -2) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


@VERBS
def test_a_damaged_artifact_is_named(verb: Verb, artifact: Path) -> None:
    for name in ("model.safetensors", "config.json", "tokenizer.json", "edits.json"):
        whole = (artifact / name).read_bytes()
        flip(artifact / name)
        result = moebench(*verb(artifact))
        assert (result.exit_code, name in result.stderr, result.stdout) == (2, True, "")
        assert sorted(p.name for p in artifact.parent.iterdir()) == ["artifact", "base"]
        (artifact / name).write_bytes(whole)
    result = moebench(*verb(artifact))
    assert result.exit_code == 0, result.stderr


@VERBS
def test_the_impatient_open_it_all_the_same(verb: Verb, artifact: Path) -> None:
    config = json.loads((artifact / "config.json").read_text())
    (artifact / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-4}))
    refused = moebench(*verb(artifact))
    assert "make the artifact again, or copy it again; `--no-verify` opens it" in refused.stderr
    assert moebench(*verb(artifact), "--no-verify").exit_code == 0


@VERBS
def test_an_adapter_beside_weights_is_refused(verb: Verb, base: Path, artifact: Path) -> None:
    for model in (base, artifact):
        (model / "adapter_config.json").write_text("{}")
        for more in ((), ("--no-verify",)):
            result = moebench(*verb(model), *more)
            assert (result.exit_code, result.stdout) == (2, "")
            assert "merge it into the weights first" in result.stderr


@pytest.mark.parametrize("streaming", [False, True])
def test_compress_says_what_it_wrote_only_once_it_is_open(
    streaming: bool, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verb = compress_streaming if streaming else compress
    saved = artifacts.save

    def save_badly(model: Any, folder: Path, **about: Any) -> None:
        saved(model, folder, **about)
        flip(sorted(folder.glob("*.safetensors"))[-1])

    monkeypatch.setattr(artifacts, "save", save_badly)
    result = moebench(*verb(base))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Wrote" not in result.stderr
    assert "cannot be opened again after it was written" in result.stderr
    assert sorted(p.name for p in base.parent.iterdir()) == ["base"]
    monkeypatch.undo()
    result = moebench(*verb(base))
    assert (result.exit_code, "Wrote" in result.stderr) == (0, True)
