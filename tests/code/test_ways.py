"""Reach: by names to the definitions behind them, and to nothing else."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.code.conftest import ANOTHER, SCALE, Project

IMPORTS: Mapping[str, Mapping[str, str]] = {
    "a name": {"mine/use.py": "from mine.tools import scale\ndef run(x): return scale(x)"},
    "an alias": {"mine/use.py": "from mine.tools import scale as s\ndef run(x): return s(x)"},
    "a relative name": {"mine/use.py": "from .tools import scale\ndef run(x): return scale(x)"},
    "a module": {"mine/use.py": "from mine import tools\ndef run(x): return tools.scale(x)"},
    "a relative module": {"mine/use.py": "from . import tools\ndef run(x): return tools.scale(x)"},
    "a dotted module": {"mine/use.py": "import mine.tools\ndef run(x): return mine.tools.scale(x)"},
    "a dotted alias": {"mine/use.py": "import mine.tools as t\ndef run(x): return t.scale(x)"},
    "a star": {"mine/use.py": "from mine.tools import *\ndef run(x): return scale(x)"},
    "a star of a star": {
        "mine/middle.py": "from .tools import *",
        "mine/use.py": "from .middle import *\ndef run(x): return scale(x)",
    },
    "a star in a package": {
        "mine/__init__.py": "from mine.tools import *",
        "mine/use.py": "import mine\ndef run(x): return mine.scale(x)",
    },
    "an import in a function": {
        "mine/use.py": "def run(x):\n    from mine.tools import scale\n    return scale(x)"
    },
    "an import of a module in a function": {
        "mine/use.py": "def run(x):\n    import mine.tools\n    return mine.tools.scale(x)"
    },
    "an import that may fail": {
        "mine/use.py": (
            "try:\n    from absent_here import scale\nexcept ImportError:\n"
            "    from .tools import scale\ndef run(x): return scale(x)"
        )
    },
    "a definition where an import fails": {
        "mine/use.py": (
            "try:\n    from absent_here import s\nexcept ImportError:\n"
            "    def s(x):\n        from .tools import scale\n        return scale(x)\n"
            "def run(x): return s(x)"
        )
    },
    "a re-export": {
        "mine/__init__.py": "from .tools import scale as scale",
        "mine/use.py": "from mine import scale\ndef run(x): return scale(x)",
    },
    "re-exports through several packages": {
        "mine/__init__.py": "from mine.a import scale",
        "mine/a/__init__.py": "from .b import scaled as scale",
        "mine/a/b/__init__.py": "from ...tools import scale as scaled",
        "mine/use.py": "from mine import scale\ndef run(x): return scale(x)",
    },
    "a lazy package that shows its names": {
        "mine/__init__.py": (
            "from importlib import import_module\nfrom typing import TYPE_CHECKING\n"
            "if TYPE_CHECKING:\n    from mine.tools import scale\n"
            "_TABLE = {'scale': 'tools'}\n"
            "def __getattr__(name): return getattr(import_module('mine.' + _TABLE[name]), name)"
        ),
        "mine/use.py": "from mine import scale\ndef run(x): return scale(x)",
    },
    "a lazy package with a table only": {
        "mine/__init__.py": (
            "import importlib\n_TABLE = {'scale': 'mine.tools'}\n"
            "def __getattr__(n): return getattr(importlib.import_module(_TABLE[n]), n)"
        ),
        "mine/use.py": "from mine import scale\ndef run(x): return scale(x)",
    },
    "a lazy package with relative names": {
        "mine/__init__.py": (
            "from importlib import import_module\n_TABLE = {'scale': '.tools'}\n"
            "def __getattr__(n): return getattr(import_module(_TABLE[n], __name__), n)"
        ),
        "mine/use.py": "from mine import scale\ndef run(x): return scale(x)",
    },
    "a module by a string": {
        "mine/use.py": (
            "from importlib import import_module\n"
            "def run(x): return import_module('mine.tools').scale(x)"
        )
    },
    "a module given as a whole": {
        "mine/use.py": "from mine import tools\ndef run(x, n): return getattr(tools, n)(x)"
    },
    "a re-export of a module given as a whole": {
        "mine/all.py": "from mine.tools import scale",
        "mine/use.py": "from mine import all\ndef run(x, n): return getattr(all, n)(x)",
    },
    "a table": {
        "mine/use.py": (
            "from mine.tools import scale\nTABLE = {'scale': scale}\n"
            "def run(x, n): return TABLE[n](x)"
        )
    },
    "a base": {
        "mine/base.py": "from .tools import scale\nclass Base:\n    def go(self): return scale(1)",
        "mine/use.py": "from .base import Base\nclass Own(Base): ...\ndef run(x): return Own()",
    },
    "a default": {"mine/use.py": "from .tools import scale\ndef run(x, by=scale): return by(x)"},
    "a field's type": {
        "mine/use.py": "from .tools import scale\nclass Own:\n    by: scale\ndef run(): return Own"
    },
    "a field's quoted type": {
        "mine/use.py": (
            "from .tools import scale\nclass Own:\n    by: 'list[scale]'\ndef run(x): return Own()"
        )
    },
    "a decorator that keeps": {
        "mine/kept.py": "KEPT = []\ndef keep(f): KEPT.append(f)",
        "mine/use.py": (
            "from .kept import KEPT, keep\nfrom .tools import scale\n"
            "@keep\ndef own(x): return scale(x)\ndef run(x): return KEPT[0](x)"
        ),
    },
    "what importing a package does": {
        "mine/__init__.py": "from .tools import scale\nprint(scale(1))",
        "mine/use.py": "def run(x): return x",
    },
    "what importing a module does, for another function": {
        "mine/acts.py": "from .tools import scale\nimport sys\nsys.scale = scale\ndef name(): ...",
        "mine/use.py": "from .acts import name\ndef run(x): return x\ndef also(): return name()",
    },
    "an import for what it does": {
        "mine/acts.py": "from .tools import scale\nimport sys\nsys.scale = scale",
        "mine/use.py": "import mine.acts\ndef run(x): return x",
    },
    "an import in a function for what it does": {
        "mine/acts.py": "from .tools import scale\nimport sys\nsys.scale = scale",
        "mine/use.py": "def run(x):\n    import mine.acts\n    return x",
    },
    "a class that its base keeps": {
        "mine/base.py": (
            "class Base:\n    made = []\n    def __init_subclass__(cls): Base.made.append(cls)"
        ),
        "mine/use.py": (
            "from .base import Base\nfrom .tools import scale\n"
            "class Own(Base):\n    def go(self, x): return scale(x)\n"
            "def run(x): return Base.made[0]().go(x)"
        ),
    },
    "a value set on another": {
        "mine/use.py": (
            "from .tools import scale\nclass Own: ...\nOwn.by = scale\ndef run(x): return Own"
        )
    },
    "a folder without a file of its own": {
        "loose/deep/helper.py": "from mine.tools import scale\ndef by(x): return scale(x)",
        "mine/use.py": "from loose.deep.helper import by\ndef run(x): return by(x)",
    },
    "a dotted folder without a file of its own": {
        "loose/deep/helper.py": "from mine.tools import scale\ndef by(x): return scale(x)",
        "mine/use.py": "import loose.deep.helper\ndef run(x): return loose.deep.helper.by(x)",
    },
    "modules that import each other": {
        "mine/one.py": "from mine import two\ndef f(x): return two.g(x)",
        "mine/two.py": (
            "from mine import one\nfrom mine.tools import scale\n"
            "def g(x): return one.f(x) if x else scale(x)"
        ),
        "mine/use.py": "from mine.one import f\ndef run(x): return f(x)",
    },
}


@pytest.mark.parametrize("way", IMPORTS)
def test_a_definition_is_reached_by(way: str, project: Project) -> None:
    project.write({"mine/__init__.py": "", "mine/tools.py": SCALE, **IMPORTS[way]})
    assert project.changed({"mine/tools.py": ANOTHER}, "mine.use:run") == ["mine.tools"]


PRECISE = [
    way
    for way in IMPORTS
    if not any(word in way for word in ("whole", "string", "table only", "relative names"))
]


@pytest.mark.parametrize("way", PRECISE)
def test_what_stands_beside_it_is_not(way: str, project: Project) -> None:
    project.write({"mine/__init__.py": "", "mine/tools.py": SCALE, **IMPORTS[way]})
    more = SCALE.replace("3 * x", "4 * x") + "\n\ndef unused():\n    return scale(1)\n"
    assert project.changed({"mine/tools.py": more}, "mine.use:run") == []


UNREACHED: Mapping[str, Mapping[str, str]] = {
    "a function beside it": {"mine/use.py": "def run(x): return x\ndef also(): return scale(1)"},
    "another method of a file": {
        "mine/use.py": "class run:\n    x = 1\nclass Also(run):\n    def go(self): return scale(1)"
    },
    "a type of an argument": {
        "mine/use.py": "def run(x: scale) -> scale: return x",
    },
    "a name for type checkers": {
        "mine/use.py": "if TYPE_CHECKING:\n    from mine.tools import scale\ndef run(x): return x"
    },
    "a class whose base keeps nothing": {
        "mine/use.py": "class Base: ...\nclass Own(Base):\n    by = scale\ndef run(): return Base"
    },
    "a decorator of a library": {
        "mine/use.py": (
            "from functools import cache\n@cache\ndef also(): return scale\ndef run(x): return x"
        )
    },
}


@pytest.mark.parametrize("way", UNREACHED)
def test_a_definition_is_not_reached_by(way: str, project: Project) -> None:
    imports = "from typing import TYPE_CHECKING\nfrom mine.tools import scale\n"
    files = {name: imports + text for name, text in UNREACHED[way].items()}
    project.write({"mine/__init__.py": "", "mine/tools.py": SCALE, **files})
    assert project.changed({"mine/tools.py": ANOTHER}, "mine.use:run") == []
