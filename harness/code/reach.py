"""The code that a function or a class can reach, as one digest per module.

From a definition the way leads by the names in it to other definitions, through re-exports to the
module that defines them, and on from there. A module that is reached at all acts by being imported:
its effects, and those of the packages around it, belong to what is reached. Libraries do not; their
versions are on record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from harness.code.library import Library
from harness.code.modules import FROM_FILE, OURS, is_library
from harness.code.names import STAR
from harness.code.outline import EFFECTS, WHOLE, Outline, reached

SILENT = (
    "harness.errors",
    "harness.disk",
    "harness.records",
    "harness.places",
    "harness.code",
    "harness.cache",
)
"""Rooms that compute no number: sentences, the shape of results, folders, and this one."""
DIGITS = 16
_NOTHING = Outline({}, {}, {})
"""The outline of a package without a file of its own."""


class Place(NamedTuple):
    """A definition and where it stands."""

    module: str
    name: str


class Reach:
    """The way from definition to definition; keeps what it has walked.

    Args:
        library: The source to read.
    """

    def __init__(self, library: Library | None = None) -> None:
        self.library = library or Library()
        self._walks: dict[str, _Walk] = {}
        self._closures: dict[Place, frozenset[Place]] = {}

    def code(
        self, *entries: tuple[str, str], alone: Sequence[tuple[str, str]] = ()
    ) -> dict[str, str]:
        """Return the digest of all reached definitions of each module, by the module's name.

        Args:
            entries: Module and name of the definitions to start from; of a name with dots the
                first part counts.
            alone: Definitions that count themselves, and not what they reach.

        Raises:
            Unreadable: an entry has no source.
        """
        modules: dict[str, list[str]] = {}
        for place in self.places(*entries, alone=alone):
            written = f"{place.name} {self.library.digest(place.module, place.name)}"
            modules.setdefault(self._shown(place.module), []).append(written)
        return {
            module: hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:DIGITS]
            for module, lines in sorted(modules.items())
        }

    def places(
        self, *entries: tuple[str, str], alone: Sequence[tuple[str, str]] = ()
    ) -> set[Place]:
        """Return all reached definitions; arguments and errors as for `code`."""
        reached = {Place(*one) for one in alone}
        for module, name in entries:
            reached |= self._closure(Place(module, name.partition(".")[0]))
        return reached

    def _shown(self, module: str) -> str:
        """The name of a module, or of its file where the name tells where the file lies."""
        return self.library.file(module).name if module.startswith(FROM_FILE) else module

    def _closure(self, entry: Place) -> frozenset[Place]:
        if entry not in self._closures:
            top = entry.module.partition(".")[0]
            own = top if is_library(top) else ""
            walk = self._walks.setdefault(own, _Walk(self.library, own))
            self._closures[entry] = frozenset(walk.places(entry))
        return self._closures[entry]


class _Walk:
    """Walks from definitions of one package."""

    def __init__(self, library: Library, own: str) -> None:
        self.library = library
        self.own = own
        """The package of the entries where it is an installed one, which is then followed."""
        self.steps: dict[Place, tuple[Place, ...]] = {}
        self.effects: dict[str, tuple[Place, ...]] = {}
        self.followed: dict[str, bool] = {}

    def places(self, entry: Place) -> set[Place]:
        self.library.outline(entry.module)  # or it says that there is none
        reached: set[Place] = set()
        # A class that a call has made may have no definition of its name.
        waiting = self._named(*entry) or self._named(entry.module, WHOLE)
        while waiting:
            place = waiting.pop()
            if place in reached:
                continue
            reached.add(place)
            if place.name != EFFECTS:
                waiting += self._effects(place.module)
            waiting += self._steps(place)
        return reached

    def _named(self, module: str, name: str) -> list[Place]:
        return list(self._targets(module, name, seen=set()))

    def _steps(self, place: Place) -> tuple[Place, ...]:
        """The places that a definition leads to."""
        if place not in self.steps:
            uses = self.library.definition(place.module, place.name).uses
            targets = (target for use in uses for target in self._used(place.module, use))
            self.steps[place] = tuple(dict.fromkeys(targets))
        return self.steps[place]

    def _effects(self, module: str) -> tuple[Place, ...]:
        """The effects of a module, of the packages around it, and of all that it imports."""
        if module not in self.effects:
            modules: dict[str, None] = {}
            waiting = [module]
            while waiting:
                one = waiting.pop()
                if one in modules or not one or not self._follows(one):
                    continue
                modules[one] = None
                waiting += [one.rpartition(".")[0], *self._imported(one)]
            acting = (one for one in modules if self.library.has(one, EFFECTS))
            self.effects[module] = tuple(Place(one, EFFECTS) for one in acting)
        return self.effects[module]

    def _imported(self, module: str) -> Iterator[str]:
        """The modules that importing a module imports, or names in them.

        None of a module of moebench itself: importing those has no effects, which a test sees to.
        """
        if module.partition(".")[0] not in OURS and self.library.knows(module):
            for targets in self.library.outline(module).imports.values():
                yield from map(reached, targets)

    def _used(self, module: str, use: str) -> Iterator[Place]:
        other, colon, name = use.partition(":")
        if colon and name == EFFECTS:
            yield from self._effects(other)
        elif colon:
            yield from self._targets(other, name, seen=set())
        else:
            yield from self._targets(module, use, seen=set(), inside=True)

    def _targets(
        self, module: str, name: str, *, seen: set[tuple[str, str]], inside: bool = False
    ) -> Iterator[Place]:
        """The definitions that a dotted name of a module stands for.

        Args:
            module: The module's name.
            name: A name and attributes; `WHOLE` for all definitions and all re-exports.
            seen: Names looked up on the way, against circles.
            inside: True for names used in the module, which do not see imports for types.
        """
        if (module, name) in seen or not self._follows(module):
            return
        seen.add((module, name))
        outline = self.library.outline(module) if self.library.knows(module) else _NOTHING
        root, _, rest = name.partition(".")
        if root == WHOLE:
            yield from (Place(module, one) for one in outline.definitions)
            for targets in (*outline.imports.values(), *outline.shown.values()):
                yield from self._bound(targets, "", seen=seen)
            return
        if root in outline.definitions:
            yield Place(module, root)
        imports = outline.imports.get(root, ())
        if not imports and root not in outline.definitions and not inside:
            imports = outline.shown.get(root, ())
        yield from self._bound(imports, rest, seen=seen)
        if root not in outline.definitions and not imports:
            yield from self._elsewhere(module, name, outline, seen=seen, inside=inside)

    def _bound(
        self, targets: Sequence[str], rest: str, *, seen: set[tuple[str, str]]
    ) -> Iterator[Place]:
        """The definitions of what an import binds, and of attributes of it."""
        for target in targets:
            other, _, name = target.partition(":")
            yield from self._targets(
                other, ".".join(filter(None, (name, rest))) or WHOLE, seen=seen
            )

    def _elsewhere(
        self, module: str, name: str, outline: Outline, *, seen: set[tuple[str, str]], inside: bool
    ) -> Iterator[Place]:
        """The definitions of a name that no statement of a module binds by name."""
        for target in outline.imports.get(STAR, ()):
            yield from self._targets(target.partition(":")[0], name, seen=seen)
        if inside:
            return
        root, _, rest = name.partition(".")
        of_submodule = list(self._targets(f"{module}.{root}", rest or WHOLE, seen=seen))
        yield from of_submodule
        if not of_submodule and "__getattr__" in outline.definitions:
            yield from self._targets(module, WHOLE, seen=seen)

    def _follows(self, module: str) -> bool:
        if module not in self.followed:
            top = module.partition(".")[0]
            silent = any(f"{module}.".startswith(f"{room}.") for room in SILENT)
            self.followed[module] = not silent and (top == self.own or not is_library(top))
        return self.followed[module]


_readers: list[Reach] = []
"""At most one, which has read what this process asked for so far."""


def code_sha256(*entries: tuple[str, str]) -> str:
    """Return one digest of all the code that some definitions can reach.

    Args:
        entries: As for `Reach.code`.

    Raises:
        Unreadable: an entry has no source, as something typed at a prompt.
    """
    if not _readers or not _readers[0].library.is_fresh():
        _readers[:] = [Reach()]
    reach = _readers[0]
    modules = reach.code(*entries)
    reach.library.keep()
    text = "\n".join(f"{module} {digest}" for module, digest in modules.items())
    return hashlib.sha256(text.encode()).hexdigest()
