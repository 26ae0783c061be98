"""The committed data sets: sizes, balance, disjointness from training, and remaking from seed."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.reference import DATA, MODELS
from harness.reference.datasets import LAYOUT, MMLU, plain, write
from harness.reference.training.curriculum import Curriculum
from harness.reference.world.dice import dice
from harness.reference.world.prompts import TASKS, Prompt, prompt
from harness.reference.world.subjects import SUBJECTS
from harness.reference.world.world import World

DOCUMENTS = 400


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def evaluation(task: str) -> list[dict[str, Any]]:
    if task == "mmlu":
        return [row for s in SUBJECTS for row in rows(DATA / MMLU / s / "test.jsonl")]
    hub, config, splits = LAYOUT[task]
    return rows(DATA / hub / config / f"{splits[-1]}.jsonl")


def prompts(task: str) -> list[Prompt]:
    return [prompt(task, row) for row in evaluation(task)]


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def stream(world: World) -> str:
    """A sample of every kind of training document, with the training side's files."""
    curriculum, rng = Curriculum(world), dice("test")
    parts = [
        plain(curriculum.document(kind, rng))
        for kind in curriculum.makers
        for _ in range(DOCUMENTS)
    ]
    parts += [row["text"] for row in rows(DATA / "calibration.jsonl")]
    parts += [f"{r['input']}\n{r['instruction']}" for r in rows(DATA / "instructions.jsonl")]
    return " ".join(" ".join(part.split()) for part in parts)


@pytest.mark.parametrize("task", TASKS)
def test_at_least_150_distinct_balanced_items(task: str) -> None:
    items = prompts(task)
    assert len({str(item) for item in items}) == len(items) >= 150
    golds = [item.gold for item in items]
    assert max(golds.count(g) for g in set(golds)) <= 0.55 * len(golds)


@pytest.mark.parametrize("task", TASKS)
def test_no_evaluation_item_in_training(task: str, stream: str) -> None:
    for item in prompts(task):
        context, continuation = item.answer
        assert " ".join((context + continuation).split()) not in stream


def test_no_held_fact_in_question_form_in_training(world: World, stream: str) -> None:
    for fact in world.unseen:
        assert fact.question not in stream
        assert f"is it true that {fact.prefix} " not in stream
        assert f"Question: {fact.prefix} " not in stream


def test_evaluation_asks_for_held_facts_only(world: World) -> None:
    known = {fact.question for fact in world.known}
    for task in ("arc_challenge", "arc_easy", "mmlu"):
        for row in evaluation(task):
            assert row["question"].splitlines()[-1] not in known


def test_false_claims_are_not_in_their_passage() -> None:
    for row in evaluation("boolq"):
        claim = row["question"].removeprefix("is it true that ")
        assert (claim in row["passage"]) == bool(row["label"])
    for row in evaluation("rte"):
        assert (row["sentence2"] in row["sentence1"]) == (row["label"] == 0)


def test_every_mmlu_subject_has_test_and_dev() -> None:
    assert len(SUBJECTS) == 57
    for subject in SUBJECTS:
        assert len(rows(DATA / MMLU / subject / "dev.jsonl")) == 5
        assert rows(DATA / MMLU / subject / "test.jsonl")


def test_data_remade_from_seed_is_equal(tmp_path: Path) -> None:
    write(tmp_path)
    names = sorted(p.relative_to(DATA) for p in DATA.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    for name in names:
        assert (tmp_path / name).read_bytes() == (DATA / name).read_bytes(), name


def test_everything_together_is_small() -> None:
    folders = [DATA, *MODELS.values()]
    size = sum(p.stat().st_size for folder in folders for p in folder.rglob("*") if p.is_file())
    assert size <= 15_000_000
