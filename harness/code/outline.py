"""The outline of a module: its definitions, each with a digest and the names that it uses."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.code.modules import Unreadable, is_library, origin
from harness.code.syntax import digest, is_silent

EFFECTS = ""
"""Name of the definition that holds all statements which act when the module is imported."""
WHOLE = "*"
"""Name that stands for all definitions of a module."""
_FILE = re.compile(r"[\w-][\w./-]*\.\w+")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Definition:
    """A function, a class or an assignment at the top of a module."""

    digest: str
    """Digest of the syntax, and of where the imported names in it come from."""
    uses: tuple[str, ...]
    """Names that may lie in modules: `name.attribute` as the module sees it, or
    `module:name.attribute` of an import inside the definition."""
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
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        raise Unreadable(f"{file} cannot be read") from error
    return _Reading(file, module).read(tree)


@dataclass
class _Reading:
    file: Path
    module: str
    groups: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, list[str]] = field(default_factory=dict)
    shown: dict[str, list[str]] = field(default_factory=dict)

    def read(self, tree: ast.Module) -> Outline:
        for statement in tree.body:
            self.sort(statement)
        definitions = {name: self.definition(nodes) for name, nodes in self.groups.items()}
        if self.file.name != "__init__.py":  # whose imports are there for others
            named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            self.add_unused(definitions, named | set(_strings(tree)))
        return Outline(definitions, _sorted(self.imports), _sorted(self.shown))

    def sort(self, statement: ast.stmt) -> None:
        """Put a statement of the module's top to the names that it binds."""
        if _is_for_types(statement):
            _bind(self.shown, _imports(ast.walk(statement), self.module, self.file))
            return
        _bind(self.imports, _imports(_outside_functions(statement), self.module, self.file))
        if is_silent(statement):
            return
        names = list(_bound(statement))
        if self.acts(statement) or not names or "_" in names:
            names.append(EFFECTS)
        for name in names:
            self.groups.setdefault(name, []).append(statement)

    def definition(self, nodes: Sequence[ast.stmt]) -> Definition:
        inner: dict[str, list[str]] = {}
        for node in nodes:
            _bind(inner, _imports(ast.walk(node), self.module, self.file))
        chains = sorted({chain for node in nodes for chain in _chains(node)})
        uses, meanings = set(), set()
        for chain in chains:
            root, _, rest = chain.partition(".")
            for target in inner.get(root, ()):
                uses.add(_join(target, rest))
            if root in self.groups or (root in self.imports and root not in inner):
                uses.add(chain)
            for target in (*inner.get(root, ()), *self.imports.get(root, ())):
                meanings.add(f"{root}={target}")
        roots = {chain.partition(".")[0] for chain in chains}
        for name in inner.keys() - roots:  # imported for what importing it does
            uses.update(_join(target, "") for target in inner[name])
        constants = {c for node in nodes for c in _strings(node) if _FILE.fullmatch(c)}
        return Definition(
            digest(nodes, *sorted(meanings)), tuple(sorted(uses)), tuple(sorted(constants))
        )

    def acts(self, statement: ast.stmt) -> bool:
        """Return True where a statement may change more than the names that it binds."""
        if is_silent(statement):
            return False
        match statement:
            case ast.If(body=body, orelse=others):
                return any(map(self.acts, [*body, *others]))
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                return any(self.is_ours(one) for one in statement.decorator_list)
            case ast.Assign(targets=targets):
                return any(not isinstance(one, ast.Name | ast.Tuple) for one in targets)
            case ast.AnnAssign(target=target):
                return not isinstance(target, ast.Name)
        return True

    def is_ours(self, decorator: ast.expr) -> bool:
        """Return True for a decorator that is no library's, and may keep what it is given."""
        chain = next(_chains(decorator), "")
        root = chain.partition(".")[0]
        if root in self.imports:
            return not all(_is_foreign(target) for target in self.imports[root])
        return not hasattr(builtins, root)

    def add_unused(self, definitions: dict[str, Definition], named: set[str]) -> None:
        """Have the module's effects use the imports that nothing in it names."""
        unused = [
            target
            for name, targets in self.imports.items()
            if name not in named
            for target in targets
            if not _is_foreign(target)
        ]
        if unused:
            before = definitions.get(EFFECTS, Definition(digest(()), (), ()))
            definitions[EFFECTS] = Definition(
                digest((), before.digest, *sorted(unused)),
                tuple(sorted({*before.uses, *(_join(target, "") for target in unused)})),
                before.files,
            )


def _join(target: str, rest: str) -> str:
    """`module:name` with further attributes; all of a module where it is named alone."""
    module, _, name = target.partition(":")
    inner = ".".join(filter(None, (name, rest)))
    return f"{module}:{inner or WHOLE}"


def _is_foreign(target: str) -> bool:
    return is_library(target.partition(":")[0].partition(".")[0])


def _sorted(names: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(sorted(set(targets))) for name, targets in names.items()}


def _is_for_types(statement: ast.stmt) -> bool:
    match statement:
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
            return not statement.orelse
    return False


def _bind(names: dict[str, list[str]], imports: Iterable[tuple[str, str]]) -> None:
    for name, target in imports:
        names.setdefault(name, []).append(target)


def _imports(nodes: Iterable[ast.AST], module: str, file: Path) -> Iterator[tuple[str, str]]:
    """The names that imports among some nodes bind, and what each stands for."""
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                yield alias.asname or top, f"{alias.name if alias.asname else top}:"
        elif isinstance(node, ast.ImportFrom):
            source = origin(node, module, file)
            for alias in node.names:
                yield alias.asname or alias.name, f"{source}:{alias.name}"


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    """A statement and all within it that runs when the module is imported."""
    if isinstance(node, (*_FUNCTIONS, ast.ClassDef, ast.Lambda)):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _outside_functions(child)


def _bound(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement at the top of a module binds, imports apart."""
    if isinstance(statement, (*_FUNCTIONS, ast.ClassDef)):
        yield statement.name
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            yield node.name


def _chains(node: ast.AST) -> Iterator[str]:
    """The dotted names that a node reads, annotations of functions left out: nothing runs them."""
    if isinstance(node, ast.Attribute):
        chain = _chain(node)
        if chain is not None:
            yield chain
            return
    if isinstance(node, ast.Name):
        yield node.id
        return
    for name in node._fields:
        value = getattr(node, name, None)
        if name == "returns" or (isinstance(node, ast.arg) and name == "annotation"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _chains(child)


def _chain(node: ast.expr) -> str | None:
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([node.id, *reversed(names)])


def _strings(node: ast.AST) -> Iterator[str]:
    for child in ast.walk(node):
        if isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield child.value
