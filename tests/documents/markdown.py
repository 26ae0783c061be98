"""Tables and numbers as the documents spell them."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

MINUS = "\N{MINUS SIGN}"
MISSING = "—"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], left: Container[int] = (0,)) -> str:
    """Return a Markdown table; columns numbered in `left` are flush left, the others right."""
    align = ["---" if place in left else "---:" for place in range(len(header))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, align, *rows))


def signed(number: float, digits: int) -> str:
    """Return a difference with its sign."""
    return f"{number:+.{digits}f}".replace("-", MINUS)


def between(low: float, high: float, digits: int) -> str:
    """Return the bounds of an interval of ratios."""
    return f"{low:.{digits}f} to {high:.{digits}f}"
