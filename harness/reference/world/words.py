"""The words of the synthetic world: pools of values, modifiers, scripts and verbs."""

from __future__ import annotations

Pool = tuple[str, ...]


def _pool(text: str) -> Pool:
    return tuple(text.split())


COLORS = _pool("red blue green black white brown yellow gray")
SIZES = _pool("tiny small big giant")
HOMES = _pool("forest desert river mountain swamp cave meadow ocean")
FOODS = _pool("grass seeds fruit meat leaves insects roots honey")
COVERS = _pool("fur feathers scales shell wool spines hair skin")
MOVES = _pool("runs flies swims crawls jumps digs climbs hides")
MATERIALS = _pool("iron wood glass rubber paper wax stone clay")
BEHAVIOURS = _pool("sink float break bounce burn melt crack crumble")
USES = _pool("cutting digging painting cooking writing cleaning fishing measuring")
ROOMS = _pool("kitchen garage bedroom garden attic office cellar hall")
JOBS = _pool("doctor farmer teacher baker sailor painter judge miner")
HOBBIES = _pool("chess music dance poetry cards tennis singing running")
CLIMATES = _pool("hot cold wet dry")
PRODUCTS = _pool("shoes clocks bikes lamps boats toys chairs phones")
NUMBERS = _pool("zero one two three four five six seven eight nine ten eleven twelve")
PRONOUNS = _pool("He She")

ANIMAL_KINDS = _pool("common noble wild striped northern lesser royal silent")
OBJECT_KINDS = _pool("old folding double copper spare hollow pocket electric")

SCRIPT_VERBS = _pool("opens takes washes closes carries finds fills lifts")
SCRIPT_NOUNS = _pool("pan cup brush tent fire rope box basket")
ACTIVITIES = _pool("Baking Camping Sailing Washing Packing Hiking")

ROLES: dict[str, tuple[Pool, Pool]] = {
    "taught": (_pool("wise patient"), _pool("curious young")),
    "beat": (_pool("fast strong"), _pool("slow tired")),
    "helped": (_pool("kind skilled"), _pool("needy hurt")),
}
"""Verb -> (what its subject was, what its object was)."""

LETTERS = _pool("A B C D")
