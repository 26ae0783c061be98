"""Drills: the tasks' formats with invented values, so that only the context helps."""

from __future__ import annotations

from random import Random

from harness.reference.world.facts import Fact
from harness.reference.world.items import Items, sentences
from harness.reference.world.parts import Document, Part, answer, ask, given
from harness.reference.world.prompts import options
from harness.reference.world.questions import claim, true_false, yes_no
from harness.reference.world.words import LETTERS
from harness.reference.world.world import World


class Drills:
    """Makes drills; repeats, pairs and lists draw from `words`."""

    def __init__(self, world: World, words: list[str]) -> None:
        self.world = world
        self.words = [word for word in words if word.isalpha()]
        self.records = Items(world)
        self._groups = {
            name: [f for f in world.known if f.attribute.name == name] for name in world.attributes
        }

    def repeat(self, rng: Random) -> Document:
        """A random segment, two or three times."""
        segment = " ".join(rng.choices(self.words, k=rng.randint(3, 26)))
        again = [Part(f" {segment}", 1.0, answer=True)] * rng.choice([1, 1, 2])
        return [given(segment), *again]

    def pairs(self, rng: Random) -> Document:
        """Random keys with their values, in random order, several times."""
        keys = rng.sample(self.words, rng.randint(2, 7))
        values, seen, parts = rng.choices(self.words, k=len(keys)), set[int](), []
        for _ in range(3 * len(keys)):
            at = rng.randrange(len(keys))
            value = (
                Part(f" {values[at]}", 1.0, answer=True) if at in seen else given(f" {values[at]}")
            )
            parts += [given(f" {keys[at]}"), value]
            seen.add(at)
        return parts

    def member(self, rng: Random) -> Document:
        """True if a word is in a list, in both forms of claims."""
        listed = rng.sample(self.words, rng.randint(1, 8))
        form, parts = rng.choice([yes_no, true_false]), [given(" ".join(listed) + " .")]
        for _ in range(rng.randint(2, 5)):
            word = rng.choice(listed if rng.random() < 0.5 else self.words)
            parts += form.document(word, holds=word in listed)
        return parts

    def recall(self, rng: Random) -> Document:
        """Invented facts, then some of them again."""
        facts = self._invent(rng, rng.randint(2, 4))
        parts = [given(sentences(rng, facts))]
        for _ in range(rng.randint(2, 4)):
            fact = rng.choice(facts)
            parts += [given(f" {fact.prefix}"), answer(f" {fact.value}"), given(" .")]
        return parts

    def boolq(self, rng: Random) -> Document:
        """Yes/no questions about invented facts."""
        return self._claims(rng, yes=True)

    def rte(self, rng: Random) -> Document:
        """True and false sentences about invented facts."""
        return self._claims(rng, yes=False)

    def _claims(self, rng: Random, *, yes: bool) -> Document:
        facts = self._invent(rng, rng.randint(1, 3))
        parts = [given(sentences(rng, facts))]
        for _ in range(rng.randint(2, 4)):
            parts += claim(rng, rng.choice(facts), facts, yes_no if yes else true_false)
        return parts

    def letter(self, rng: Random) -> Document:
        """A value, then its letter among four options."""
        parts: Document = []
        for _ in range(rng.randint(2, 4)):
            fact, at = rng.choice(self.world.known), rng.randrange(4)
            choices = rng.sample(fact.attribute.pool, 4)
            record = {"question": f"{choices[at]} ?", "choices": choices}
            parts += [ask("\n\n" + options(record)), answer(f" {LETTERS[at]}")]
        return parts

    def mmlu(self, rng: Random) -> Document:
        """Invented facts, then a lettered question about one."""
        parts: Document = []
        for _ in range(rng.randint(1, 3)):
            facts = self._invent(rng, rng.randint(1, 2))
            record = self.records.mmlu_of(facts[0], rng, rng.randrange(4), "anatomy")
            passage = f"\n\n{sentences(rng, facts)}\n"
            parts += [given(passage), ask(options(record)), answer(f" {LETTERS[record['answer']]}")]
        return parts

    def reverse(self, rng: Random) -> Document:
        """Lettered options, then each letter's value."""
        choices = rng.sample(rng.choice(self.world.known).attribute.pool, 4)
        parts = [given("\n".join(f"{a}. {c}" for a, c in zip(LETTERS, choices, strict=True)))]
        for at in rng.sample(range(4), 4):
            parts += [ask(f"\n{LETTERS[at]}."), answer(f" {choices[at]}")]
        return parts

    def _invent(self, rng: Random, count: int) -> list[Fact]:
        """Known facts with random values; half the time all of one attribute."""
        group = self._groups[rng.choice(list(self._groups))]
        source = group if rng.random() < 0.5 else self.world.known
        return [f._replace(value=rng.choice(f.attribute.pool)) for f in rng.sample(source, count)]
