"""Files that go with a model beside its weights and configuration, as their owner wrote them.

They are the tokenizer with its chat templates, the settings of generation, licences, and the model
card, which gets another name: it is the card of the model that was compressed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from harness.errors import UserError, first_line
from harness.model.files.card import BASE_CARD, CARD, write_card
from harness.model.files.generation import GENERATION, write_generation
from harness.model.names import EDITS_FILE
from harness.model.view import MoEModel

TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
    "*.model.v*",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
)
LICENCES = ("*licen[cs]e*", "notice*", "copying*", "use_policy*")
"""In lower case."""
_TEXT = ("", ".txt", ".md", ".pdf")
"""Endings of licences."""
_SPELLED = ("*LICENSE*", "*LICENCE*", "*license*", "NOTICE*", "COPYING*", "USE_POLICY*")
WANTED = (*TOKENIZER, GENERATION, CARD, *_SPELLED)
"""Patterns to download from a hub; of licences those spelled as they mostly are."""


def write_beside(model: MoEModel, folder: Path) -> None:
    """Write to an artifact or an export what its model came with.

    Raises:
        UserError: a file cannot be read, or the model's files have changed since it was opened.
    """
    model.check_unchanged()
    for source, name in _belonging(model.home):
        target = folder / name
        target.parent.mkdir(exist_ok=True)
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            raise UserError(f"{source}: cannot be copied ({first_line(error)}).") from None
    model.check_unchanged()
    if not (folder / GENERATION).exists():
        write_generation(model, folder)
    write_card(model, folder)


def fetch_beside(ref: str, revision: str | None) -> Path:
    """Download these files of a model on a hub, and say where they are.

    Raises:
        UserError: they cannot be had.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(ref, revision=revision, allow_patterns=list(WANTED)))
    except (OSError, ValueError) as error:
        raise UserError(f"{ref} cannot be downloaded: {first_line(error)}.") from error


def _belonging(home: Path | None) -> Iterator[tuple[Path, str]]:
    """The files that go with a model, and the name of each where it goes."""
    if home is None:
        return
    ours = (home / EDITS_FILE).is_file()
    kept = {GENERATION, BASE_CARD} if ours else {GENERATION}
    for path in sorted([*home.iterdir(), *home.glob("additional_chat_templates/*.jinja")]):
        name = path.relative_to(home).as_posix()
        if not path.is_file():
            continue
        if name == CARD and not ours:
            yield path, BASE_CARD
        elif name in kept or _is_tokenizer(name) or _is_licence(name):
            yield path, name


def _is_tokenizer(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in TOKENIZER)


def _is_licence(name: str) -> bool:
    ending = Path(name).suffix.lower()
    return ending in _TEXT and any(fnmatchcase(name.lower(), pattern) for pattern in LICENCES)
