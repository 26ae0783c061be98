"""The order of the house: sizes, names and docstrings that a reader can rely on everywhere."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HARNESS = ROOT / "harness"
SOURCES = sorted([*HARNESS.rglob("*.py"), *(ROOT / "methods").rglob("*.py")])
FOLDERS = sorted({path.parent for path in SOURCES})
ROOMS = [folder for folder in FOLDERS if folder.parent != ROOT]
LONGEST_FILE, LONGEST_FUNCTION, MOST_MODULES, MOST_IN_HALL = 500, 60, 15, 5
EXCUSE = "# Over 60 lines"
OURS = re.compile(r"(harness|methods)\b")
QUESTIONS = {"What", "Whether", "Which", "How", "Of", "Where", "Who", "When", "Whose"}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def modules(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")


def nodes(
    kind: type[ast.AST] | tuple[type[ast.AST], ...], sources: Sequence[Path] = SOURCES
) -> Iterator[tuple[Path, ast.AST]]:
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, kind):
                yield path, node


def docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Docstrings of modules, classes and functions, and those below a constant or a field."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) or not body:
            continue
        for before, statement in zip([None, *body], body, strict=False):
            value = getattr(statement, "value", None)
            if not isinstance(statement, ast.Expr) or not isinstance(value, ast.Constant):
                continue
            if before is None or isinstance(before, ast.Assign | ast.AnnAssign):
                yield statement.lineno, str(value.value)


def test_the_hall_is_small() -> None:
    assert len(modules(HARNESS)) <= MOST_IN_HALL


@pytest.mark.parametrize("folder", FOLDERS, ids=name)
def test_a_folder_can_be_seen_at_once(folder: Path) -> None:
    assert len(modules(folder)) <= MOST_MODULES


def test_files_and_functions_can_be_held_in_the_head() -> None:
    files = {name(path): len(path.read_text().splitlines()) for path in SOURCES}
    assert {path: lines for path, lines in files.items() if lines > LONGEST_FILE} == {}
    long = []
    for path, node in nodes((ast.FunctionDef, ast.AsyncFunctionDef)):
        assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        assert node.end_lineno is not None
        if node.end_lineno - node.lineno < LONGEST_FUNCTION:
            continue
        first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
        if not path.read_text().splitlines()[first - 2].startswith(EXCUSE):
            long.append(f"{name(path)}:{node.lineno} {node.name}")
    assert long == []


def test_docstrings_can_be_read_alone() -> None:
    """They say what a thing is: a noun phrase or a verb, not a question about something else."""
    asking = [
        f"{name(path)}:{line}: {text.splitlines()[0]}"
        for path in SOURCES
        for line, text in docstrings(ast.parse(path.read_text(encoding="utf-8")))
        if text.split()[0] in QUESTIONS
    ]
    assert asking == []


def test_found_is_not_a_name() -> None:
    names = [
        f"{name(path)}:{getattr(node, 'lineno', '?')}"
        for path, node in nodes((ast.Name, ast.arg), [*SOURCES, *(ROOT / "tests").rglob("*.py")])
        if "found" in (getattr(node, "id", None), getattr(node, "arg", None))
    ]
    assert names == []


@pytest.mark.parametrize("room", ROOMS, ids=name)
def test_a_room_says_what_it_imports(room: Path) -> None:
    """The last paragraph of a folder's docstring lists the rooms that its modules import."""
    text = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8"))) or ""
    assert text.split("\n\n")[-1].split() == imports_line(room).split()


def imports_line(room: Path) -> str:
    """The sentence that a folder's docstring ends with."""
    own = ".".join(room.relative_to(ROOT).parts)
    rooms = sorted({place(module, own) for module in imported(room) if module != own} - {""})
    sentence = f"Imports {', '.join(rooms)}." if rooms else "Imports no other room."
    return "\n".join(textwrap.wrap(sentence, 96, break_on_hyphens=False))


def imported(room: Path) -> set[str]:
    """Modules of ours that a folder's modules import, at the top or inside functions."""
    known = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in SOURCES}
    names: set[str] = set()
    for path in room.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and OURS.match(node.module or ""):
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    inside = whole in known or f"{whole}.__init__" in known
                    names.add(whole if inside else str(node.module))
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names if OURS.match(alias.name)}
    return names


def place(module: str, own: str) -> str:
    """A module's room: outside of the importer's own, and as near to it as there is one."""
    (root, *parts), (home, *mine) = module.split("."), own.split(".")
    if root != home:
        return ".".join([root, *parts[:1]])
    shared = next(
        (depth for depth, pair in enumerate(zip(parts, mine, strict=False)) if pair[0] != pair[1]),
        min(len(parts), len(mine)),
    )
    if shared == len(mine) or not parts:
        return ""
    return ".".join(parts[: shared + 1])


def pages() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", [*pages(), *SOURCES], ids=name)
def test_what_is_named_is_there(page: Path) -> None:
    """Files, and modules with what is looked for in them, in pages and docstrings."""
    text = page.read_text(encoding="utf-8")
    paths = re.findall(r"\b(?:harness|methods|tests|docs)/[\w/.-]+\.(?:py|md|c|toml)\b", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert [dotted for dotted in re.findall(r"`(harness(?:\.\w+)+)", text) if gone(dotted)] == []


def gone(dotted: str) -> bool:
    """True if a dotted name is no module, and no word in the module that it leads to."""
    parts = dotted.split(".")
    for depth in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:depth])
        file = place.with_suffix(".py") if place.with_suffix(".py").exists() else None
        file = place / "__init__.py" if (place / "__init__.py").exists() else file
        if file is not None:
            rest = parts[depth:]
            return bool(rest) and not re.search(rf"\b{rest[0]}\b", file.read_text())
    return True
