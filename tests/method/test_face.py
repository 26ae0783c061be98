"""The face for authors of methods: cheap to import, complete, and what methods use."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness.method
from harness.calibration.statistic import Statistic
from harness.model.edits import EDITS

ROOT = Path(__file__).parents[2]
METHODS = sorted((ROOT / "methods").rglob("*.py"))


def deep_imports(source: str) -> Iterator[tuple[str, str]]:
    """Module and name of every import from a module of the harness that is not the face."""
    for node in ast.walk(ast.parse(source)):
        module = str(node.module) if isinstance(node, ast.ImportFrom) else ""
        if isinstance(node, ast.ImportFrom) and re.match(r"harness\.(?!method$)", module):
            yield from ((module, alias.name) for alias in node.names)


def test_importing_it_loads_no_torch() -> None:
    source = (
        "import sys, harness.method\n"
        "assert 'KeepBudget' in dir(harness.method)\n"
        "assert not {'torch', 'transformers', 'pydantic'} & set(sys.modules)\n"
        "from harness.method import KeepExperts\n"
        "assert 'torch' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", source], check=True)


def test_every_name_is_what_its_module_defines() -> None:
    for name in harness.method.__all__:
        value = getattr(harness.method, name)
        home = getattr(value, "__module__", "typing")
        assert home.startswith("harness.") or home in ("typing", "builtins")


def test_a_type_checker_sees_the_same_names() -> None:
    """The imports under TYPE_CHECKING and the table agree, module by module."""
    tree = ast.parse(Path(harness.method.__file__).read_text(encoding="utf-8"))
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {
        alias.name: node.module
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == harness.method._MODULES


def test_unknown_names_are_unknown_and_submodules_are_found() -> None:
    with pytest.raises(AttributeError, match="KeepExpert'"):
        _ = harness.method.KeepExpert  # type: ignore[attr-defined]
    assert importlib.import_module("harness.method.registry").names()


def test_it_has_all_edits_and_statistics() -> None:
    names = set(harness.method.__all__)
    assert {edit.__name__ for edit in EDITS.values()} <= names
    for path in sorted((ROOT / "harness" / "calibration" / "statistics").glob("*.py")):
        module = importlib.import_module(f"harness.calibration.statistics.{path.stem}")
        for name, value in vars(module).items():
            if isinstance(value, type) and issubclass(value, Statistic) and value is not Statistic:
                assert name in names


@pytest.mark.parametrize("path", METHODS, ids=[path.stem for path in METHODS])
def test_methods_use_it(path: Path) -> None:
    deep = list(deep_imports(path.read_text(encoding="utf-8")))
    assert [(module, name) for module, name in deep if name in harness.method.__all__] == []


def test_two_methods_that_import_the_same_find_it_there() -> None:
    users: dict[tuple[str, str], set[str]] = {}
    for path in METHODS:
        place = path.relative_to(ROOT / "methods").parts[0]  # a folder is one method's
        for imported in deep_imports(path.read_text(encoding="utf-8")):
            if not imported[0].startswith("harness.peers"):
                users.setdefault(imported, set()).add(place)
    assert {imported: who for imported, who in users.items() if len(who) > 1} == {}


def test_the_page_for_authors_uses_it() -> None:
    page = (ROOT / "docs" / "add-a-method.md").read_text(encoding="utf-8")
    [source] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert list(deep_imports(source)) == []
