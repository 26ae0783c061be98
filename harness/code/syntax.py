"""A digest of syntax: the same for the same program, whatever its layout and the Python that reads.

Left out are comments, docstrings and all other strings that stand alone, imports (who uses a name
says where it comes from) and the places of everything. `ast.dump` would not do: its text differs
between versions of Python, which add fields and leave out empty ones.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator, Sequence

_UNSAID = frozenset({"type_comment", "kind", "type_ignores", "ctx"})
"""Fields that say nothing beside the others."""


def digest(nodes: Iterable[ast.AST], *more: str) -> str:
    """Return the sha256 of some syntax and of further words that belong to it, hexadecimal."""
    content = hashlib.sha256()
    for node in nodes:
        content.update("".join(_written(node)).encode("utf-8", "surrogatepass"))
    for word in more:
        content.update(f"\n{word}".encode())
    return content.hexdigest()


def _written(node: ast.AST) -> Iterator[str]:
    yield f"({type(node).__name__}"
    for name in node._fields:
        value = getattr(node, name, None)
        if name in _UNSAID or value is None or value == []:
            continue
        yield f" {name}="
        if isinstance(value, list):
            yield "["
            for item in _parts(node, value):
                yield from _one(item)
            yield "]"
        else:
            yield from _one(value)
    yield ")"


def _one(value: object) -> Iterator[str]:
    if isinstance(value, ast.AST):
        yield from _written(value)
    else:
        yield f"{type(value).__name__}:{value!a},"  # repr goes by Python's table of Unicode


def _parts(node: ast.AST, items: Sequence[object]) -> Iterator[object]:
    """Leave out statements that do nothing; join the texts of an f-string as versions differ."""
    if not isinstance(node, ast.JoinedStr):
        yield from (item for item in items if not is_silent(item))
        return
    text = ""
    for item in items:
        if isinstance(item, ast.Constant) and isinstance(item.value, str):
            text += item.value
            continue
        if text:
            yield text
        text = ""
        yield item
    if text:
        yield text


def is_silent(statement: object) -> bool:
    """Return True for a statement that computes nothing: an import, or a constant by itself."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return True
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
