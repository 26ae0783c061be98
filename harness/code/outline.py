"""The outline of a module: its definitions, each with a digest and the names that it uses."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.code import names
from harness.code.modules import OURS, Unreadable, is_library
from harness.code.syntax import digest, is_silent

EFFECTS = ""
"""Name of the definition that holds all statements which act when the module is imported."""
WHOLE = "*"
"""Name that stands for all that a module gives."""
_FILE = re.compile(r"[\w-][\w./-]*\.\w+")


@dataclass(frozen=True)
class Definition:
    """A function, a class or an assignment at the top of a module."""

    digest: str
    """Digest of the syntax, and of where the imported names in it come from."""
    uses: tuple[str, ...]
    """Names that may lie in modules: `name.attribute` as the module sees it, or
    `module:name.attribute` of an import inside the definition; `module:` for importing it."""
    files: tuple[str, ...]
    """Strings that may name a file beside the module."""


@dataclass(frozen=True)
class Outline:
    """A module, read and not imported."""

    definitions: Mapping[str, Definition]
    imports: Mapping[str, Sequence[str]]
    """Names bound by imports, each to `module:name`, or to `module:` for a module."""
    shown: Mapping[str, Sequence[str]]
    """The same for imports that type checkers alone see; a lazy package shows its names so."""


def as_json(read: Outline) -> list[Any]:
    """Return an outline as JSON has it."""
    definitions = {
        name: [one.digest, one.uses, one.files] for name, one in read.definitions.items()
    }
    return [definitions, read.imports, read.shown]


def from_json(value: list[Any]) -> Outline:
    """Return the outline that `as_json` made a value of."""
    definitions, imports, shown = value
    return Outline(
        {
            name: Definition(one[0], tuple(one[1]), tuple(one[2]))
            for name, one in definitions.items()
        },
        imports,
        shown,
    )


def outline(file: Path, module: str) -> Outline:
    """Read a module.

    Raises:
        Unreadable: the file is not there, or is no Python.
    """
    try:
        text = file.read_bytes()
    except OSError as error:
        raise Unreadable(f"{file} cannot be read") from error
    return outline_of(text, file, module)


def outline_of(text: bytes, file: Path, module: str) -> Outline:
    """Read a module whose text is at hand.

    Raises:
        Unreadable: it is no Python.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        raise Unreadable(f"{file} cannot be read") from error
    return _Reading(file, module).read(tree)


@dataclass
class _Reading:
    file: Path
    module: str
    groups: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, list[str]] = field(default_factory=dict)
    shown: dict[str, list[str]] = field(default_factory=dict)
    by_text: bool = False
    """True where the module imports other modules that strings name."""
    hooked: bool = False
    """True where a class of the module hears of the classes that are made of it."""

    def read(self, tree: ast.Module) -> Outline:
        every = list(ast.walk(tree))
        self.by_text = any(map(names.is_importer, every))
        self.hooked = any(map(_is_hook, every))
        for statement in tree.body:
            if names.is_for_types(statement):
                _bind(self.shown, self.imported(ast.walk(statement)))
            else:
                _bind(self.imports, self.imported(names.outside_functions(statement)))
        for statement in tree.body:
            self.sort(statement)
        definitions = {name: self.definition(nodes) for name, nodes in self.groups.items()}
        return Outline(definitions, self.imports, self.shown)

    def sort(self, statement: ast.stmt) -> None:
        """Put a statement of the module's top to the names that it binds."""
        if is_silent(statement) or names.is_for_types(statement):
            return
        bound = list(names.bound(statement))
        if self.acts(statement) or not bound or "_" in bound:
            bound.append(EFFECTS)
        for name in bound:
            self.groups.setdefault(name, []).append(statement)

    def imported(self, nodes: Iterable[ast.AST]) -> Iterable[tuple[str, str]]:
        """Names that imports among some nodes bind, and what each stands for."""
        return names.imports(nodes, self.module, self.file)

    def definition(self, nodes: Sequence[ast.stmt]) -> Definition:
        inner: dict[str, list[str]] = {}
        for node in nodes:
            _bind(inner, self.imported(ast.walk(node)))
        chains = sorted({chain for node in nodes for chain in names.chains(node)})
        uses, meanings = set(), set()
        for chain in chains:
            root, _, rest = chain.partition(".")
            for target in inner.get(root, ()):
                uses.add(_join(target, rest))
            if self.is_of_module(root, inner):
                uses.add(chain)
            targets = dict.fromkeys((*inner.get(root, ()), *self.imports.get(root, ())))
            if targets:
                meanings.add(f"{root}={' or '.join(targets)}")
        roots = {chain.partition(".")[0] for chain in chains}
        for name in inner.keys() - roots:  # imported for what importing it does
            uses.update(f"{reached(target)}:{EFFECTS}" for target in inner[name])
        if self.by_text:
            for node in nodes:
                for other in names.imported_by_text(node, self.module, self.file):
                    uses.add(_join(f"{other}:", ""))
        files = {text for node in nodes for text in names.strings(node) if _FILE.fullmatch(text)}
        return Definition(
            digest(nodes, *sorted(meanings)), tuple(sorted(uses)), tuple(sorted(files))
        )

    def is_of_module(self, name: str, inner: Mapping[str, Sequence[str]]) -> bool:
        """Return True if a name in a definition may be one of the module's.

        Args:
            name: The name.
            inner: Imports inside the definition.
        """
        if name in self.groups:
            return True
        if name in inner:
            return False
        return name in self.imports or (names.STAR in self.imports and not hasattr(builtins, name))

    def acts(self, statement: ast.stmt) -> bool:
        """Return True where a statement may change more than the names that it binds."""
        if is_silent(statement):
            return False
        match statement:
            case ast.If(body=body, orelse=others):
                return any(map(self.acts, [*body, *others]))
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                return any(map(self.is_ours, statement.decorator_list))
            case ast.ClassDef():
                return any(map(self.is_ours, statement.decorator_list)) or self.is_heard(statement)
            case ast.Assign(targets=targets):
                return any(not isinstance(one, ast.Name | ast.Tuple) for one in targets)
            case ast.AnnAssign(target=target):
                return not isinstance(target, ast.Name)
        return True

    def is_ours(self, decorator: ast.expr) -> bool:
        """Return True for a decorator that is no library's, and may keep what it is given."""
        root = _root(decorator)
        if root in self.imports:
            return not all(self.is_foreign(target) for target in self.imports[root])
        return not hasattr(builtins, root)

    def is_heard(self, made: ast.ClassDef) -> bool:
        """Return True if a base of a class may keep it, as `__init_subclass__` can.

        A base in another module is taken for one that does; none of moebench's own is.
        """
        for base in made.bases:
            root = _root(base)
            if root in self.groups and self.hooked:
                return True
            for target in self.imports.get(root, ()):
                if not self.is_foreign(target) and target.partition(".")[0] not in OURS:
                    return True
        return False

    def is_foreign(self, target: str) -> bool:
        """Return True for an import from a library, other than the package of this module."""
        top = target.partition(":")[0].partition(".")[0]
        return top != self.module.partition(".")[0] and is_library(top)


def reached(target: str) -> str:
    """Return the last module that an import may run: `a.b`, of `a:b`, or else `a` around it."""
    return target.replace(":", ".").rstrip(".")


def _join(target: str, rest: str) -> str:
    """`module:name` with further attributes; all of a module where it is named alone."""
    module, _, name = target.partition(":")
    inner = ".".join(filter(None, (name, rest)))
    return f"{module}:{inner or WHOLE}"


def _root(node: ast.expr) -> str:
    return next(names.chains(node), "").partition(".")[0]


def _is_hook(node: ast.AST) -> bool:
    match node:
        case ast.FunctionDef(name="__init_subclass__") | ast.keyword(arg="metaclass"):
            return True
    return False


def _bind(bound: dict[str, list[str]], imports: Iterable[tuple[str, str]]) -> None:
    for name, target in imports:
        targets = bound.setdefault(name, [])
        if target not in targets:
            targets.append(target)
