"""Methods read from their source: docstring, fields, files; nothing is imported.

Importing a method imports torch. What a list of methods shows stands in the text of the method's
class and of its bases, and reading that takes a hundredth of the time. Where the text does not
tell, `Unreadable` says so, and only importing helps.
"""

from __future__ import annotations

import ast
import inspect
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from harness.code.modules import Unreadable, file_of, origin

ROOTS = (("pydantic", "BaseModel"), ("abc", "ABC"))
"""Classes that no source is read for: they bring neither fields nor words."""


class Description(NamedTuple):
    """A class as its source describes it."""

    doc: str
    """The docstring, or the one inherited."""
    fields: tuple[str, ...]
    """Names of the pydantic fields, in pydantic's order."""


class Reader:
    """Reads classes; keeps what it has read, so that bases are read once."""

    def __init__(self) -> None:
        self._modules: dict[str, _Module] = {}
        self._shadows: dict[tuple[str, str], type] = {root: type(root[1], (), {}) for root in ROOTS}

    def describe(self, module: str, name: str) -> Description:
        """Return docstring and fields of a class.

        Raises:
            Unreadable: the source does not tell.
        """
        shadow = self._shadow(module, name)
        annotated: dict[str, bool] = {}
        for kind in reversed(shadow.__mro__):  # as pydantic collects: bases' fields come first
            annotated.update(kind.__dict__.get("annotated", {}))
        fields = tuple(field for field, is_field in annotated.items() if is_field)
        return Description(inspect.getdoc(shadow) or "", fields)

    def _shadow(self, module: str, name: str) -> type:
        """A class with the bases of the one in the source, so that Python orders them."""
        key = (module, name)
        if key not in self._shadows:
            source = self._module(module)
            node = source.classes.get(name)
            if node is not None:
                self._shadows[key] = self._shadow_of(source, node)
            elif name in source.imports:
                self._shadows[key] = self._shadow(*source.imports[name])
            else:
                raise Unreadable(f"{module} has no class {name!r} in plain sight")
        return self._shadows[key]

    def _shadow_of(self, source: _Module, node: ast.ClassDef) -> type:
        if node.decorator_list or node.keywords:
            raise Unreadable(f"{node.name} is more than a class with bases")
        bases = tuple(self._shadow(*source.origin(base)) for base in node.bases)
        body: dict[str, Any] = {
            "__doc__": ast.get_docstring(node),
            "annotated": _annotated(source, node.body),
        }
        try:
            return type(node.name, bases, body)
        except TypeError as error:
            raise Unreadable(f"the bases of {node.name} have no order") from error

    def _module(self, name: str) -> _Module:
        if name not in self._modules:
            self._modules[name] = _Module(name)
        return self._modules[name]


class _Module:
    """The classes of a module and the names that it imports, where each is bound once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.file = file_of(name)
        self.classes: dict[str, ast.ClassDef] = {}
        self.imports: dict[str, tuple[str, str]] = {}
        """Module and name of what each import binds; no name for a module."""
        try:
            tree = ast.parse(self.file.read_bytes())
        except (OSError, SyntaxError, ValueError) as error:
            raise Unreadable(f"{self.file} cannot be read") from error
        for statement in tree.body:
            self._read(statement)
        bound = Counter(name for node in ast.walk(tree) for name in _bound(node))
        for names in (self.classes, self.imports):
            for name in [name for name in names if bound[name] > 1]:
                del names[name]

    def origin(self, expression: ast.expr) -> tuple[str, str]:
        """Return module and name of what a dotted name stands for.

        Raises:
            Unreadable: it is no dotted name.
        """
        match expression:
            case ast.Name(id=name):
                return self.imports.get(name, (self.name, name))
            case ast.Attribute(value=inner, attr=name):
                return ".".join(filter(None, self.origin(inner))), name
        raise Unreadable(f"{ast.unparse(expression)} is no name")

    def _read(self, statement: ast.stmt) -> None:
        match statement:
            case ast.ClassDef(name=name):
                self.classes[name] = statement
            case ast.Import(names=names):
                for alias in names:
                    top = alias.name.partition(".")[0]
                    self.imports[alias.asname or top] = (alias.name if alias.asname else top, "")
            case ast.ImportFrom(names=names):
                for alias in names:
                    self.imports[alias.asname or alias.name] = (
                        origin(statement, self.name, self.file),
                        alias.name,
                    )
            case ast.If(test=ast.Name(id="TYPE_CHECKING"), body=body):
                for inner in body:  # what a face shows type checkers, and imports when asked
                    self._read(inner)


def _bound(node: ast.AST) -> Iterator[str]:
    """The names that a node binds."""
    match node:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
            yield name
        case ast.Name(id=name, ctx=ast.Store()):
            yield name
        case ast.alias(name=name, asname=other):
            yield other or name.partition(".")[0]


def _annotated(source: _Module, body: Sequence[ast.stmt]) -> dict[str, bool]:
    """The annotated names of a class's body; True where pydantic makes a field of one."""
    annotated: dict[str, bool] = {}
    for statement in body:
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
                if not name.startswith("_") and name != "model_config":
                    annotated[name] = not _is_class_variable(source, annotation)
            case ast.Expr(value=ast.Constant()) | ast.Assign() | ast.Pass():
                pass
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                pass
            case _:
                raise Unreadable(f"line {statement.lineno} of {source.file} is no declaration")
    return annotated


def _is_class_variable(source: _Module, annotation: ast.expr) -> bool:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    outer = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    if not isinstance(outer, (ast.Name, ast.Attribute)):
        return False  # `int | None`, or None
    origin = source.origin(outer)
    if origin == ("typing", "Final"):
        raise Unreadable("a final field may be a class variable")
    return origin == ("typing", "ClassVar")
