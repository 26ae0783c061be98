"""Reach: the code behind a definition, wherever it lies and whoever keeps it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from harness.code.library import Library
from harness.code.modules import Unreadable
from harness.code.reach import Reach, code_sha256
from harness.method import registry
from tests.code.conftest import ANOTHER, SCALE, Project


def test_a_new_name_in_a_lazy_package_changes_nothing(project: Project) -> None:
    face = (
        "from importlib import import_module\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from mine.tools import scale as scale\n"
        "_TABLE = {'scale': 'mine.tools'}\n__all__ = sorted(_TABLE)\n"
        "def __getattr__(name): return getattr(import_module(_TABLE[name]), name)\n"
    )
    use = "from mine import scale\ndef run(x): return scale(x)"
    project.write({"mine/__init__.py": face, "mine/tools.py": SCALE, "mine/use.py": use})
    more = face.replace("scale as scale\n", "scale as scale, other as other\n")
    more = more.replace("'mine.tools'}", "'mine.tools', 'other': 'mine.tools'}")
    assert project.changed({"mine/__init__.py": more}, "mine.use:run") == []


def test_of_two_imports_the_order_counts(project: Project) -> None:
    text = "try:\n    from {} import f\nexcept ImportError:\n    from {} import f\ndef run(): f()"
    files = {
        "one.py": "def f(): ...",
        "two.py": "def f(): ...",
        "use.py": text.format("one", "two"),
    }
    project.write(files)
    assert project.changed({"use.py": text.format("two", "one")}, "use:run") == ["use"]


IN = "def run(x):\n"
RUN = "def run(x): return scale(x) + pi\n"
MOVED = [
    f"from math import e, pi\nimport os\nfrom mine.tools import other, scale\n{RUN}",
    f"from mine.tools import scale\nfrom math import pi\n{RUN}",
    f"from mine.tools import (\n    scale,\n)\nimport re, os\nfrom math import pi\n{RUN}",
    f"{RUN}from math import pi\nfrom mine.tools import scale",
    f"from math import pi\n{IN}    from mine.tools import scale\n    return scale(x) + pi",
    f"{IN}    from math import pi\n    from mine.tools import scale\n    return scale(x) + pi",
    f"from math import pi\nfrom mine.tools import scale\n{IN}    'Doc.'\n    return scale(x) + pi",
]


@pytest.mark.parametrize("text", MOVED)
def test_imports_may_move(text: str, project: Project) -> None:
    project.write({"mine/__init__.py": "", "mine/tools.py": SCALE, "mine/use.py": MOVED[0]})
    assert project.changed({"mine/use.py": text}, "mine.use:run") == []


def test_the_module_that_a_name_comes_from_counts(project: Project) -> None:
    use = "from mine.tools import scale\ndef run(x): return scale(x)"
    project.write(
        {"mine/__init__.py": "", "mine/tools.py": SCALE, "mine/use.py": use, "mine/more.py": SCALE}
    )
    moved = {"mine/use.py": use.replace("mine.tools", "mine.more")}
    assert project.changed(moved, "mine.use:run") == ["mine.more", "mine.tools", "mine.use"]
    numbers = "from math import floor as f\ndef run(x): return f(x)"
    project.write({"mine/use.py": numbers})
    assert project.changed({"mine/use.py": numbers.replace("floor", "ceil")}, "mine.use:run") == [
        "mine.use"
    ]


def test_a_name_bound_twice_is_both(project: Project) -> None:
    text = "def run(x): return 1\nif True:\n    def run(x): return 2"
    project.write({"use.py": text})
    assert project.changed({"use.py": text.replace("1", "3")}, "use:run") == ["use"]
    assert project.changed({"use.py": text.replace("2", "3")}, "use:run") == ["use"]


def test_a_file_beside_the_module_counts(project: Project) -> None:
    text = (
        "from pathlib import Path\nSOURCE = Path(__file__).with_name('fast.c')\n"
        "def run(): return SOURCE.read_text()\ndef also(): return 1"
    )
    project.write({"use.py": text, "fast.c": "int f() { return 1; }"})
    assert project.changed({"fast.c": "int f() { return 2; }"}, "use:run") == ["use"]
    assert project.changed({"fast.c": "int f() { return 3; }"}, "use:also") == []


def test_a_class_that_a_call_made_is_all_of_its_module(project: Project) -> None:
    project.write({"use.py": "def make(): return type('Made', (), {})\nOther = make()"})
    assert project.changed({"use.py": "def make(): return 1\nOther = make()"}, "use:Made") == [
        "use"
    ]


def test_what_has_no_source_says_so(project: Project) -> None:
    with pytest.raises(Unreadable):
        project.code("no_such_module_anywhere:f")
    project.write({"broken.py": "def f(:"})
    with pytest.raises(Unreadable):
        project.code("broken:f")


METHOD = """\
from harness.method import Method, keep_highest
import beside_it
class Mine(Method):
    keep: int = 1
    def compress(self, model, calibration):
        yield beside_it.best(keep_highest)
class Also(Method):
    def compress(self, model, calibration):
        yield None
"""
BESIDE = "def best(f): return f(1)\ndef worst(f): return f(2)\n"


def test_a_method_given_as_a_file(project: Project, tmp_path: Path) -> None:
    project.write({"beside_it.py": BESIDE, "mine.py": METHOD})
    kind = registry.method(f"{project.folder / 'mine.py'}:Mine")
    [entry] = registry.code_of(kind)
    before = Reach(Library()).code(entry)
    assert {"mine.py", "beside_it", "harness.method.scores"} <= before.keys()
    project.write({"mine.py": METHOD.replace("yield None", "yield 1")})
    assert Reach(Library()).code(entry) == before
    project.write({"mine.py": METHOD.replace("keep_highest)", "keep_highest, 1)")})
    after = Reach(Library()).code(entry)
    assert {name for name in before if before[name] != after[name]} == {"mine.py"}
    project.write({"mine.py": METHOD, "beside_it.py": BESIDE.replace("f(2)", "f(3)")})
    assert Reach(Library()).code(entry) == before
    project.write({"beside_it.py": BESIDE.replace("f(1)", "f(0)")})
    after = Reach(Library()).code(entry)
    assert {name for name in before if before[name] != after[name]} == {"beside_it"}


def test_where_a_file_of_a_method_lies_does_not_count(project: Project) -> None:
    project.write({"beside_it.py": BESIDE, "here/mine.py": METHOD, "there/mine.py": METHOD})
    codes = [
        Reach(Library()).code(*registry.code_of(registry.method(f"{folder}/mine.py:{name}")))
        for folder in (project.folder / "here", project.folder / "there")
        for name in ("Mine", "Also")
    ]
    assert codes[0] == codes[2] != codes[1] == codes[3]


INSTALLED = {
    "site-packages/theirs/__init__.py": "",
    "site-packages/theirs/patch.py": "import sys\nsys.patched = 1\n",
    "site-packages/theirs/method.py": (
        "import theirs.patch\nfrom theirs.tools import scale\nimport also_theirs\n"
        "class Mine:\n    def go(self): return scale(also_theirs.f(1))"
    ),
    "site-packages/theirs/tools.py": SCALE,
    "site-packages/also_theirs.py": "def f(x): return x",
}


def test_a_method_that_is_installed_is_followed_in_its_package(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(project.folder / "site-packages"))
    project.write(INSTALLED)
    entry = "theirs.method:Mine"
    tools, patch = "site-packages/theirs/tools.py", "site-packages/theirs/patch.py"
    assert project.changed({tools: ANOTHER}, entry) == ["theirs.tools"]
    assert project.changed({patch: "import sys\nsys.patched = 2\n"}, entry) == ["theirs.patch"]
    library = {"site-packages/also_theirs.py": "def f(x): return 2 * x"}
    assert project.changed(library, entry) == []
    project.write({"use.py": "from theirs.tools import scale\ndef run(x): return scale(x)"})
    assert project.changed({tools: SCALE}, "use:run") == []


def test_one_digest_is_of_all_modules(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the files as they are now, though they are read once."""
    monkeypatch.setattr("harness.cache.notes.SETTLED", 10**6)
    use = "from tools import scale\ndef run(x): return scale(x)"
    project.write({"tools.py": SCALE, "use.py": use})
    before = code_sha256(("use", "run"))
    time.sleep(0.01)
    assert code_sha256(("use", "run")) == before
    project.write({"tools.py": ANOTHER})
    assert code_sha256(("use", "run")) != before


def test_what_is_read_once_is_read_once(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.cache.notes.SETTLED", 10**6)
    project.write({"tools.py": SCALE})
    time.sleep(0.01)
    code_sha256(("tools", "scale"))
    monkeypatch.setattr("harness.code.reach.Reach", None)
    assert code_sha256(("tools", "other")) != code_sha256(("tools", "scale"))


def test_a_module_may_have_another_text(project: Project) -> None:
    project.write({"tools.py": SCALE})
    mutated = Reach(Library({"tools": ANOTHER.encode()})).code(("tools", "scale"))
    assert mutated != project.code("tools:scale")
    project.write({"tools.py": ANOTHER})
    assert mutated == project.code("tools:scale")


def test_nothing_is_imported(project: Project) -> None:
    project.write({"far/__init__.py": "raise SystemExit", "far/near.py": "def f(): return 1"})
    assert project.code("far.near:f").keys() == {"far", "far.near"}
    assert "far" not in sys.modules
