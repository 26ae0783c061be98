"""Records of older formats, read as today's; and what no record may hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.records.digest import sealed
from harness.records.migrations import MIGRATIONS
from harness.records.protocol import Protocol
from harness.records.reading import Damaged, parse_record, record_text
from harness.records.record import FORMAT, UNKNOWN, Item, PerplexityResult, Record, TaskResult
from harness.records.store import Store
from tests.records.made_up import record

FROZEN = Protocol(tasks=("boolq",), average=("boolq",), perplexity=("wikitext2",))
ROOT = Path(__file__).parents[2]


@pytest.fixture
def today() -> Record:
    return record("pruned", {"boolq": 0.7}, protocol=FROZEN, perplexity=2.0)


def older(values: dict[str, Any]) -> dict[str, Any]:
    """A record as the first moebench wrote it."""
    lacking = {key: value for key, value in values.items() if key not in ("basis", "items_sha256")}
    texts = {
        name: {"protocol" if key == "text" else key: value for key, value in result.items()}
        for name, result in values["perplexity"].items()
    }
    steps = [{**step, "source": "0" * 64} for step in values["recipe"]]
    return {**lacking, "format": 1, "perplexity": texts, "recipe": steps}


def test_a_record_of_format_1_is_todays_without_what_it_lacks(today: Record) -> None:
    text = json.dumps(older(today.model_dump(mode="json"))).encode()
    assert parse_record(text, "here") == today.model_copy(update={"items_sha256": UNKNOWN})


def test_every_older_format_has_a_migration() -> None:
    assert sorted(MIGRATIONS) == list(range(1, FORMAT))


@pytest.mark.parametrize("place", [("recipe",), ("perplexity",), ("perplexity", "wikitext2")])
@pytest.mark.parametrize("value", [None, 7, "x", [], [7], {"x": 7}])
def test_a_damaged_record_of_format_1_is_a_sentence(
    today: Record, place: tuple[str, ...], value: object
) -> None:
    values = older(today.model_dump(mode="json"))
    *inner, last = place
    at = values
    for key in inner:
        at = at[key]
    at[last] = value
    if value == [] and place == ("recipe",):
        return  # a baseline's
    with pytest.raises(Damaged, match="here: damaged"):
        parse_record(json.dumps(values).encode(), "here")


@pytest.mark.parametrize("suite", ["quickstart", "regression", "ordering"])
def test_the_archives_of_the_repository_are_read(suite: str) -> None:
    store = Store(ROOT / "results" / suite)
    records = store.planned()
    assert len(records) == len(store.plan().cells)
    assert store.damage() == []
    if store.archived.items_path.exists():
        assert store.items(records[0].cell)


def test_a_record_holds_its_digest_whatever_its_keys(today: Record) -> None:
    counts = {block: {expert: expert for expert in range(12)} for block in range(11)}
    step = today.recipe[0].model_copy(update={"options": {"blocks": {2: "a", 10: "b"}}})
    notes = [{"name": "n", "data": {"counts": counts, "text": "é猫\u2028", "x": -0.0, "y": 1e300}}]
    held = today.model_copy(update={"recipe": [step], "notes": notes})
    for indent in (None, 1):
        text = record_text(held, indent=indent).encode()
        assert record_text(parse_record(text, "here"), indent=indent).encode() == text


@pytest.mark.parametrize("format_", [0, -1, True, None, "2", 2.0, [2]])
def test_a_format_that_never_was_is_damage(today: Record, format_: object) -> None:
    text = json.dumps(sealed({**today.model_dump(mode="json"), "format": format_}))
    with pytest.raises(Damaged, match=f"format should be 1 to {FORMAT}"):
        parse_record(text.encode(), "here")


def test_a_record_of_todays_format_without_digest_is_damage(today: Record) -> None:
    with pytest.raises(Damaged, match="it has no digest"):
        parse_record(json.dumps(today.model_dump(mode="json")).encode(), "here")


INF, NAN = float("inf"), float("nan")
TASK = {
    "task": "boolq",
    "version": "1",
    "items": 3,
    "shots": 0,
    "metrics": {"acc": 0.5},
    "data": "d",
    "seconds": 1.0,
}
TEXT = {
    "text": "wikitext2",
    "value": 2.0,
    "tokens": 1,
    "windows": 1,
    "length": 1,
    "data": "d",
    "seconds": 1.0,
}
ITEM = {"task": "boolq", "item": "i", "prompt": "p", "metrics": {"acc": 1.0}}


@pytest.mark.parametrize(
    ("kind", "like", "fields"),
    [
        (TaskResult, TASK, {"metrics": {"acc": 1.7}}),
        (TaskResult, TASK, {"metrics": {"acc": -0.1}}),
        (TaskResult, TASK, {"metrics": {"acc_norm": NAN}}),
        (TaskResult, TASK, {"metrics": {"exact_match,strict-match": 1.01}}),
        (TaskResult, TASK, {"metrics": {"f1": INF}}),
        (TaskResult, TASK, {"metrics": {"word_perplexity": 0.5}}),
        (TaskResult, TASK, {"stderr": {"acc": -0.1}}),
        (TaskResult, TASK, {"stderr": {"acc": NAN}}),
        (TaskResult, TASK, {"chance": 1.1}),
        (TaskResult, TASK, {"majority": -0.1}),
        (TaskResult, TASK, {"items": -1}),
        (TaskResult, TASK, {"seconds": -1.0}),
        (PerplexityResult, TEXT, {"value": -1.0}),
        (PerplexityResult, TEXT, {"value": 0.99}),
        (PerplexityResult, TEXT, {"value": INF}),
        (PerplexityResult, TEXT, {"value": NAN}),
        (PerplexityResult, TEXT, {"tokens": -1}),
        (Item, ITEM, {"loglikelihoods": [-1.0, 0.5]}),
        (Item, ITEM, {"loglikelihoods": [-INF]}),
        (Item, ITEM, {"metrics": {"acc": 2.0}}),
    ],
)
def test_a_number_that_cannot_be_is_refused(
    kind: type[TaskResult | PerplexityResult | Item],
    like: dict[str, Any],
    fields: dict[str, Any],
) -> None:
    kind.model_validate(like)
    with pytest.raises(ValidationError):
        kind.model_validate({**like, **fields})


def test_numbers_without_such_a_range_stay() -> None:
    metrics = {"f1": 87.5, "mcc": -0.3, "bits_per_byte": 0.2, "word_perplexity": 1e300}
    assert TaskResult.model_validate({**TASK, "metrics": metrics}).metrics == metrics
    logarithm = {"perplexity": -3.5}  # lm-eval's, of one item
    assert Item.model_validate({**ITEM, "metrics": logarithm}).metrics == logarithm
