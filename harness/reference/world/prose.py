"""Plain text of the world, domain by domain."""

from __future__ import annotations

from random import Random

from harness.reference.world.facts import Fact
from harness.reference.world.items import Items, outcome, sentences
from harness.reference.world.words import ACTIVITIES, NUMBERS
from harness.reference.world.world import World


class Texts:
    """Makes documents of plain text; statements of every fact, held out or not."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._records = Items(world)
        self._subjects = [e for e in world.by_entity if " plus " not in e]
        self._nature = [*world.entities["animal"], *world.entities["object"]]

    def biography(self, rng: Random) -> str:
        """Facts of one entity."""
        facts = self.world.by_entity[rng.choice(self._subjects)]
        return sentences(rng, rng.sample(facts, rng.randint(2, len(facts))))

    def encyclopedia(self, rng: Random) -> str:
        """An article with a heading: an animal, an object or a town with its people."""
        towns = self.world.entities["town"]
        name = rng.choice(towns if rng.random() < 0.2 else self._nature)
        body = [f.statement for f in self.world.by_entity[name]]
        body += [f"for {f.value} use the {name}" for f in self._facts(name, "use")]
        body += self._residents(name)
        rng.shuffle(body)
        return f"= {name} =\n" + " . ".join(body[: rng.randint(3, 6)]) + " ."

    def _facts(self, entity: str, *names: str) -> list[Fact]:
        return [f for f in self.world.by_entity[entity] if f.attribute.name in names]

    def _residents(self, town: str) -> list[str]:
        people = [p for p in self.world.people if self.world.fact(p, "town").value == town]
        return [f"{p} lives in {town} and works as a {self._job(p)}" for p in people]

    def _job(self, person: str) -> str:
        return self.world.fact(person, "job").value

    def newspaper(self, rng: Random) -> str:
        """Business news: what firms sell, where they are and how their shares move."""
        firm = rng.choice(self.world.entities["firm"])
        product = self.world.fact(firm, "product").value
        moved = rng.choice(["rose", "fell"])
        lines = [f.statement for f in self.world.by_entity[firm]] * 2
        lines += [
            f"shares of {firm} {moved} {rng.choice(NUMBERS[1:])} percent",
            f"sales of {product} at {firm} {moved} {rng.choice(NUMBERS[1:])} percent",
            f"{firm} will earn {rng.choice(NUMBERS[1:])} million",
        ]
        return " . ".join(rng.sample(lines, rng.randint(2, 4))) + " ."

    def arithmetic(self, rng: Random) -> str:
        """Sums and differences."""
        lines = []
        for _ in range(rng.randint(2, 5)):
            a, b = rng.randint(0, 6), rng.randint(0, 6)
            names = NUMBERS[a], NUMBERS[b], NUMBERS[a + b]
            minus = f"{names[2]} minus {names[0]} is {names[1]}"
            lines.append(rng.choice([f"{names[0]} plus {names[1]} is {names[2]}", minus]))
        return " . ".join(lines) + " ."

    def story(self, rng: Random) -> str:
        """A person of the training side follows a script or finds a tool."""
        person, activity = rng.choice(self.world.actors(held=False)), rng.choice(ACTIVITIES)
        steps, pronoun = self.world.scripts[activity], self.world.pronoun[person]
        if rng.random() < 0.5:
            first = rng.randint(0, 3)
            part = steps[first : rng.randint(first + 2, 6)]
            lead = " . then ".join(f"{person} {s}" for s in part[:-1])
            return f"{activity}: {lead} . {pronoun} {part[-1]} ."
        fact = rng.choice(self.world.select(False, "room", "use"))
        lead = f"{person} {rng.choice(steps)} . then {person} finds the {fact.entity}"
        return f"{activity}: {lead} . {pronoun} {outcome(fact, fact.value)} ."

    def meeting(self, rng: Random) -> str:
        """Sentences about two people, with the one who is meant spelled out."""
        lines = []
        for i in range(3):
            record = self._records.winogrande(rng, False, i)
            lines.append(record["sentence"].replace("_", record[f"option{record['answer']}"]))
        return "\n".join(lines)

    def song(self, rng: Random) -> str:
        """One to three songs in the other language."""
        return " . ".join(rng.sample(self.world.songs, rng.randint(1, 3))) + " ."
