"""Numbers that papers printed, read from `printed/`, one TOML file for each paper.

They are what a paper printed, not what anybody measured here, and stay apart from records. Every
number is a `Decimal` with the digits that the paper printed; accuracies are in percent, where
records have fractions. A number that a paper does not give is an absent key.

Papers differ in metric (acc or acc_norm) and protocol: compare numbers of two tables only after
looking at `PrintedColumn.metric`, `PrintedColumn.protocol` and `PrintedTable.protocol`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.disk.reading import parse_toml, read_text
from harness.errors import UserError, first_fault, unknown

# importlib.resources cannot open a folder without __init__.py in an editable install.
FOLDER: Final = Path(__file__).parent / "printed"

Metric = Literal[
    "acc",
    "acc_norm",
    "average",
    "difference",
    "memory",
    "perplexity",
    "setting",
    "share",
    "speedup",
]
Unit = Literal["%", "GB", "points", "x"]
Relation = Literal["<", ">", "≈", "≤"]

_MISSING = "—"
_BOUND = re.compile(r"([<>≈≤]) (-?\d+(?:\.\d+)?)")
_LABELS = ("model", "method")


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Paper(_Data):
    """A paper, the source of numbers."""

    key: str
    title: str
    authors: tuple[str, ...]
    year: int
    venue: str
    arxiv: str = Field(pattern=r"^\d{4}\.\d{5}$")
    doi: str | None = None
    tasks: tuple[str, ...]
    """The tasks of its averages, as lm-eval spells them."""
    protocol: str
    """The paper's way of evaluating, as far as it is known."""


class PrintedColumn(_Data):
    """One column of a table: metric, unit and task of its numbers."""

    name: str
    metric: Metric
    unit: Unit | None = None
    """Unit; None for a number without one: a perplexity, a rank."""
    task: str | None = None
    """lm-eval's name of the task, for columns that are about one."""
    meaning: str = ""
    protocol: str | None = None
    """Protocol of this column, where it is not the table's."""


class PrintedRow(_Data):
    """One line of a table. Both mappings go from column name to number."""

    model: str
    """The model, as the table abbreviates it; `PrintedTable.models` has the full name."""
    method: str
    """The method, as the table abbreviates it; `PrintedTable.methods` explains it."""
    printed: dict[str, Decimal]
    """The numbers as printed."""
    corrected: dict[str, Decimal]
    """The numbers with the table's errata applied."""
    relations: dict[str, Relation] = Field(default_factory=dict)
    """Signs of the numbers that are bounds or rounded in the text: "> 92", "≈ 24"."""

    def named(self, name: Mapping[str, str | float]) -> bool:
        """True if `name` means this row: its "method", and printed numbers that tell it apart."""
        numbers = {key: number for key, number in name.items() if key != "method"}
        return self.method == name.get("method") and all(
            column in self.printed and str(self.printed[column].normalize()) == _plain(number)
            for column, number in numbers.items()
        )


def _plain(number: str | float) -> str:
    """A number in the shortest digits; what is none stays as it is written."""
    try:
        return str(Decimal(str(number)).normalize())
    except InvalidOperation:
        return str(number)


class PrintedRowName(_Data):
    """Name of one row of a table."""

    model: str
    method: str


class Erratum(_Data):
    """A printed number that the paper's other numbers contradict."""

    row: PrintedRowName
    column: str
    printed: Decimal
    corrected: Decimal
    reason: str


class PrintedTable(_Data):
    """One table of a paper, or its headline numbers."""

    key: str
    """Key of paper and table: "moe-i2.table1"."""
    title: str
    paper: Paper
    protocol: str
    """The way in which the numbers came about, as far as it is known."""
    note: str = ""
    columns: dict[str, PrintedColumn]
    """The columns of numbers, by name, in the order of the paper."""
    rows: tuple[PrintedRow, ...]
    errata: tuple[Erratum, ...] = ()
    models: dict[str, str]
    """Full names of the rows' models, by their abbreviations."""
    methods: dict[str, str]
    """Explanations of the rows' methods, by their abbreviations."""


class _Sheet(_Data):
    """A table as its file spells it."""

    key: str
    title: str
    protocol: str | None = None
    note: str = ""
    metrics: dict[str, Metric] = Field(default_factory=dict)
    """Metrics of the columns whose metric differs from what `[columns]` says."""
    columns: tuple[str, ...]
    rows: tuple[tuple[Decimal | str, ...], ...]
    errata: tuple[Erratum, ...] = ()


class _File(_Data):
    paper: Paper
    models: dict[str, str]
    methods: dict[str, str]
    columns: dict[str, dict[str, str]]
    tables: tuple[_Sheet, ...]


def papers(folder: Path = FOLDER) -> list[str]:
    """Return the keys of the papers, sorted."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def tables(folder: Path = FOLDER) -> dict[str, PrintedTable]:
    """Return all tables of all papers by key, such as "moe-i2.table1"."""
    return {key: table for paper in papers(folder) for key, table in load(paper, folder).items()}


def load(paper: str, folder: Path = FOLDER) -> dict[str, PrintedTable]:
    """Return the tables of one paper by key, in the order of the paper.

    Raises:
        UserError: no such paper, or its file is not well-formed.
    """
    path = folder / f"{paper}.toml"
    if not path.is_file():
        raise unknown("paper", paper, papers(folder))
    data = parse_toml(read_text(path), str(path), number=Decimal)
    if isinstance(data.get("paper"), dict):
        data["paper"] = {"key": paper, **data["paper"]}
    try:
        file = _File.model_validate(data)
        printed = [_table(file, sheet) for sheet in file.tables]
    except ValidationError as error:
        fault = first_fault(error, _File)
        place = ".".join(str(part) for part in fault.place)
        raise UserError(f"{path}: {place}: {fault.text}.") from None
    except (ValueError, UserError) as error:
        raise UserError(f"{path}: {error}") from None
    return {table.key: table for table in printed}


def _table(file: _File, sheet: _Sheet) -> PrintedTable:
    rows = tuple(_row(sheet, cells) for cells in sheet.rows)
    for row in rows:
        _known(sheet, "model", row.model, file.models)
        _known(sheet, "method", row.method, file.methods)
    return PrintedTable(
        key=f"{file.paper.key}.{sheet.key}",
        title=sheet.title,
        paper=file.paper,
        protocol=sheet.protocol or file.paper.protocol,
        note=sheet.note,
        columns={name: _column(file, sheet, name) for name in sheet.columns[len(_LABELS) :]},
        rows=_corrected(sheet, rows),
        errata=sheet.errata,
        models={row.model: file.models[row.model] for row in rows},
        methods={row.method: file.methods[row.method] for row in rows},
    )


def _column(file: _File, sheet: _Sheet, name: str) -> PrintedColumn:
    _known(sheet, "column", name, file.columns)
    fields: dict[str, Any] = {"name": name, **file.columns[name]}
    if name in sheet.metrics:
        fields["metric"] = sheet.metrics[name]
    return PrintedColumn.model_validate(fields)


def _row(sheet: _Sheet, cells: tuple[Decimal | str, ...]) -> PrintedRow:
    if sheet.columns[: len(_LABELS)] != _LABELS or len(cells) != len(sheet.columns):
        raise ValueError(
            f"{sheet.key}: columns start with model and method, and the row "
            f"{[str(cell) for cell in cells]} has one cell for each of {len(sheet.columns)}."
        )
    model, method, *rest = cells
    numbers: dict[str, Decimal] = {}
    relations: dict[str, str] = {}
    for name, cell in zip(sheet.columns[len(_LABELS) :], rest, strict=True):
        if isinstance(cell, Decimal):
            numbers[name] = cell
        elif bound := _BOUND.fullmatch(cell):
            numbers[name] = Decimal(bound[2])
            relations[name] = bound[1]
        elif cell != _MISSING:
            raise ValueError(f"{sheet.key}: {cell!r} is no number, no bound and not {_MISSING!r}.")
    return PrintedRow.model_validate(
        {
            "model": model,
            "method": method,
            "printed": numbers,
            "corrected": numbers,
            "relations": relations,
        }
    )


def _corrected(sheet: _Sheet, rows: tuple[PrintedRow, ...]) -> tuple[PrintedRow, ...]:
    """The rows, each with its errata applied to `corrected`."""
    right = list(rows)
    for erratum in sheet.errata:
        wanted = (erratum.row.model, erratum.row.method)
        places = [i for i, row in enumerate(rows) if (row.model, row.method) == wanted]
        if len(places) != 1 or rows[places[0]].printed.get(erratum.column) != erratum.printed:
            raise ValueError(
                f"{sheet.key}: the erratum about {' '.join(wanted)}, {erratum.column}, "
                f"names no one row that prints {erratum.printed}."
            )
        row = right[places[0]]
        corrected = {**row.corrected, erratum.column: erratum.corrected}
        right[places[0]] = row.model_copy(update={"corrected": corrected})
    return tuple(right)


def _known(sheet: _Sheet, kind: str, name: str, names: dict[str, Any]) -> None:
    if name not in names:
        raise unknown(kind, name, names, where=sheet.key)
