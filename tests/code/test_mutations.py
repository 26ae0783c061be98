"""One line of code changes at a time: the cells that rest on it run again, and no others."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from harness.code.library import Library
from harness.plan.cell import Cell
from harness.plan.cells import cells
from harness.plan.suite import Suite
from harness.plan.today import Today
from harness.records.basis import STAGES, Basis

ROOT = Path(__file__).parents[2]
LINES: list[dict[str, Any]] = tomllib.loads(
    Path(__file__).with_name("mutations.toml").read_text(encoding="utf-8")
)["line"]
PROTOCOL = """
models = ["reference/mixtral"]
{weights}
[protocol]
tasks = [{tasks}]
average = [{tasks}]
perplexity = [{texts}]
measure = ["size", "memory", "flops", "speed"]
dtype = "float32"
sequence_length = 64
threads = 1
"""
STORED = (
    PROTOCOL.format(weights="", tasks='"boolq"', texts='"wikitext2"')
    + """
[[recipes]]
name = "eep"
steps = [{ method = "eep", keep = 4 }]
[[recipes]]
name = "skip"
steps = [{ method = "eep", keep = 4 }, { method = "eep-skip" }]
[[recipes]]
name = "wanda"
steps = [{ method = "wanda", sparsity = 0.5 }]
[[recipes]]
name = "gptq"
steps = [{ method = "gptq", bits = 4, group = 32 }]
[[recipes]]
name = "svd"
steps = [{ method = "svd", ratio = 0.36 }]
[[recipes]]
name = "moe-i2"
steps = [{ method = "moe-i2-decompose", ratio = 0.36 }]
[[recipes]]
name = "finetune"
steps = [{ method = "finetune", epochs = 1 }]
"""
)
RANDOM = (
    PROTOCOL.format(weights='weights = "random"', tasks="", texts="")
    + """
[[recipes]]
name = "random"
steps = [{ method = "random", ratio = 0.5 }, { method = "rtn", group = 32 }]
"""
)
ON_STORED = ("baseline", "eep", "skip", "wanda", "gptq", "svd", "moe-i2", "finetune")
GROUPS = {"stored": ON_STORED, "all": (*ON_STORED, "random")}


@pytest.fixture(scope="module")
def planned() -> dict[str, Cell]:
    """The cells by their names in the table, with the basis that they have unchanged."""
    stored = cells(Suite.parse(STORED, name="lines", source="lines.toml"))
    _, random = cells(Suite.parse(RANDOM, name="lines", source="lines.toml"))
    return {cell.row: cell for cell in (*stored, random)}


@cache
def source(file: str) -> str:
    return (ROOT / file).read_text(encoding="utf-8")


def module(file: str) -> str:
    return ".".join(Path(file).with_suffix("").parts).removesuffix(".__init__")


def bases(planned: Mapping[str, Cell], texts: Mapping[str, str]) -> dict[str, Basis]:
    """Today's basis of each cell if modules had other texts."""
    library = Library({module(file): text.encode() for file, text in texts.items()})
    today = Today(library=library)
    return {name: today.basis(cell) for name, cell in planned.items()}


def named(cells: Iterable[str]) -> set[str]:
    return {name for word in cells for name in GROUPS.get(word, (word,))}


def test_the_cells_are_those_of_the_table(planned: dict[str, Cell]) -> None:
    assert tuple(planned) == GROUPS["all"]


@pytest.mark.parametrize("line", LINES, ids=[f"{one['file']}: {one['before']}" for one in LINES])
def test_a_changed_line_is_due_where_it_is_reached(
    line: dict[str, Any], planned: dict[str, Cell]
) -> None:
    text = source(line["file"])
    assert text.count(line["before"]) == 1
    after = bases(planned, {line["file"]: text.replace(line["before"], line["after"])})
    due: dict[str, set[str]] = {stage: set() for stage in STAGES}
    for name, cell in planned.items():
        for stage, change in cell.basis.changes(after[name]).items():
            due[stage].add(name)
            assert change == ((module(line["file"]),), ())
    assert due == {stage: named(line.get(stage, ())) for stage in STAGES}


def test_the_table_covers_the_rooms_and_kinds() -> None:
    reached = [line for line in LINES if any(line.get(stage) for stage in STAGES)]
    rooms = [line["file"].split("/") for line in reached]
    for room in ("method", "calibration", "model", "evaluate", "measure", "data", "run"):
        assert ["harness", room] in [parts[:2] for parts in rooms]
    assert len(reached) >= 30
    assert len(reached) < len(LINES)
    assert {line["kind"] for line in LINES} == {"sign", "index", "axis", "scale"}
    assert named(name for line in reached for stage in STAGES for name in line.get(stage, ())) == (
        set(GROUPS["all"])
    )


SOURCES = sorted(
    str(path.relative_to(ROOT))
    for folder in ("harness", "methods")
    for path in (ROOT / folder).rglob("*.py")
)


class Restated(ast.NodeTransformer):
    """The same program in other words: other docstrings, imports in another order."""

    def visit(self, node: ast.AST) -> ast.AST:
        self.generic_visit(node)
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                setattr(node, name, self.restated(block, isinstance(node, ast.Module)))
        return node

    def restated(self, block: list[ast.stmt], top: bool) -> list[ast.stmt]:
        imports = [one for one in block if isinstance(one, ast.Import | ast.ImportFrom)]
        future = [one for one in imports if getattr(one, "module", "") == "__future__"]
        rest = [one for one in block if one not in imports and not _is_text(one)]
        words: list[ast.stmt] = [ast.Expr(ast.Constant("Other words."))] if block else []
        moved = [one for one in reversed(imports) if one not in future]
        return [*words, *future, *moved, *rest] if top else [*words, *moved, *rest]


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def restated(text: str) -> str:
    """Written anew from its syntax: without comments, and laid out in another way."""
    return ast.unparse(ast.fix_missing_locations(Restated().visit(ast.parse(text))))


class Inward(ast.NodeTransformer):
    """Imports moved from the top of a module into the functions that use them."""

    def __init__(self, tree: ast.Module) -> None:
        self.movable: dict[str, tuple[ast.stmt, ast.alias]] = {}
        for statement in tree.body:
            if isinstance(statement, ast.ImportFrom) and statement.module != "__future__":
                for alias in statement.names:
                    self.movable[alias.asname or alias.name] = (statement, alias)
        self.kept = self.read_outside(tree)
        tree.body = [one for statement in tree.body for one in self.without(statement)]
        for statement in tree.body:
            if isinstance(statement, ast.FunctionDef):
                self.fill(statement)

    def read_outside(self, tree: ast.Module) -> set[str]:
        """Names that are read where no function's body is."""
        kept: set[str] = set()
        for statement in tree.body:
            parts: list[ast.AST] = [statement]
            if isinstance(statement, ast.FunctionDef):
                parts = [statement.args, *statement.decorator_list]
                parts += [statement.returns] if statement.returns else []
            for part in parts:
                kept |= {node.id for node in ast.walk(part) if isinstance(node, ast.Name)}
        return kept

    def without(self, statement: ast.stmt) -> list[ast.stmt]:
        if not isinstance(statement, ast.ImportFrom):
            return [statement]
        names = [a for a in statement.names if self.stays(a.asname or a.name, statement)]
        return [ast.ImportFrom(statement.module, names, statement.level)] if names else []

    def stays(self, name: str, statement: ast.stmt) -> bool:
        return name in self.kept or self.movable.get(name, (None, None))[0] is not statement

    def fill(self, function: ast.FunctionDef) -> None:
        used = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
        moved: list[ast.stmt] = [
            ast.ImportFrom(statement.module, [alias], statement.level)  # type: ignore[attr-defined]
            for name, (statement, alias) in self.movable.items()
            if name in used and name not in self.kept
        ]
        function.body = [*moved, *function.body]


def inward(text: str) -> str:
    tree = ast.parse(text)
    Inward(tree)
    return ast.unparse(ast.fix_missing_locations(tree))


def test_the_changes_of_layout_are_made() -> None:
    text = "import re\nfrom a import b, c\nKEPT = c\n\ndef f():\n    # Nothing.\n    return b()\n"
    assert inward(text) == (
        "import re\nfrom a import c\nKEPT = c\n\ndef f():\n    from a import b\n    return b()"
    )
    assert restated(text) == (
        '"""Other words."""\nfrom a import b, c\nimport re\nKEPT = c\n\n'
        'def f():\n    """Other words."""\n    return b()'
    )


@pytest.mark.parametrize("change", [restated, inward])
def test_words_layout_and_places_of_imports_change_no_cell(
    change: Any, planned: dict[str, Cell]
) -> None:
    """Of all modules at once; imports of packages stay at the top, where others find them."""
    files = [file for file in SOURCES if change is restated or not file.endswith("__init__.py")]
    texts = {file: change(source(file)) for file in files}
    assert sum(texts[file] != source(file) for file in texts) > 250
    assert bases(planned, texts) == {name: cell.basis for name, cell in planned.items()}
