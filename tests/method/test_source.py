"""Methods described by their source: the same as their classes say, without importing them."""

from __future__ import annotations

import inspect
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from harness.code.modules import Unreadable
from harness.method import registry
from harness.method.source import Reader

FILES = {
    "__init__.py": """
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from .bases import Shared as Shared
        def __getattr__(name):
            from . import bases
            return getattr(bases, name)
    """,
    "bases.py": """
        from typing import Annotated, ClassVar as Constant
        import pydantic
        class Top(pydantic.BaseModel):
            '''Words of the top.'''
            seed: int = 0
            top: "int" = 1
            named: Constant[str] = ""
            hidden: int = 2
        class Shared(Top):
            '''Words that are shared.

            And more of them.
            '''
            _secret: int = 1
            shared: Annotated[int, "note"] = 1
            quoted: "Constant[int]" = 3
        class Other(Top):
            model_config = pydantic.ConfigDict(frozen=True)
            top: int = 5
            other: int = 1
    """,
    "own.py": """
        import ownpackage.bases
        from typing import ClassVar
        from ownpackage import Shared, bases as there
        class Mine(Shared, there.Other):
            mine: int = 1
            hidden: ClassVar[int] = 3
            def method(self): ...
        class Silent(ownpackage.bases.Other):
            pass
        if True:
            class Veiled(Shared):
                x: int = 1
        class Twice(Shared):
            a: int = 1
        class Twice(Shared):
            b: int = 1
        Made = type("Made", (Shared,), {"__annotations__": {"made": int}, "made": 1})
        class Chosen(Shared):
            if True:
                chosen: int = 1
    """,
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of another author on the path."""
    folder = tmp_path / "ownpackage"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(inspect.cleandoc(text) + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "ownpackage"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize("name", registry.names())
def test_the_source_of_a_method_says_what_its_class_does(name: str) -> None:
    point = registry.entries()[name]
    description = Reader().describe(point.module, point.attr)
    method = registry.method(name)
    assert description.fields == tuple(method.model_fields)
    assert description.doc == inspect.getdoc(method)


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("name", ["Mine", "Silent"])
def test_bases_elsewhere_are_followed(name: str) -> None:
    description = Reader().describe("ownpackage.own", name)
    assert "ownpackage" not in sys.modules
    kind = EntryPoint(name, f"ownpackage.own:{name}", "x").load()
    assert description.fields == tuple(kind.model_fields)
    assert description.doc == inspect.getdoc(kind)


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("name", ["Veiled", "Twice", "Made", "Chosen", "Absent"])
def test_what_is_not_in_plain_sight_is_not_guessed(name: str) -> None:
    with pytest.raises(Unreadable):
        Reader().describe("ownpackage.own", name)


def test_a_module_without_source_is_not_guessed() -> None:
    for module in ("sys", "nowhere", "nowhere.at_all", "harness.nowhere", "__main__"):
        with pytest.raises(Unreadable):
            Reader().describe(module, "Anything")


def test_only_importing_tells_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dynamic_method.py").write_text(
        "from pydantic import create_model\n"
        "from harness.method import Method\n"
        "Dynamic = create_model('Dynamic', __base__=Method, __doc__='Made. ', keep=(int, 1))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    points = {
        "dynamic": EntryPoint("dynamic", "dynamic_method:Dynamic", registry.GROUP),
        "broken": EntryPoint("broken", "dynamic_method:Nothing", registry.GROUP),
        "gone": EntryPoint("gone", "no_such_module:Nothing", registry.GROUP),
    }
    monkeypatch.setattr(registry, "entries", lambda: points)
    descriptions = registry.descriptions()
    assert descriptions["dynamic"].fields == ("seed", "keep")
    assert descriptions["dynamic"].doc.strip() == "Made."
    for name in ("broken", "gone"):
        assert descriptions[name].doc.startswith(f"Not usable: method '{name}' cannot be imported")
        assert descriptions[name].fields == ()
