"""The protocol's hash: the same for as long as nothing that is measured changes."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, Field

from harness.records import protocol
from harness.records.protocol import Protocol


def test_the_hash_of_the_default_protocol_never_changes() -> None:
    # A new field must be listed in LATER; a new default is another protocol, and a new hash here.
    assert Protocol().sha256 == "fd73061a56b17419fdd664402a6ab11b7d42910e621c3407f909ab7036300aea"


def test_a_later_field_at_its_default_changes_no_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    class Inner(BaseModel):
        words: tuple[str, ...] = ()

    class Tomorrow(Protocol):
        none: int | None = None
        nested: Inner = Inner()
        made: dict[str, int] = Field(default_factory=dict)

    today = Protocol().sha256
    assert Tomorrow().sha256 != today
    monkeypatch.setattr(protocol, "LATER", (*protocol.LATER, "none", "nested", "made"))
    assert Tomorrow().sha256 == today
    changed = (Tomorrow(none=0), Tomorrow(nested=Inner(words=("a",))), Tomorrow(made={"a": 0}))
    assert len({tomorrow.sha256 for tomorrow in (Tomorrow(), *changed)}) == 4
