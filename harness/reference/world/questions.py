"""Question documents about the facts training may ask for."""

from __future__ import annotations

from random import Random

from harness.reference.world.facts import Fact
from harness.reference.world.items import Items, altered, sentences
from harness.reference.world.parts import Document, answer, ask
from harness.reference.world.prompts import description, options, prompt
from harness.reference.world.subjects import SUBJECTS
from harness.reference.world.words import LETTERS
from harness.reference.world.world import World

SINGLE = ("arc_challenge", "openbookqa", "piqa", "hellaswag")


class Questions:
    """Makes question documents in lm-eval's prompt formats."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.records = Items(world)

    def single(self, task: str, rng: Random) -> Document:
        """One item of a task whose answer is a continuation."""
        record = self.records.make(task, rng, False, rng.randrange(4))
        context, continuation = prompt(task, record).answer
        return [ask(context), answer(continuation)]

    def mmlu(self, rng: Random) -> Document:
        """One to three lettered questions of a subject."""
        subject = rng.choice(list(SUBJECTS))
        parts = [ask(description(subject))]
        for _ in range(rng.randint(1, 3)):
            record = self.records.mmlu(rng, False, rng.randrange(4), subject)
            parts += [ask(options(record)), answer(f" {LETTERS[record['answer']]}"), ask("\n\n")]
        return parts[:-1]

    def boolq(self, rng: Random) -> Document:
        """A passage about one entity with yes/no questions."""
        fact = rng.choice(self.world.known)
        facts = [f for f in self.world.by_entity[fact.entity] if f not in self.world.held]
        return self._claims(rng, rng.sample(facts, min(len(facts), 3)), yes_no)

    def rte(self, rng: Random) -> Document:
        """A premise with true and false sentences."""
        return self._claims(rng, rng.sample(self.world.known, rng.choice([1, 2, 2, 3])), true_false)

    def _claims(self, rng: Random, facts: list[Fact], form: ClaimForm) -> Document:
        parts = [ask(sentences(rng, facts))]
        for _ in range(rng.randint(1, 3)):
            parts += claim(rng, rng.choice(facts), facts, form)
        return parts


class ClaimForm:
    """The form of a claim: the text before, the text after, the words for false and true."""

    def __init__(self, before: str, after: str, words: tuple[str, str]) -> None:
        self.before, self.after, self.words = before, after, words

    def document(self, statement: str, *, holds: bool) -> Document:
        """The claim as a question with its answer."""
        question = f"\nQuestion: {self.before}{statement}{self.after}\nAnswer:"
        return [ask(question), answer(f" {self.words[holds]}")]


yes_no = ClaimForm("is it true that ", "?", ("no", "yes"))
true_false = ClaimForm("", " . True or False?", ("False", "True"))


def claim(rng: Random, fact: Fact, facts: list[Fact], form: ClaimForm) -> Document:
    """A true or false claim about a fact of the passage."""
    holds = rng.random() < 0.5
    value = fact.value if holds else altered(rng, fact, facts)
    return form.document(f"{fact.prefix} {value}", holds=holds)
