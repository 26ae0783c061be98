"""Pages of Markdown with marked regions that code fills."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOG = ROOT / "docs" / "log.md"
"""Dated entries: its numbers are of their day, and no code writes them."""
PAGES = (ROOT / "README.md", *sorted(set((ROOT / "docs").glob("*.md")) - {LOG}))

REGION = re.compile(
    r"^<!-- numbers: (?P<name>\S+) -->\n.*?^<!-- end -->$", re.DOTALL | re.MULTILINE
)
MARK = re.compile(r"(?m)^<!-- (numbers: \S+|end) -->$")


def fill(page: str, tables: Mapping[str, Callable[[], str]], where: str) -> str:
    """Return a page with every region written anew.

    Args:
        page: Its Markdown.
        tables: What stands in a region, by the region's name.
        where: The page's name, for errors.

    Raises:
        ValueError: a region has no end, no beginning, or a name that nothing writes.
    """
    if len(MARK.findall(page)) != 2 * len(names(page)):
        raise ValueError(f"{where}: a region of numbers without its beginning or its end")
    unknown = [name for name in names(page) if name not in tables]
    if unknown:
        raise ValueError(f"{where}: no code writes the numbers {', '.join(unknown)}")

    def written(match: re.Match[str]) -> str:
        name = match["name"]
        return f"<!-- numbers: {name} -->\n\n{tables[name]().strip()}\n\n<!-- end -->"

    return REGION.sub(written, page)


def names(page: str) -> list[str]:
    """Return the names of a page's regions, in order."""
    return [match["name"] for match in REGION.finditer(page)]


def prose(page: str) -> str:
    """Return a page without its regions."""
    return REGION.sub("", page)
