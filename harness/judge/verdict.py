"""Verdicts on published numbers: reproduced, differs, not comparable, or not run.

A number is reproduced when ours lies within 1.96 standard errors of our own measurement, plus half
a unit of the last digit that the paper printed. Where the paper's own numbers contradict one
(an erratum), the corrected number is the one to reproduce.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from harness.errors import UserError
from harness.intervals import REACH
from harness.judge.ours import Counterpart, counterpart
from harness.papers.published import PrintedColumn, PrintedRow, PrintedTable, tables
from harness.places import SHIPPED, origin
from harness.plan.suite import BASELINE, Recipe, Suite
from harness.records.record import Record
from harness.records.rows import sentence
from harness.records.standing import Standing, standing
from harness.records.store import Store

VerdictOutcome = Literal["reproduced", "differs", "not comparable", "not run"]
VERDICT_OUTCOMES: tuple[VerdictOutcome, ...] = get_args(VerdictOutcome)


class PaperModel(NamedTuple):
    """The model that a paper's name means."""

    family: str
    hub_id: str


PAPER_MODELS = {
    "Mixtral-8x7B": PaperModel("mixtral", "mistralai/Mixtral-8x7B-v0.1"),
    "Qwen1.5-MoE-A2.7B": PaperModel("qwen2_moe", "Qwen/Qwen1.5-MoE-A2.7B"),
    "DeepSeek-V2-Lite": PaperModel("deepseek_v2", "deepseek-ai/DeepSeek-V2-Lite"),
    "DeepSeek-MoE-16B": PaperModel("deepseek", "deepseek-ai/deepseek-moe-16b-base"),
}
"""Models of the papers, by their names in `harness/papers/printed/`."""


@dataclass(frozen=True)
class Verdict:
    """One published number beside ours, and whether it was reproduced."""

    model: str
    """The model, as the table abbreviates it."""
    method: str
    """The method, as the table abbreviates it, with what tells the row from its namesakes."""
    column: PrintedColumn
    printed: Decimal
    corrected: Decimal
    """The number to reproduce: the printed one where it has no erratum."""
    relation: str
    """Sign before the printed number: "<", ">", "≈", "≤", or nothing."""
    outcome: VerdictOutcome
    why: str = ""
    """The reason why it is not comparable or was not run."""
    ours: float | None = None
    """Our number in the column's unit, the mean over the seeds; None where there is none."""
    error: float = 0.0
    """Standard error of `ours`."""
    row: str = ""
    """Name of our row; several are joined by commas."""
    cells: tuple[str, ...] = ()
    """Ids of the records that our number is from."""

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's."""
        return None if self.ours is None else self.ours - float(self.corrected)


@dataclass(frozen=True)
class Verdicts:
    """The verdicts on all numbers of one table."""

    suite: str
    table: PrintedTable
    verdicts: tuple[Verdict, ...]

    def summary(self) -> str:
        """Return in one line how many verdicts there are of each outcome."""
        counts = Counter(verdict.outcome for verdict in self.verdicts)
        parts = ", ".join(f"{counts[outcome]} {outcome}" for outcome in VERDICT_OUTCOMES)
        return f"{self.suite} against {self.table.key}, {len(self.verdicts)} numbers: {parts}"


def verdicts(store: Store) -> Verdicts:
    """Judge every number of the table that the suite last run in a results folder names.

    Raises:
        UserError: nothing was run there, or the suite names no table.
    """
    run = standing(store)
    path = store.folder / "suite.toml"
    if not path.is_file():
        raise UserError(f"{path}: missing. Run the suite again to write it.")
    suite = Suite.stored(path, run.plan.suite)
    if suite.published is None:
        raise UserError(
            f"{path}: the suite names no published table. Add [published] with "
            'table = "PAPER.TABLE" to the suite, and run it again.'
        )
    known = tables()
    if suite.published.table not in known:
        raise UserError(f"{path}: there is no published table {suite.published.table!r}.")
    table = known[suite.published.table]
    judge = _Judge(suite, table, run)
    judged = [verdict for row in table.rows for verdict in judge.row(row)]
    return Verdicts(run.plan.suite, table, tuple(judged))


class _Judge:
    """Judges the rows of one table by the records of one run."""

    def __init__(self, suite: Suite, table: PrintedTable, run: Standing) -> None:
        self.suite = suite
        self.table = table
        self.records = run.records
        self.damaged = {cell.row for cell in run.damaged}
        self.protocol = run.plan.protocol
        twins = Counter((row.model, row.method) for row in table.rows)
        self.twins = {name for name, count in twins.items() if count > 1}

    def row(self, row: PrintedRow) -> list[Verdict]:
        """Judge the numbers of a row; what it was set to is not a number of theirs."""
        paper = PAPER_MODELS.get(self.table.models[row.model])
        names = self._ours(row, paper)
        records = self._of(paper, names)
        return [
            self._verdict(row, column, paper, names, records)
            for column in self.table.columns.values()
            if column.name in row.printed and column.metric != "setting"
        ]

    def _ours(self, row: PrintedRow, paper: PaperModel | None) -> list[str]:
        """Names of our rows that stand for one of the table's."""
        labels = self.suite.published.baseline if self.suite.published else None
        if row.method in (labels or (BASELINE,)):
            return [BASELINE]
        return [recipe.name for recipe in self.suite.recipes if _means(recipe, row, paper)]

    def _of(self, paper: PaperModel | None, names: Sequence[str]) -> list[Record]:
        """The records of the paper's model; of one model of its family where it was not run."""
        if paper is None:
            return []
        records = [record for record in self.records if record.row in names]
        same = [record for record in records if _same(record, paper)]
        kin = [record for record in records if record.model.family == paper.family]
        return same or [r for r in kin if r.model.sha256 == kin[0].model.sha256]

    def _verdict(
        self,
        row: PrintedRow,
        column: PrintedColumn,
        paper: PaperModel | None,
        names: Sequence[str],
        records: Sequence[Record],
    ) -> Verdict:
        ok = [record for record in records if record.status == "ok"]
        ours = Counterpart()
        if ok and paper is not None:
            baselines = [r for r in self._of(paper, [BASELINE]) if r.status == "ok"]
            ours = counterpart(column, self.table, ok, baselines, self.protocol)
        printed = row.printed[column.name]
        corrected = row.corrected[column.name]
        relation = row.relations.get(column.name, "")
        outcome, why = _outcome(printed, corrected, relation, ours, _obstacle(ok, paper))
        if not ok:
            outcome, why = "not run", self._absence(names, records)
        return Verdict(
            row.model,
            self._method(row),
            column,
            printed,
            corrected,
            relation,
            outcome,
            why,
            ours.value,
            ours.error,
            ", ".join(names),
            tuple(record.cell for record in ok),
        )

    def _absence(self, names: Sequence[str], records: Sequence[Record]) -> str:
        """The reason why a row has no record that is ok; nothing where its cells did not run."""
        if not names:
            return "the suite has no such row"
        if not records:
            return "its record is damaged" if self.damaged & set(names) else ""
        return f"{records[0].status}: {sentence(records[0])}"

    def _method(self, row: PrintedRow) -> str:
        if (row.model, row.method) not in self.twins:
            return row.method
        first = next(iter(row.printed))
        return f"{row.method}, {first} {row.printed[first]}"


def _means(recipe: Recipe, row: PrintedRow, paper: PaperModel | None) -> bool:
    """True if a recipe of the suite stands for a row of the table."""
    fits = paper is None or recipe.fits(paper.family)
    return recipe.published is not None and fits and row.named(recipe.published)


def _same(record: Record, paper: PaperModel) -> bool:
    """True if a record is about the paper's model: by its hub id, or a folder of that name."""
    ref = origin(record.model.ref)
    return ref == paper.hub_id or Path(ref).name == paper.hub_id.rpartition("/")[2]


def _obstacle(ok: Sequence[Record], paper: PaperModel | None) -> str:
    """The reason why no number of these records can be compared; nothing where some can."""
    if not ok or paper is None:
        return ""
    if origin(ok[0].model.ref).startswith(SHIPPED):
        return "reference model"
    return "" if _same(ok[0], paper) else f"model: ours is {ok[0].model.label}"


def _outcome(
    printed: Decimal, corrected: Decimal, relation: str, ours: Counterpart, obstacle: str
) -> tuple[VerdictOutcome, str]:
    why = obstacle or ours.obstacle
    if why or ours.value is None:
        return "not comparable", why or "metric: not measured"
    slack = REACH * ours.error + _rounding(printed, relation)
    apart = ours.value - float(corrected)
    if relation in ("<", "≤"):
        return ("reproduced" if apart <= slack else "differs"), ""
    if relation == ">":
        return ("reproduced" if apart >= -slack else "differs"), ""
    return ("reproduced" if abs(apart) <= slack else "differs"), ""


def _rounding(printed: Decimal, relation: str) -> float:
    """Half a unit of the last printed digit; a whole one after "≈", and none after a bound."""
    share = {"≈": 1.0, "<": 0.0, "≤": 0.0, ">": 0.0}.get(relation, 0.5)
    return share * 10.0 ** int(printed.as_tuple().exponent)
