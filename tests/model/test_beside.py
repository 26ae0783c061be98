"""What comes with a model goes with it, and its card never claims to be another's."""

from __future__ import annotations

import json
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from harness.errors import UserError
from harness.export.plain import write_plain
from harness.model.edits import KeepExperts
from harness.model.files.artifact import load, save
from harness.model.files.beside import fetch_beside
from harness.model.files.opening import open_model
from tests.models import save_checkpoint

GENERATION = {"eos_token_id": [2, 3], "repetition_penalty": 1.1, "do_sample": True, "top_k": 5}
FILES = {
    "generation_config.json": json.dumps(GENERATION),
    "chat_template.jinja": "{% for m in messages %}{{ m.content }}{% endfor %}",
    "additional_chat_templates/tools.jinja": "{{ messages[0].content }}",
    "special_tokens_map.json": json.dumps({"unk_token": "<unk>"}),
    "LICENSE": "The licence.",
    "LICENSE-MODEL.md": "Of the model.",
    "model_license.txt": "Again.",
    "NOTICE": "A notice.",
    "USE_POLICY.md": "A policy.",
}
CARD = "---\nlicense: other\nlicense_name: mine\ntags: [chat]\n---\n# Tiny\nI am Tiny itself.\n"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = save_checkpoint(tmp_path / "tiny")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    (folder / "README.md").write_text(CARD)
    (folder / "trainer_state.json").write_text("{}")
    return folder


@pytest.fixture
def places(base: Path, tmp_path: Path) -> list[Path]:
    """An artifact, one made of it, and an export of that, whole and streamed."""
    made = []
    for streaming in (False, True):
        model = open_model(str(base), streaming=streaming)
        model.apply(KeepExperts(block=0, experts=(0, 2, 3)))
        model.apply(KeepExperts(block=1, experts=(0, 1, 3)))
        first, second, out = (tmp_path / f"{name}-{streaming}" for name in "abc")
        save(model, first)
        again = open_model(str(first), streaming=streaming)
        save(again, second)
        write_plain(again, out)
        made += [first, second, out]
    return made


def test_side_files_go_with_the_weights_as_they_were(base: Path, places: list[Path]) -> None:
    tokenizer = {name: (base / name).read_text() for name in ("tokenizer.json",)}
    for place in places:
        for name, text in (FILES | tokenizer).items():
            assert (place / name).read_text() == text, place
        assert not (place / "trainer_state.json").exists()
        config = json.loads((place / "tokenizer_config.json").read_text())
        assert config == json.loads((base / "tokenizer_config.json").read_text())


def test_the_card_says_what_was_made_of_what(base: Path, places: list[Path]) -> None:
    for place in places:
        assert (place / "BASE_README.md").read_text() == CARD
        card = (place / "README.md").read_text()
        front = yaml.safe_load(card.split("---\n")[1])
        assert (front["license"], front["license_name"]) == ("other", "mine")
        assert "# `tiny`, compressed" in card
        assert "This is not `tiny`" in card
        assert "- keep_experts: 2 edits in 2 blocks" in card
        assert "I am Tiny" not in card


def test_a_card_without_fields_or_with_broken_ones_is_kept_all_the_same(
    base: Path, tmp_path: Path
) -> None:
    for number, text in enumerate(("# T", "---\nlicense: [\n---\n", "---\n- a\n---\n", "---\n")):
        (base / "README.md").write_text(text)
        save(open_model(str(base)), tmp_path / f"{number}")
        assert (tmp_path / f"{number}" / "BASE_README.md").read_text() == text
        front = (tmp_path / f"{number}" / "README.md").read_text().split("---\n")[1]
        assert yaml.safe_load(front) == {"tags": ["moebench"]}


def answers(folder: Path) -> list[int]:
    lm: Any = open_model(str(folder)).lm
    torch.manual_seed(3)
    ids = torch.tensor([[5, 6, 7, 8]])
    out = lm.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, use_cache=True)
    assert isinstance(out, torch.Tensor)
    result: list[int] = out[0].tolist()
    return result


@pytest.mark.parametrize(
    "settings",
    [
        GENERATION,
        {"eos_token_id": list(range(20)), "do_sample": False},
        {"repetition_penalty": 50.0},
        {"return_dict_in_generate": True, "output_scores": True, "use_cache": False},
        None,
    ],
)
def test_a_model_and_what_is_saved_of_it_generate_the_same(
    settings: dict[str, Any] | None, base: Path, tmp_path: Path
) -> None:
    file, config = base / "generation_config.json", base / "config.json"
    if settings is None:  # old ones have their settings among the others
        file.unlink()
        old = json.loads(config.read_text()) | {"repetition_penalty": 50.0, "use_cache": False}
        config.write_text(json.dumps(old))
    else:
        file.write_text(json.dumps(settings))
    wanted = answers(base)
    save(open_model(str(base)), tmp_path / "artifact")
    save(open_model(str(base), streaming=True), tmp_path / "streamed")
    write_plain(load(tmp_path / "artifact"), tmp_path / "export")
    for name in ("artifact", "streamed", "export"):
        assert answers(tmp_path / name) == wanted, name


def test_settings_of_generation_that_cannot_be_read_are_refused(base: Path) -> None:
    for text in ('{"eos_token_id": [2, 3', "[]", '{"eos_token_id": 2, "eos_token_id": 3}'):
        (base / "generation_config.json").write_text(text)
        for streaming in (False, True):
            with pytest.raises(UserError, match=r"generation_config\.json"):
                open_model(str(base), streaming=streaming)


def test_files_that_change_before_they_are_copied_are_refused(base: Path, tmp_path: Path) -> None:
    model = open_model(str(base))
    (base / "chat_template.jinja").write_text("another")
    with pytest.raises(UserError, match="was changed while it was in use"):
        save(model, tmp_path / "artifact")
    assert not (tmp_path / "artifact").exists()


def test_of_a_hub_the_same_files_are_fetched(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(ref: str, *, revision: str | None = None, allow_patterns: list[str]) -> str:
        asked.append((ref, revision))
        names = [path.relative_to(base).as_posix() for path in base.rglob("*")]
        for name in names:
            wanted = any(fnmatch(name, pattern) for pattern in allow_patterns)
            if wanted and (base / name).is_file():
                (tmp_path / "hub" / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / "hub" / name).write_bytes((base / name).read_bytes())
        return str(tmp_path / "hub")

    asked: list[tuple[str, str | None]] = []
    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    model = open_model(str(base))
    model.home = fetch_beside("acme/tiny", "abc")
    assert asked == [("acme/tiny", "abc")]
    assert not (model.home / "model.safetensors").exists()
    save(model, tmp_path / "artifact")
    for name in (*FILES, "tokenizer.json"):
        assert (tmp_path / "artifact" / name).read_bytes() == (base / name).read_bytes()
    assert (tmp_path / "artifact" / "BASE_README.md").read_text() == CARD
