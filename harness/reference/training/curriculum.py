"""The texts that training reads, and their change while it runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

from harness.reference.training.word_tokenizer import split
from harness.reference.world.dice import dice
from harness.reference.world.drills import Drills
from harness.reference.world.items import Items
from harness.reference.world.parts import Document, text
from harness.reference.world.prompts import TASKS, prompt
from harness.reference.world.prose import Texts
from harness.reference.world.questions import SINGLE, Questions
from harness.reference.world.subjects import SUBJECTS, title
from harness.reference.world.world import World

Shares = dict[str, float]

BASICS: Shares = {"repeat": 0.4, "pairs": 0.4, "member": 0.2}
DRILLS: Shares = {
    "drill:recall": 0.12,
    "drill:boolq": 0.23,
    "drill:rte": 0.23,
    "drill:letter": 0.12,
    "drill:mmlu": 0.25,
    "drill:reverse": 0.05,
}
ASKED: Shares = {
    "arc_challenge": 0.17,
    "mmlu": 0.33,
    "openbookqa": 0.10,
    "piqa": 0.10,
    "boolq": 0.11,
    "rte": 0.11,
    "hellaswag": 0.08,
}
PLAIN: Shares = {
    "biography": 0.23,
    "encyclopedia": 0.16,
    "newspaper": 0.08,
    "arithmetic": 0.04,
    "story": 0.07,
    "meeting": 0.07,
    "song": 0.35,
}
START = (0.35, 0.40, 0.10, 0.15)
END = (0.02, 0.14, 0.41, 0.43)
"""Shares of basics, drills, questions and plain text at the first and the last blend."""


class Curriculum:
    """Makes training documents of every kind."""

    def __init__(self, world: World) -> None:
        texts, asked = Texts(world), Questions(world)
        self.world, self.words = world, words(world)
        drills = Drills(world, self.words)
        self.makers: dict[str, Callable[[Random], Document]] = {
            name: partial(_plain, getattr(texts, name)) for name in PLAIN
        }
        self.makers |= {name: partial(asked.single, name) for name in SINGLE}
        self.makers |= {"mmlu": asked.mmlu, "boolq": asked.boolq, "rte": asked.rte}
        self.makers |= {name: getattr(drills, name) for name in BASICS}
        self.makers |= {name: getattr(drills, name.removeprefix("drill:")) for name in DRILLS}

    def document(self, kind: str, rng: Random) -> Document:
        """A document of one kind."""
        return self.makers[kind](rng)


def _plain(make: Callable[[Random], str], rng: Random) -> Document:
    return [text(make(rng))]


def mixture(blend: float) -> Shares:
    """Share of every kind between the first (0) and the last (1) blend."""
    out: Shares = {}
    for first, last, group in zip(START, END, (BASICS, DRILLS, ASKED, PLAIN), strict=True):
        share = first * (1 - blend) + last * blend
        out |= {kind: share * part for kind, part in group.items()}
    return out


def words(world: World, samples: int = 600) -> list[str]:
    """Every word that evaluation or training uses."""
    words: set[str] = set()
    rng, records = dice("words"), Items(world)
    for fact in world.facts:
        words |= {*split(fact.statement), *split(fact.question), *fact.attribute.pool}
    for subject in SUBJECTS:
        words |= set(split(title(subject)))
    for song in world.songs:
        words |= set(split(song))
    texts = Texts(world)
    for _ in range(samples):
        for kind in PLAIN:
            words |= set(split(getattr(texts, kind)(rng)))
        for task in TASKS:
            item = prompt(task, records.make(task, rng, rng.random() < 0.5, rng.randrange(4)))
            for part in (*item.contexts, *item.continuations):
                words |= set(split(part))
    return sorted(words)
