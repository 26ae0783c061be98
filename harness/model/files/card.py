"""The model card of an artifact or an export: what it was made of, and how.

It never claims to be the base model. The base's own card lies beside it under another name, and
the licence that it names stands in this one too.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from harness.disk.reading import parse_yaml
from harness.errors import UserError
from harness.model.view import MoEModel

CARD = "README.md"
BASE_CARD = "BASE_README.md"
_KEPT = ("license", "license_name", "license_link", "language")
"""Fields of the base's card that hold for what is made of it as well."""
_FENCE = "---\n"


def write_card(model: MoEModel, folder: Path) -> None:
    """Write the card of a model whose base's card, if there is one, lies in the folder already."""
    base = folder / BASE_CARD
    about: dict[str, Any] = {"tags": ["moebench"], **(_about(base) if base.exists() else {})}
    name = model.ref.rstrip("/").rpartition("/")[2]
    edits = Counter(edit.kind for edit in model.edits)
    blocks = {kind: len({e.block for e in model.edits if e.kind == kind}) for kind in edits}
    lines = [
        f"# {_plain(name)}, compressed",
        "",
        f"This is not {_plain(name)}: it was made of it by moebench.",
        *([] if edits else ["Nothing was changed."]),
        "",
        *(f"- {kind}: {count} edits in {blocks[kind]} blocks" for kind, count in edits.items()),
        *([""] if edits else []),
        f"The model that it was made of has the sha256 {model.sha256}.",
        *([f"Its card is {BASE_CARD}."] if base.exists() else []),
        "Licences that came with it lie beside this card.",
        "",
    ]
    front = yaml.safe_dump(about, allow_unicode=True, sort_keys=False)
    text = f"{_FENCE}{front}{_FENCE}\n" + "\n".join(lines)
    (folder / CARD).write_text(text, encoding="utf-8")


def _about(card: Path) -> Mapping[str, Any]:
    """The fields that hold on, of a card's front matter; none where it cannot be read."""
    text = card.read_text(encoding="utf-8-sig", errors="replace").replace("\r\n", "\n")
    if not text.startswith(_FENCE):
        return {}
    front, fence, _ = text.removeprefix(_FENCE).partition(f"\n{_FENCE}")
    try:
        fields = parse_yaml(front, str(card)) if fence else None
    except UserError:
        return {}
    if not isinstance(fields, dict):
        return {}
    return {name: fields[name] for name in _KEPT if _is_plain(fields.get(name))}


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(one, str) for one in value)
    return isinstance(value, str)


def _plain(name: str) -> str:
    """A name as code, which no Markdown in it can leave."""
    return f"`{json.dumps(name, ensure_ascii=True)[1:-1].replace('`', chr(39))}`"
