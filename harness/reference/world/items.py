"""Task records in the public data sets' schemas, made from the facts of the world."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from harness.reference.world.facts import Fact
from harness.reference.world.prompts import ItemFields
from harness.reference.world.subjects import SUBJECTS
from harness.reference.world.words import ACTIVITIES, LETTERS, ROLES
from harness.reference.world.world import World

_STEMS = {
    "behaviour": (
        "when it is tested , the {} will most likely",
        "after many years the {} will most likely",
    ),
    "move": ("when a storm comes , the {} quickly", "when it is afraid , the {} quickly"),
}
_CAREER = ("job", "town", "pet", "hobby")


class Items:
    """Makes records; `held` picks the evaluation side of the world, else the training side."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._attributes = list(world.attributes)
        self.makers: dict[str, Callable[[Random, bool, int], ItemFields]] = {
            "arc_challenge": self.arc_challenge,
            "arc_easy": self.arc_easy,
            "boolq": self.boolq,
            "hellaswag": self.hellaswag,
            "mmlu": self.mmlu,
            "openbookqa": self.openbookqa,
            "piqa": self.piqa,
            "rte": self.rte,
            "winogrande": self.winogrande,
        }

    def make(self, task: str, rng: Random, held: bool, index: int) -> ItemFields:
        """One record of `task`; `index` spreads the labels evenly."""
        return self.makers[task](rng, held, index)

    def _fact(self, rng: Random, held: bool, *names: str) -> Fact:
        return rng.choice(self.world.select(held, *(names or self._attributes)))

    def _domain(self, rng: Random, held: bool, domain: str) -> Fact:
        names = [a.name for a in self.world.attributes.values() if a.domain == domain]
        return self._fact(rng, held, *(names if names else self._attributes))

    def arc_challenge(self, rng: Random, held: bool, index: int) -> ItemFields:
        """A question with distractors from the answer's own pool."""
        fact = self._fact(rng, held)
        return self._arc(fact, rng.sample(fact.others, 3), index, "challenge")

    def arc_easy(self, rng: Random, held: bool, index: int) -> ItemFields:
        """A question with one distractor from the answer's pool and two of other kinds."""
        fact = self._fact(rng, held)
        pools = [a.pool for a in self.world.attributes.values() if fact.value not in a.pool]
        wrong = [rng.choice(pool) for pool in rng.sample(sorted(set(pools)), 2)]
        return self._arc(fact, [rng.choice(fact.others), *wrong], index, "easy")

    def _arc(self, fact: Fact, wrong: list[str], index: int, kind: str) -> ItemFields:
        choices = _place(wrong, fact.value, index % 4)
        return {
            "id": f"{kind}_{index}",
            "question": fact.question,
            "choices": {"text": choices, "label": list(LETTERS)},
            "answerKey": LETTERS[index % 4],
        }

    def openbookqa(self, rng: Random, held: bool, index: int) -> ItemFields:
        """Questions on how an object behaves or an animal flees, asked in words no text uses."""
        fact = self._fact(rng, held, *_STEMS)
        stem = rng.choice(_STEMS[fact.attribute.name]).format(fact.entity)
        choices = _place(rng.sample(fact.others, 3), fact.value, index % 4)
        return {
            "id": f"open_{index}",
            "question_stem": stem,
            "choices": {"text": choices, "label": list(LETTERS)},
            "answerKey": LETTERS[index % 4],
        }

    def mmlu(self, rng: Random, held: bool, index: int, subject: str = "") -> ItemFields:
        """A lettered question of a subject; reading subjects quote a passage first."""
        subject = subject or rng.choice(list(SUBJECTS))
        fact = self._domain(rng, held, SUBJECTS[subject])
        return self.mmlu_of(fact, rng, index, subject)

    def mmlu_of(self, fact: Fact, rng: Random, index: int, subject: str) -> ItemFields:
        """The lettered question about one fact."""
        question = fact.question
        if SUBJECTS[subject] == "reading":
            question = f"{self._passage(fact, rng)}\n{question}"
        choices = _place(rng.sample(fact.others, 3), fact.value, index % 4)
        return {"question": question, "subject": subject, "choices": choices, "answer": index % 4}

    def _passage(self, fact: Fact, rng: Random) -> str:
        return sentences(rng, [fact, *self._beside(fact, rng)])

    def _beside(self, fact: Fact, rng: Random) -> list[Fact]:
        """Up to two more facts of the entity, held out only if `fact` itself is."""
        held = fact in self.world.held
        rest = [
            f
            for f in self.world.by_entity[fact.entity]
            if f is not fact and (held or f not in self.world.held)
        ]
        return rng.sample(rest, min(rng.randint(1, 2), len(rest)))

    def boolq(self, rng: Random, held: bool, index: int) -> ItemFields:
        """Questions on whether a passage says so: the false question has an altered value."""
        fact = self._fact(rng, held)
        facts = [fact, *self._beside(fact, rng)]
        claim = fact.value if index % 2 else altered(rng, fact, facts)
        return {
            "question": f"is it true that {fact.prefix} {claim}",
            "passage": sentences(rng, facts),
            "idx": index,
            "label": index % 2,
        }

    def rte(self, rng: Random, held: bool, index: int) -> ItemFields:
        """Pairs of a premise of two facts and a sentence it entails (0) or not (1)."""
        fact = self._fact(rng, held)
        facts = [fact, rng.choice([f for f in self.world.known if f.entity != fact.entity])]
        claim = altered(rng, fact, facts) if index % 2 else fact.value
        return {
            "sentence1": sentences(rng, facts),
            "sentence2": f"{fact.prefix} {claim} .",
            "label": index % 2,
            "idx": index,
        }

    def piqa(self, rng: Random, held: bool, index: int) -> ItemFields:
        """Questions on what a tool is for, or which of two tools serves a purpose."""
        fact = self._fact(rng, held, "use")
        if rng.random() < 0.6:
            goal = f"what to do with the {fact.entity} ?"
            right, wrong = (f"use it for {u} ." for u in (fact.value, rng.choice(fact.others)))
        else:
            goal = f"how to do some {fact.value} ?"
            tools = self.world.select(held, "use")
            other = rng.choice([f for f in tools if f.value != fact.value])
            right, wrong = (f"use the {f.entity} ." for f in (fact, other))
        solutions = [right, wrong] if index % 2 == 0 else [wrong, right]
        return {"goal": goal, "sol1": solutions[0], "sol2": solutions[1], "label": index % 2}

    def hellaswag(self, rng: Random, held: bool, index: int) -> ItemFields:
        """The next step of a script, or what a story's tool leads to."""
        person, activity = rng.choice(self.world.actors(held)), rng.choice(ACTIVITIES)
        steps, at = self.world.scripts[activity], rng.randint(2, 5)
        if rng.random() < 0.5:
            context = f"{person} {steps[at - 2]} . then {person} {steps[at - 1]} ."
            good = steps[at]
            bad = rng.sample([s for s in steps if s != good], 3)
        else:
            fact = self._fact(rng, held, "room", "use")
            context = f"{person} {steps[at - 1]} . then {person} finds the {fact.entity} ."
            good, *bad = (outcome(fact, v) for v in (fact.value, *rng.sample(fact.others, 3)))
        endings = _place([f"{b} ." for b in bad], f"{good} .", index % 4)
        pronoun = self.world.pronoun[person]
        return {
            "ind": index,
            "activity_label": activity,
            "ctx_a": context,
            "ctx_b": pronoun,
            "ctx": f"{context} {pronoun}",
            "endings": endings,
            "source_id": f"world~{index}",
            "split": "val" if held else "train",
            "split_type": "indomain",
            "label": str(index % 4),
        }

    def winogrande(self, rng: Random, held: bool, index: int) -> ItemFields:
        """Sentences that mean one of two people: told by a fact about one, or by a verb's roles."""
        pair = self._role(rng, held) if rng.random() < 0.25 else self._career(rng, held)
        good, bad, sentence = pair
        options = [good, bad] if index % 2 == 0 else [bad, good]
        return {
            "sentence": sentence,
            "option1": options[0],
            "option2": options[1],
            "answer": str(index % 2 + 1),
        }

    def _role(self, rng: Random, held: bool) -> tuple[str, str, str]:
        while True:
            first, second = rng.sample(self.world.people, 2)
            if self.world.pair_held(first, second) == held:
                break
        verb, side = rng.choice(list(ROLES)), rng.randint(0, 1)
        quality = rng.choice(ROLES[verb][side])
        names = (first, second)
        return names[side], names[1 - side], f"{first} {verb} {second} because _ was {quality} ."

    def _career(self, rng: Random, held: bool) -> tuple[str, str, str]:
        fact = self._fact(rng, held, *_CAREER)
        same = self.world.select(held, fact.attribute.name)
        other = rng.choice([f for f in same if f.value != fact.value])
        first, second = rng.sample([fact.entity, other.entity], 2)
        rest = fact.statement.removeprefix(fact.entity)
        verb = rng.choice(["called", "met"])
        return fact.entity, other.entity, f"{first} {verb} {second} because _{rest} ."


def sentences(rng: Random, facts: list[Fact]) -> str:
    """The facts' statements in random order, each with a full stop."""
    return " . ".join(f.statement for f in rng.sample(facts, len(facts))) + " ."


def altered(rng: Random, fact: Fact, facts: list[Fact]) -> str:
    """Another value of the fact's pool that no fact of the passage has."""
    given = {f.value for f in facts}
    return rng.choice([v for v in fact.others if v not in given])


def outcome(fact: Fact, value: str) -> str:
    """The end of a story with a tool."""
    return f"goes with it to the {value}" if fact.attribute.name == "room" else f"does some {value}"


def _place(wrong: list[str], right: str, at: int) -> list[str]:
    return [*wrong[:at], right, *wrong[at:]]
