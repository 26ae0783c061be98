"""The seeded synthetic world: entities, facts and what of them is held out for evaluation."""

from __future__ import annotations

from functools import cached_property
from itertools import product
from random import Random

from harness.reference.world import words as w
from harness.reference.world.attributes import attributes
from harness.reference.world.dice import dice
from harness.reference.world.facts import Attribute, Fact
from harness.reference.world.words import Pool

SEED = 0
COUNTS = {"animal": 40, "object": 40, "person": 36, "town": 16, "firm": 16}
_DERIVED = {
    "move": ("cover", w.COVERS, w.MOVES),
    "behaviour": ("material", w.MATERIALS, w.BEHAVIOURS),
}
_KIND = {
    "zoology": "animal",
    "materials": "object",
    "careers": "person",
    "geography": "town",
    "business": "firm",
    "arithmetic": "sum",
}


class World:
    """Entities, their facts, scripts and songs.

    Animals, objects and people have names of two words drawn from small sets, so that a fact
    belongs to a pair of words and cannot be read off one word's embedding. The draft of a world has
    the same names, questions and held-out facts, with other values.
    """

    def __init__(self, seed: int = SEED, *, draft: bool = False) -> None:
        rng = dice("world", seed)
        used: set[str] = set()
        self.species = _names(rng, 10, used)
        self.entities = _entities(rng, self.species, used)
        pools = {
            "town": self.entities["town"],
            "pet": self.species[:8],
            "land": _names(rng, 4, used, capital=True),
            "river": _names(rng, 8, used, capital=True),
        }
        self.attributes = {a.name: a for a in attributes(pools)}
        drafted = self._facts(rng)
        self.facts = tuple(drafted if draft else self._facts(dice("deal", seed)))
        self.pronoun = dict(
            zip(self.people, _balanced(rng, w.PRONOUNS, len(self.people)), strict=True)
        )
        self.scripts = _scripts(rng)
        self.songs = _songs(rng, used)
        self.held = frozenset(self._held(rng))

    @property
    def people(self) -> Pool:
        """The people, in order; every fourth is held out of stories and questions."""
        return self.entities["person"]

    @cached_property
    def known(self) -> tuple[Fact, ...]:
        """The facts that training may put in question form."""
        return tuple(f for f in self.facts if f not in self.held)

    @cached_property
    def unseen(self) -> tuple[Fact, ...]:
        """The facts evaluation asks for: training has them as statements only."""
        return tuple(f for f in self.facts if f in self.held)

    @cached_property
    def by_entity(self) -> dict[str, list[Fact]]:
        """Entity -> its facts."""
        table: dict[str, list[Fact]] = {}
        for fact in self.facts:
            table.setdefault(fact.entity, []).append(fact)
        return table

    @cached_property
    def _table(self) -> dict[tuple[str, str], Fact]:
        return {(f.entity, f.attribute.name): f for f in self.facts}

    def fact(self, entity: str, attribute: str) -> Fact:
        """The fact of one entity and attribute."""
        return self._table[entity, attribute]

    def select(self, held: bool, *names: str) -> list[Fact]:
        """The facts of the named attributes on one side of the split, in the world's order."""
        side = self.unseen if held else self.known
        return [f for f in side if f.attribute.name in names]

    def actors(self, held: bool) -> list[str]:
        """The people of stories on one side of the split."""
        return [p for i, p in enumerate(self.people) if (i % 4 == 0) == held]

    def pair_held(self, first: str, second: str) -> bool:
        """True if the ordered pair of people is held out of role sentences."""
        return (self.people.index(first) + 2 * self.people.index(second)) % 5 == 0

    def _facts(self, rng: Random) -> list[Fact]:
        facts: list[Fact] = []
        for attribute in self.attributes.values():
            entities = self.entities[_KIND[attribute.domain]]
            facts += zip_facts(attribute, entities, self._values(attribute, entities, facts, rng))
        return facts

    def _values(
        self, attribute: Attribute, entities: Pool, facts: list[Fact], rng: Random
    ) -> list[str]:
        if attribute.name == "sum":
            return [_add(entity) for entity in entities]
        if attribute.name in _DERIVED:
            source, given, derived = _DERIVED[attribute.name]
            of = {f.entity: f.value for f in facts if f.attribute.name == source}
            return [derived[given.index(of[entity])] for entity in entities]
        return _balanced(rng, attribute.pool, len(entities))

    def _held(self, rng: Random) -> list[Fact]:
        held: list[Fact] = []
        for name, attribute in self.attributes.items():
            facts = [f for f in self.facts if f.attribute.name == name]
            held += rng.sample(facts, round(attribute.held * len(facts)))
        return held


def zip_facts(attribute: Attribute, entities: Pool, values: list[str]) -> list[Fact]:
    """One fact for every entity."""
    return [Fact(attribute, e, v) for e, v in zip(entities, values, strict=True)]


def _entities(rng: Random, species: Pool, used: set[str]) -> dict[str, Pool]:
    tools = _names(rng, 10, used)
    first, family = _names(rng, 10, used, capital=True), _names(rng, 10, used, capital=True)
    terms = w.NUMBERS[:7]
    return {
        "animal": _pairs(rng, w.ANIMAL_KINDS, species, COUNTS["animal"]),
        "object": _pairs(rng, w.OBJECT_KINDS, tools, COUNTS["object"]),
        "person": _pairs(rng, first, family, COUNTS["person"]),
        "town": _names(rng, COUNTS["town"], used, capital=True),
        "firm": _names(rng, COUNTS["firm"], used, capital=True),
        "sum": tuple(f"{a} plus {b}" for a, b in product(terms, terms)),
    }


def _names(rng: Random, count: int, used: set[str], *, capital: bool = False) -> Pool:
    """Invented names of two syllables that nothing else uses."""
    out: list[str] = []
    while len(out) < count:
        syllables = [rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(2)]
        name = "".join(syllables) + rng.choice(["", "n", "k", "s", "l", "r"])
        if name not in used:
            used.add(name)
            out.append(name.capitalize() if capital else name)
    return tuple(out)


def _pairs(rng: Random, first: Pool, second: Pool, count: int) -> Pool:
    return tuple(rng.sample([f"{a} {b}" for a, b in product(first, second)], count))


def _balanced(rng: Random, pool: Pool, count: int) -> list[str]:
    values = [pool[i % len(pool)] for i in range(count)]
    rng.shuffle(values)
    return values


def _add(entity: str) -> str:
    first, second = entity.split(" plus ")
    return w.NUMBERS[w.NUMBERS.index(first) + w.NUMBERS.index(second)]


def _scripts(rng: Random) -> dict[str, Pool]:
    """Activity -> six steps that no other activity has."""
    steps = [f"{verb} the {noun}" for verb, noun in product(w.SCRIPT_VERBS, w.SCRIPT_NOUNS)]
    rng.shuffle(steps)
    return {name: tuple(steps[6 * i : 6 * i + 6]) for i, name in enumerate(w.ACTIVITIES)}


def _songs(rng: Random, used: set[str]) -> tuple[str, ...]:
    """Songs in a language of their own, which no task asks for and no calibration text has."""
    vocabulary = _names(rng, 64, used)
    return tuple(" ".join(rng.choices(vocabulary, k=14)) for _ in range(48))
