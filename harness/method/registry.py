"""Methods by name: one mechanism, the entry-point group `moebench.methods`, or a file's class."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from harness.code.modules import FROM_FILE, Unreadable
from harness.code.outline import WHOLE
from harness.code.reach import Reach
from harness.disk.reading import is_file
from harness.errors import UserError, first_fault, first_line, nearest, unknown
from harness.method.contract import Method
from harness.method.source import Description, Reader

GROUP = "moebench.methods"
GONE = {
    "awq": "AutoAWQ is archived and runs no MoE model of transformers 5",
    "gptq": "AutoGPTQ is archived and cannot be imported beside transformers 5",
}
"""Reasons why auto-NAME is no method, by NAME: people will ask for it."""


@cache
def entries() -> dict[str, EntryPoint]:
    """Return the entry point of every installed method, by name."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def names() -> list[str]:
    """Return the names of all installed methods; none is imported."""
    return sorted(entries())


def descriptions() -> dict[str, Description]:
    """Return the description of every installed method, by name.

    A method is imported only where its source does not tell. The description of one that cannot
    be imported says so.
    """
    reader = Reader()
    return {name: _description(reader, name, entries()[name]) for name in names()}


def method(name: str, *, where: str = "") -> type[Method]:
    """Return a method by name, or by `path/to/file.py:Class`.

    Raises:
        UserError: no such method, file or class.
    """
    if ".py:" in name or name.endswith(".py"):
        return _from_file(name, where)
    _refuse_gone(name, where)
    if name not in entries():
        raise unknown("method", name, names(), where=where)
    return _checked(_loaded(name, where), name, where)


def build(
    name: str, options: Mapping[str, Any], *, where: str = "", strict: bool = False
) -> Method:
    """Return a method with its options.

    Args:
        name: The method.
        options: Its options.
        where: File and line, or option, with which a sentence begins.
        strict: Take no value of another type, as `true` for 1.

    Raises:
        UserError: unknown method or option (the nearest is named), wrong type or range.
    """
    kind = method(name, where=where)
    prefix = f"{where}: " if where else ""
    for option in options:
        check_option(kind, name, option, where=where)
    try:
        with theirs(f"{prefix}method {name!r} cannot be made"):
            if strict:
                text = json.dumps(dict(options), default=str)
                built = kind.model_validate_json(text, strict=True)
            else:
                built = kind(**options)
    except ValidationError as error:
        fault = first_fault(error, kind, noun="option")
        raise UserError(f"{prefix}method {name!r}: {fault.text}.") from None
    for option, value in options.items():
        if _truths(value) != _truths(getattr(built, option)):  # pydantic takes true for 1
            raise UserError(
                f"{prefix}method {name!r}: option {option!r} takes no truth value; give numbers."
            )
    return built


def _truths(value: object) -> int:
    """The number of truth values in an option's value."""
    inner = value if isinstance(value, (list, tuple, set, frozenset)) else [value]
    return sum(isinstance(one, bool) for one in inner)


def check_option(kind: type[Method], name: str, option: str, *, where: str = "") -> None:
    """Check that a method has an option.

    Raises:
        UserError: it has none of this name; the nearest is named.
    """
    if option not in kind.model_fields:
        known = sorted(kind.model_fields)
        prefix = f"{where}: " if where else ""
        raise UserError(
            f"{prefix}unknown option {option!r} of method {name!r}.{nearest(option, known)} "
            f"Known: {', '.join(known)}."
        )


def code_of(kind: type[Method]) -> tuple[tuple[str, str], ...]:
    """Return where a method's code begins, as module and name: its class, and its `modules`."""
    beside: Sequence[str] = getattr(kind, "modules", ())  # a peer's worker
    return ((kind.__module__, kind.__qualname__), *((module, WHOLE) for module in beside))


def own_sha256(kind: type[Method]) -> str:
    """Return the digest of a method's code in its own file; empty unless it is given as a file.

    Two files of one name are two methods by it.
    """
    if not kind.__module__.startswith(FROM_FILE):
        return ""
    name = Path(inspect.getfile(kind)).name
    return Reach().code((kind.__module__, kind.__qualname__))[name]


def _description(reader: Reader, name: str, point: EntryPoint) -> Description:
    try:
        return reader.describe(point.module, point.attr)
    except Unreadable:
        pass
    try:
        kind = method(name)
    except UserError as error:
        return Description(f"Not usable: {error}", ())
    return Description(inspect.getdoc(kind) or "", tuple(kind.model_fields))


def _loaded(name: str, where: str) -> Any:
    """Return the object that the entry point of a method names."""
    try:
        return entries()[name].load()
    except (ImportError, AttributeError, SyntaxError) as error:
        prefix = f"{where}: " if where else ""
        raise UserError(
            f"{prefix}method {name!r} cannot be imported: {first_line(error)}."
        ) from error


def _refuse_gone(name: str, where: str) -> None:
    algorithm = name.lower().replace("-", "").replace("_", "").removeprefix("auto")
    if algorithm in GONE and name.lower().startswith("auto"):
        prefix = f"{where}: " if where else ""
        raise UserError(
            f"{prefix}method {name!r}: {GONE[algorithm]}; use {algorithm!r}, or 'gptqmodel' or "
            f"'llm-compressor' with algorithm = {algorithm!r}."
        )


def _from_file(name: str, where: str) -> type[Method]:
    file, _, attribute = (f"{name}:" if name.endswith(".py") else name).rpartition(":")
    path = Path(file)
    prefix = f"{where}: " if where else ""
    if not is_file(path):
        raise UserError(f"{prefix}method file {file!r} does not exist.")
    module_name = f"{FROM_FILE}{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(module_name, path)
        if spec is None or spec.loader is None:
            raise UserError(f"{prefix}method file {file!r} is not a Python file.")
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            with theirs(f"{prefix}method file {file!r} cannot be imported", path):
                spec.loader.exec_module(module)
        except UserError:
            del sys.modules[module_name]
            raise
    kind = getattr(sys.modules[module_name], attribute, None) if attribute else None
    if not attribute:
        known = _classes(sys.modules[module_name])
        raise UserError(
            f"{prefix}method file {file!r}: say which class, as {file}:CLASS. "
            f"Known: {', '.join(known) or 'none'}."
        )
    if kind is None:
        known = _classes(sys.modules[module_name])
        raise UserError(
            f"{prefix}method file {file!r} has no class {attribute!r}.{nearest(attribute, known)} "
            f"Known: {', '.join(known) or 'none'}."
        )
    return _checked(kind, name, where)


def _classes(module: ModuleType) -> list[str]:
    """Return the names of the methods that a module defines."""
    kinds = (one for one in vars(module).values() if inspect.isclass(one))
    return sorted(
        k.__name__ for k in kinds if issubclass(k, Method) and k.__module__ == module.__name__
    )


@contextmanager
def theirs(what: str, path: Path | None = None) -> Iterator[None]:
    """Turn whatever other people's code does into a sentence, the end of the process too.

    Args:
        what: Beginning of the sentence.
        path: File whose line the sentence names, where the fault came up in it.

    Raises:
        UserError: in place of anything but a refused option, a user's error, and Ctrl-C.
    """
    try:
        yield
    except (KeyboardInterrupt, UserError, ValidationError):
        raise
    except BaseException as error:
        raise UserError(
            f"{what}: {type(error).__name__}: {first_line(error)}{_line_of(error, path)}."
        ) from error


def _line_of(error: BaseException, path: Path | None) -> str:
    """The line of a file in which an error came up, in brackets; nothing where it was elsewhere."""
    lines = [at.lineno for at in extract_tb(error.__traceback__) if Path(at.filename) == path]
    return f" (line {lines[-1]})" if lines else ""


def _checked(kind: Any, name: str, where: str) -> type[Method]:
    if not (inspect.isclass(kind) and issubclass(kind, Method)):
        prefix = f"{where}: " if where else ""
        raise UserError(f"{prefix}{name!r} is not a subclass of harness.method.Method.")
    return kind
