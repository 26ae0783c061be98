"""Names in syntax: those that a statement binds, those that it imports, and those that it reads."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from harness.code.modules import absolute, origin

STAR = "*"
"""The name that `from module import *` binds here."""
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_IMPORTERS = frozenset({"import_module", "__import__"})


def is_for_types(statement: ast.stmt) -> bool:
    """Return True for `if TYPE_CHECKING:` and no more: nothing runs it."""
    match statement:
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
            return not statement.orelse
    return False


def imports(nodes: Iterable[ast.AST], module: str, file: Path) -> Iterator[tuple[str, str]]:
    """Yield the names that imports among some nodes bind, and what each stands for.

    `import a.b` binds `a`, and nothing to `a.b`, which it imports all the same.

    Args:
        nodes: The nodes; imports within them do not count.
        module: Name of the module that they stand in.
        file: Its file.
    """
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                yield alias.asname or top, f"{alias.name if alias.asname else top}:"
                if alias.name != top and not alias.asname:
                    yield "", f"{alias.name}:"
        elif isinstance(node, ast.ImportFrom):
            source = origin(node, module, file)
            for alias in node.names:
                yield alias.asname or alias.name, f"{source}:{alias.name}"


def imported_by_text(node: ast.AST, module: str, file: Path) -> Iterator[str]:
    """Yield the modules that a node names by a string and imports; arguments as for `imports`.

    A string with dots may be one wherever it stands: such names are kept in tables.
    """
    for text in strings(node):
        if "." in text and all(map(str.isidentifier, text.lstrip(".").split("."))):
            yield absolute(text, module, file)
    for call in ast.walk(node):
        match call:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[first, *_]):
                if name in _IMPORTERS and isinstance(first, ast.Constant):
                    yield absolute(str(first.value), module, file)


def is_importer(node: ast.AST) -> bool:
    """Return True for a name of a function that imports what a string names."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in _IMPORTERS
    return False


def outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a statement and all within it that runs when the module is imported."""
    if isinstance(node, (*_FUNCTIONS, ast.ClassDef, ast.Lambda)):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from outside_functions(child)


def bound(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement at the top of a module binds, imports apart."""
    if isinstance(statement, (*_FUNCTIONS, ast.ClassDef)):
        yield statement.name
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            yield node.name


def chains(node: ast.AST) -> Iterator[str]:
    """Yield the dotted names that a node reads.

    Those in annotations of functions are left out, since nothing runs them; those in annotations of
    fields count, in quotes too.
    """
    if isinstance(node, ast.Attribute):
        chain = _chain(node)
        if chain is not None:
            yield chain
            return
    if isinstance(node, ast.Name):
        yield node.id
        return
    if isinstance(node, ast.AnnAssign):
        yield from _quoted(node.annotation)
    for name in node._fields:
        value = getattr(node, name, None)
        if name == "returns" or (isinstance(node, ast.arg) and name == "annotation"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from chains(child)


def strings(node: ast.AST) -> Iterator[str]:
    """Yield the strings in a node."""
    for child in ast.walk(node):
        if isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield child.value


def _quoted(annotation: ast.expr) -> Iterator[str]:
    for text in strings(annotation):
        with suppress(SyntaxError, ValueError):
            yield from chains(ast.parse(text, mode="eval").body)


def _chain(node: ast.expr) -> str | None:
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([node.id, *reversed(names)])
