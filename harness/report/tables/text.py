"""Text of values and headers, as every printed table spells them before a format escapes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from harness.report.board import Column, Leaderboard, Row, Value

MISSING = "—"
MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
PREFIXES = {"": ("", " K", " M", " B", " T"), "B": (" B", " kB", " MB", " GB", " TB")}
"""Prefixes per power of 1000, by unit: counts as papers write them, bytes decimal."""
ARROWS = {"higher": " ↑", "lower": " ↓", "none": ""}


def printed(number: float, column: Column) -> str:
    """Return one number in the column's scale and digits, without its spread."""
    if column.scale == "si":
        return _si(number, number, column)
    text = f"{number * column.scale:{'+' if column.signed else ''}.{column.digits}f}"
    return text.replace("-", MINUS)


def cell(value: Value | None, column: Column, seeds: int = 1) -> str:
    """Return a value with its deviation (n where not all `seeds` have it) or its interval."""
    if value is None:
        return MISSING
    text = printed(value.mean, column) + (TIMES if column.unit == "ratio" else "")
    if value.sd is not None:
        text = _spread(text, value.sd, value.mean, column)
    if value.low is not None and value.high is not None:
        text += f" [{printed(value.low, column)}, {printed(value.high, column)}]"
    return text if value.n == seeds else f"{text} (n = {value.n})"


def header(board: Leaderboard, column: Column) -> str:
    """Return a column's header: title, unit, arrow to the better end, footnotes."""
    unit = f" ({column.unit})" if column.unit in {"points", "%", "s"} else ""
    return f"{column.title}{unit}{ARROWS[column.direction]}{_marks(board.column_marks(column))}"


def label(board: Leaderboard, row: Row, escape: Callable[[str], str] = str) -> str:
    """Return a row's label: name, number of seeds (with numbers, of all), status, footnotes.

    Args:
        board: The leaderboard.
        row: One of its rows.
        escape: Function that escapes the name for the format.
    """
    facts = []
    if len(row.seeds) > 1:
        of_all = f" of {len(row.seeds)}" if row.status == "partial" else ""
        facts.append(f"n = {_most(row) if of_all else len(row.seeds)}{of_all}")
    if row.status != "ok":
        facts.append(row.status)
    known = f" ({', '.join(facts)})" if facts else ""
    return f"{escape(row.name)}{known}{_marks(board.row_marks(row))}"


def values(row: Row, columns: Sequence[Column]) -> list[str]:
    """Return the row's cells in `columns`, in order."""
    return [cell(row.values.get(column.key), column, _most(row)) for column in columns]


def sources(board: Leaderboard) -> dict[tuple[str, str], list[str]]:
    """Return each row's cell ids, cut to the shortest length (at least 8) that keeps them apart."""
    cells = {cell for row in board.rows for cell in row.cells}
    longest = max((len(cell) for cell in cells), default=8)
    fits = (size for size in range(8, longest) if len({c[:size] for c in cells}) == len(cells))
    size = next(fits, longest)
    return {row.id: [cell[:size] for cell in row.cells] for row in board.rows}


def by_model(board: Leaderboard) -> Iterator[tuple[str, list[Row]]]:
    """Yield each model's label and its rows, in order."""
    for model, rows in groupby(board.rows, key=lambda row: row.model):
        yield model, list(rows)


def blocks(
    board: Leaderboard, width: int, measure: Callable[[Column], int]
) -> list[tuple[Column, ...]]:
    """Split the shown columns into runs that fit `width`: accuracy first, then cost.

    Args:
        board: The leaderboard with the columns.
        width: Room for the columns of one table, in characters.
        measure: Function that gives the width of one column, in characters.
    """
    runs: list[list[Column]] = []
    for _, group in groupby(board.shown, key=lambda column: column.group):
        room = 0
        for column in group:
            needed = measure(column)
            if needed > room:
                runs.append([])
                room = max(width, needed)
            runs[-1].append(column)
            room -= needed
        # The next group starts its own table even where there is room.
    return [tuple(run) for run in runs]


def _most(row: Row) -> int:
    """Number of seeds with numbers."""
    return max((value.n for value in row.values.values()), default=1)


def _spread(text: str, sd: float, mean: float, column: Column) -> str:
    if column.scale != "si":
        return f"{text} ± {printed(sd, column).removeprefix('+')}"
    # Counts and bytes that are the same for all seeds are not an estimate.
    return f"{text.split(' ')[0]} ± {_si(sd, mean, column)}" if sd > 0 else text


def _si(number: float, like: float, column: Column) -> str:
    """Text of `number` with the prefix and the decimals that suit `like`."""
    prefixes = PREFIXES[column.unit]
    rounded = abs(float(f"{like:.{column.digits - 1}e}"))
    power = 0
    while rounded >= 1000 ** (power + 1) and power + 1 < len(prefixes):
        power += 1
    whole = len(str(int(rounded / 1000**power)))
    decimals = max(column.digits - whole, 0) if power else 0
    return f"{number / 1000**power:.{decimals}f}{prefixes[power]}"


def _marks(numbers: Sequence[int]) -> str:
    return f" [{', '.join(map(str, numbers))}]" if numbers else ""
