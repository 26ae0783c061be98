"""The leaderboard as data: columns, rows, values and footnotes.

Values keep the units of the record; columns know how they are printed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from harness.records.comparing import Data
from harness.records.record import Record
from harness.records.rows import Status

ValueReader = Callable[[Record], float | None]
"""Function that reads one number of one record; None when it was not measured."""


DataReader = Callable[[Record], Data]
"""Function that tells the data behind a column's number of one record."""


def no_data(record: Record) -> Data:
    """Tell no data: for a column whose numbers do not depend on any."""
    return {}


def nothing(record: Record) -> None:
    """Read nothing: for a column that no single record can fill (it needs the baseline)."""


@dataclass(frozen=True)
class Column:
    """A column of numbers, one per row."""

    key: str
    """Unique name, as the csv spells it."""
    title: str
    unit: str = ""
    """Unit, printed in the header, or with each value when `scale` is "si"."""
    direction: Literal["higher", "lower", "none"] = "none"
    """The better end of the scale."""
    digits: int = 1
    """Number of decimals; of significant digits when `scale` is "si"."""
    group: Literal["accuracy", "cost"] = "cost"
    shown: bool = True
    """False for a column that only the csv has."""
    measured: bool = False
    """True for times and memory, which change from run to run."""
    scale: float | Literal["si"] = 1.0
    """Factor of a value when it is printed, or "si" for prefixes (M, GB)."""
    signed: bool = False
    """True if positive values are printed with their sign."""
    read: ValueReader = field(default=nothing, compare=False, repr=False)
    """ValueReader of the value."""
    low: ValueReader = field(default=nothing, compare=False, repr=False)
    """ValueReader of the lower bound of its 95 % interval."""
    high: ValueReader = field(default=nothing, compare=False, repr=False)
    """ValueReader of the upper bound."""
    data: DataReader = field(default=no_data, compare=False, repr=False)
    """DataReader of the value: numbers of different data are not compared."""


@dataclass(frozen=True)
class Value:
    """A number of one row: the mean over the seeds that have it."""

    mean: float
    sd: float | None = None
    """Sample standard deviation over seeds; None for one seed."""
    n: int = 1
    """Number of these seeds."""
    low: float | None = None
    """Lower bound of the 95 % interval; None for several seeds."""
    high: float | None = None
    """Upper bound of it."""


@dataclass(frozen=True)
class Row:
    """One recipe on one model, all its seeds."""

    model: str
    name: str
    """Name of the recipe, as the suite spells it."""
    kind: Literal["level", "baseline", "method"]
    """Kind of row; a `level` is what guessing gets: no record stands behind it."""
    status: Status = "ok"
    reason: str = ""
    """Reason, in one sentence, when `status` is not ok."""
    suite: str = ""
    methods: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    cells: tuple[str, ...] = ()
    """Ids of the records that the values come from, all seeds, ok or not."""
    values: Mapping[str, Value] = field(default_factory=dict)
    """Values by column key; a number that was not measured has no entry."""
    deltas: Mapping[str, float] = field(default_factory=dict)
    """Differences to the baseline of the same model, by column key."""
    best: frozenset[str] = frozenset()
    """Keys of the columns in which this row is the best of its model."""
    apart: frozenset[str] = frozenset()
    """Keys of the columns whose values rest on other data than the baseline's: those of the row
    are compared with none."""

    @property
    def id(self) -> tuple[str, str]:
        """Model and name, which together are unique on a leaderboard."""
        return self.model, self.name


@dataclass(frozen=True)
class Footnote:
    """A sentence below the table, marked at the columns and rows that it is about."""

    text: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Leaderboard:
    """A table of results, sorted by model, baseline first, then in the suite's order."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    footnotes: tuple[Footnote, ...]

    @property
    def shown(self) -> tuple[Column, ...]:
        """The columns of the printed tables."""
        return tuple(column for column in self.columns if column.shown)

    def column_marks(self, column: Column) -> tuple[int, ...]:
        """Return the numbers of the footnotes about `column`, from 1."""
        notes = enumerate(self.footnotes, start=1)
        return tuple(number for number, note in notes if column.key in note.columns)

    def row_marks(self, row: Row) -> tuple[int, ...]:
        """Return the numbers of the footnotes about `row`, from 1."""
        notes = enumerate(self.footnotes, start=1)
        return tuple(number for number, note in notes if row.id in note.rows)

    def without_measured(self) -> Leaderboard:
        """Return the part that a second run of the same cells must reproduce to the byte."""
        columns = tuple(column for column in self.columns if not column.measured)
        keys = {column.key for column in columns}
        rows = tuple(
            replace(
                row,
                values={key: value for key, value in row.values.items() if key in keys},
                deltas={key: delta for key, delta in row.deltas.items() if key in keys},
                best=row.best & keys,
            )
            for row in self.rows
        )
        notes = tuple(n for n in self.footnotes if not n.columns or keys & set(n.columns))
        return replace(self, columns=columns, rows=rows, footnotes=notes)
