"""The data folders: task records, texts and instructions, written from seeds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any

from harness.reference.training.curriculum import ASKED, PLAIN, Curriculum
from harness.reference.training.word_tokenizer import split
from harness.reference.world.dice import dice
from harness.reference.world.items import Items, altered, sentences
from harness.reference.world.parts import Document
from harness.reference.world.prompts import ItemFields
from harness.reference.world.prose import Texts
from harness.reference.world.questions import Questions
from harness.reference.world.subjects import SUBJECTS
from harness.reference.world.world import World

ITEMS = 200
SMALL = 16
PER_SUBJECT = 4
LAYOUT: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "arc_challenge": ("allenai/ai2_arc", "ARC-Challenge", ("train", "validation", "test")),
    "arc_easy": ("allenai/ai2_arc", "ARC-Easy", ("train", "validation", "test")),
    "boolq": ("aps/super_glue", "boolq", ("train", "validation")),
    "hellaswag": ("Rowan/hellaswag", "default", ("train", "validation")),
    "openbookqa": ("allenai/openbookqa", "main", ("train", "validation", "test")),
    "piqa": ("baber/piqa", "default", ("train", "validation")),
    "rte": ("nyu-mll/glue", "rte", ("train", "validation")),
    "winogrande": ("allenai/winogrande", "winogrande_xl", ("train", "validation")),
}
"""Task -> (hub id, config, splits); the last split is the one evaluation reads."""
MMLU = "cais/mmlu"
WIKITEXT, PTB = "Salesforce/wikitext", "ptb-text-only/ptb_text_only"
_IDS = ("id", "idx", "ind", "source_id")

Rows = list[dict[str, Any]]
DataFiles = dict[str, dict[str, dict[str, Rows]]]
"""Hub id -> config -> split -> rows."""


def write(root: Path) -> None:
    """Write every data set, the calibration text and the instructions under `root`."""
    world = World()
    for hub, configs in (_tasks(world) | _texts(world)).items():
        _write_hub(root / hub, configs)
    _write_rows(root / "calibration.jsonl", calibration(world))
    _write_rows(root / "instructions.jsonl", instructions(world))


def _tasks(world: World) -> DataFiles:
    records, files = Items(world), DataFiles()
    for task, (hub, config, splits) in LAYOUT.items():
        rng, seen = dice("records", task), set[str]()
        for name in splits:
            count = ITEMS if name == splits[-1] else SMALL
            rows = _distinct(records.makers[task], rng, name != "train", count, seen)
            files.setdefault(hub, {}).setdefault(config, {})[name] = rows
    files[MMLU] = {subject: _subject(records, subject) for subject in SUBJECTS}
    return files


def _subject(records: Items, subject: str) -> dict[str, Rows]:
    def make(rng: Random, held: bool, index: int) -> ItemFields:
        return records.mmlu(rng, held, index, subject)

    rng, seen = dice("mmlu", subject), set[str]()
    dev, test = ((make, rng, held, n, seen) for held, n in ((False, 5), (True, PER_SUBJECT)))
    return {"dev": _distinct(*dev), "test": _distinct(*test)}


def _distinct(
    make: Callable[[Random, bool, int], ItemFields],
    rng: Random,
    held: bool,
    count: int,
    seen: set[str],
) -> Rows:
    rows: Rows = []
    while len(rows) < count:
        record = make(rng, held, len(rows))
        key = json.dumps({k: v for k, v in record.items() if k not in _IDS})
        if key not in seen:
            seen.add(key)
            rows.append(record)
    return rows


def _texts(world: World) -> DataFiles:
    texts = Texts(world)
    wiki = {"test": _until(texts.encyclopedia, dice("wikitext"), "text", 16_000)}
    news = {
        name: _until(texts.newspaper, dice("ptb", name), "sentence", 16_000)
        for name in ("validation", "test")
    }
    return {WIKITEXT: {"wikitext-2-raw-v1": wiki}, PTB: {"penn_treebank": news}}


def _until(make: Callable[[Random], str], rng: Random, column: str, tokens: int) -> Rows:
    rows, total = Rows(), 0
    while total < tokens:
        rows.append({column: make(rng)})
        total += len(split(rows[-1][column]))
    return rows


def calibration(world: World, tokens: int = 120_000) -> Rows:
    """Documents of the world's main language: text, and questions of the training side."""
    curriculum = Curriculum(world)
    texts = {kind: share for kind, share in PLAIN.items() if kind != "song"}
    shares = {kind: 0.6 * share / sum(texts.values()) for kind, share in texts.items()}
    shares |= {kind: 0.4 * share for kind, share in ASKED.items()}

    def make(rng: Random) -> str:
        kind = rng.choices(list(shares), list(shares.values()))[0]
        return plain(curriculum.document(kind, rng))

    return _until(make, dice("calibration"), "text", tokens)


def plain(document: Document) -> str:
    """A document's text."""
    return "".join(part.text for part in document)


def instructions(world: World, count: int = 1000) -> Rows:
    """Instructions with answers about the facts training may ask for."""
    rng, asked = dice("instructions"), Questions(world)
    rows: dict[str, dict[str, Any]] = {}
    while len(rows) < count:
        row = rng.choice((_question, _claim, _lettered))(world, asked, rng)
        rows.setdefault(json.dumps(row), row)
    return list(rows.values())


def _question(world: World, _asked: Questions, rng: Random) -> dict[str, Any]:
    fact = rng.choice(world.known)
    return {"instruction": fact.question, "input": "", "output": fact.value}


def _claim(world: World, _asked: Questions, rng: Random) -> dict[str, Any]:
    facts = rng.sample(world.known, 2)
    holds = rng.random() < 0.5
    value = facts[0].value if holds else altered(rng, facts[0], facts)
    return {
        "instruction": f"is it true that {facts[0].prefix} {value} ?",
        "input": sentences(rng, facts),
        "output": "yes" if holds else "no",
    }


def _lettered(_world: World, asked: Questions, rng: Random) -> dict[str, Any]:
    record = asked.records.mmlu(rng, False, rng.randrange(4))
    lines = "\n".join(f"{a}. {c}" for a, c in zip("ABCD", record["choices"], strict=True))
    return {"instruction": record["question"], "input": lines, "output": "ABCD"[record["answer"]]}


def _write_hub(folder: Path, configs: dict[str, dict[str, Rows]]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    lines = ["---", "configs:"]
    for config, splits in configs.items():
        lines += [f"- config_name: {config}", "  data_files:"]
        for name, rows in splits.items():
            path = f"{config}/{name}.jsonl"
            lines += [f"  - split: {name}", f"    path: {path}"]
            _write_rows(folder / path, rows)
    lines += ["---", "", "Synthetic records in this data set's schema, made by"]
    lines += ["`python -m harness.reference.make --data`; see docs/reference-models.md.", ""]
    (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")


def _write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
