"""The source files of modules, told without importing anything."""

from __future__ import annotations

import ast
import filecmp
import importlib.util
import sys
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from harness.errors import UserError

OURS = frozenset({"harness", "methods"})
"""Packages of moebench itself, wherever they are installed."""
FROM_FILE = "moebench_method_"
"""Beginning of the names of modules that no import leads to: users' files of methods."""
_INSTALLED = frozenset({"site-packages", "dist-packages"})


class Unreadable(Exception):
    """A module without a source, or a class whose source does not tell what was asked."""


def file_of(module: str) -> Path:
    """Return the source file of a module; no package on the way to it is imported.

    Raises:
        Unreadable: there is none.
        UserError: another module of the name, that of another method, is loaded in this process.
    """
    loaded = getattr(sys.modules.get(module), "__file__", None)
    if loaded is not None and loaded.endswith(".py"):
        _refuse_twin(module, Path(loaded))
        return Path(loaded)  # of a method's file too, which no path of Python's leads to
    spec = _spec(module)
    if spec is None or spec.name != module or not (spec.origin or "").endswith(".py"):
        raise Unreadable(f"{module} has no source")
    return Path(str(spec.origin))


def _refuse_twin(module: str, loaded: Path) -> None:
    """Raise where a process of its own would import other code than what is loaded.

    Two methods that are given as files may each have a helper of one name beside them.
    """
    if "." in module or module in OURS or module.startswith(FROM_FILE):
        return
    if _INSTALLED & set(loaded.parts):
        return
    spec = PathFinder.find_spec(module)
    other = Path(str(spec.origin)) if spec and (spec.origin or "").endswith(".py") else loaded
    if other != loaded and not (loaded.is_file() and filecmp.cmp(loaded, other, shallow=False)):
        raise UserError(f"two modules are named {module!r}: {loaded} and {other}; rename one.")


def _spec(module: str) -> ModuleSpec | None:
    top, *inner = module.split(".")
    try:
        spec: ModuleSpec | None = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # a module that is running has no spec
        spec = None
    for part in inner:
        if spec is None or spec.submodule_search_locations is None:
            break
        spec = _inner(f"{spec.name}.{part}", list(spec.submodule_search_locations))
    return spec


def _inner(name: str, locations: list[str]) -> ModuleSpec | None:
    try:
        return PathFinder.find_spec(name, locations)
    except KeyError:  # a folder without a file of its own, in a package that nobody has imported
        spec = ModuleSpec(name, None, is_package=True)
        part = name.rpartition(".")[2]
        spec.submodule_search_locations = [str(Path(place) / part) for place in locations]
        return spec


@cache
def is_library(top: str) -> bool:
    """Return True for a package that others keep: Python's own, or an installed one.

    Its version is on record; its code is nobody's here to change.

    Args:
        top: The first part of a module's name.
    """
    if top in OURS:
        return False
    if top in sys.stdlib_module_names:
        return True
    places = _places(top)
    return not places or any(_INSTALLED & set(place.parts) for place in places)


def _places(top: str) -> list[Path]:
    """The file of a module; of a package without one its folders."""
    try:
        return [file_of(top)]
    except Unreadable:
        spec = _spec(top)
        return [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]


def origin(statement: ast.ImportFrom, module: str, file: Path) -> str:
    """Return the module that a statement in `module` imports from."""
    return absolute("." * statement.level + (statement.module or ""), module, file)


def absolute(name: str, module: str, file: Path) -> str:
    """Return the full name of a module that `module` names, with dots before it where relative."""
    inner = name.lstrip(".")
    level = len(name) - len(inner)
    if not level:
        return inner
    parts = module.split(".")
    up = level - (file.name == "__init__.py")
    return ".".join(filter(None, [*parts[: len(parts) - up], inner]))
