"""Boards whose rows differ in origin: said in footnotes, and never subtracted over other data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.records.basis import Basis
from harness.records.protocol import Protocol
from harness.records.record import Environment, Record
from harness.records.standing import Standing, standing
from harness.records.store import Plan, PlannedCell, Store
from harness.report.board import Leaderboard, Row
from harness.report.columns import AVERAGE, DELTA, KEPT
from harness.report.figures.dropping import dropping
from harness.report.figures.trade_off import trade_off
from harness.report.leaderboard import LEVEL, leaderboard
from harness.report.publish import board_of
from harness.report.tables import render
from tests.records.made_up import record, store

FROZEN = Protocol(
    tasks=("boolq", "rte"), average=("boolq", "rte"), perplexity=("wikitext2",), measure=()
)
SCORES = {"boolq": 0.8, "rte": 0.7}


def make(row: str, **fields: Any) -> Record:
    given = {"basis": Basis(), "perplexity": 2.0, **fields}
    return record(row, SCORES, protocol=FROZEN, **given)


def with_data(made: Record, task: str, data: str) -> Record:
    result = made.tasks[task].model_copy(update={"data": data})
    return made.model_copy(update={"tasks": {**made.tasks, task: result}})


def board(*records: Record) -> Leaderboard:
    return leaderboard(records, FROZEN)


def row(made: Leaderboard, name: str) -> Row:
    return next(row for row in made.rows if row.name == name)


def notes(made: Leaderboard, name: str) -> list[str]:
    return [made.footnotes[mark - 1].text for mark in made.row_marks(row(made, name))]


BOOLQ, OTHER = "aps/super_glue boolq sha256:aa", "aps/super_glue boolq sha256:bb"
BASE = with_data(make("baseline"), "boolq", BOOLQ)


def test_rows_of_other_items_are_not_subtracted_and_say_so() -> None:
    same = with_data(make("same"), "boolq", BOOLQ)
    made = board(BASE, same, with_data(make("other"), "boolq", OTHER))
    assert {"boolq.acc", "rte.acc", AVERAGE} <= row(made, "same").deltas.keys()
    other = row(made, "other")
    assert "rte.acc" in other.deltas
    assert not {"boolq.acc", AVERAGE} & other.deltas.keys()
    assert not {DELTA, KEPT} & other.values.keys()
    assert other.values["boolq.acc"].mean == 0.8
    assert not {"boolq.acc", AVERAGE} & (other.best | row(made, "same").best)
    assert "rte.acc" in other.best
    [note] = notes(made, "other")
    assert note.startswith("Evaluated on other data than the baseline")
    assert ": boolq. Such numbers are not compared" in note
    assert not notes(made, "same")
    for form in ("terminal", "md", "tex"):
        assert "Evaluated on other data" in " ".join(render(made, form).split())
    text = render(made, "csv").splitlines()
    columns, line = text[0].split(","), next(line for line in text if ",other," in line)
    assert line.split(",")[columns.index("boolq.acc.delta")] == ""


def test_other_files_of_a_data_set_are_other_data_though_the_items_are_the_same() -> None:
    def of(name: str, digest: str) -> Record:
        basis = Basis(data={"evaluate": {"aps/super_glue": digest, "un/used": digest}})
        return with_data(make(name, basis=basis), "boolq", BOOLQ)

    made = board(of("baseline", "1"), of("same", "1"), of("other", "2"))
    assert "boolq.acc" in row(made, "same").deltas
    assert "boolq.acc" not in row(made, "other").deltas
    assert "rte.acc" in row(made, "other").deltas
    assert "aps/super_glue" in notes(made, "other")[0]


def test_perplexities_on_other_texts_are_not_subtracted() -> None:
    other = make("other")
    result = other.perplexity["wikitext2"].model_copy(update={"data": "else"})
    other = other.model_copy(update={"perplexity": {"wikitext2": result}})
    made = board(make("baseline"), make("same"), other)
    key = "perplexity.wikitext2.value"
    assert key in row(made, "same").deltas
    assert key not in row(made, "other").deltas
    assert AVERAGE in row(made, "other").deltas


def test_seeds_on_different_data_have_no_spread_and_no_difference() -> None:
    first, second = (make("mixed", seed=seed) for seed in (0, 1))
    made = board(BASE, with_data(first, "boolq", BOOLQ), with_data(second, "boolq", OTHER))
    mixed = row(made, "mixed")
    assert (mixed.values["boolq.acc"].n, mixed.values["boolq.acc"].sd) == (2, None)
    assert mixed.values["rte.acc"].sd == 0.0
    assert "boolq.acc" not in mixed.deltas
    alone = board(with_data(first, "boolq", BOOLQ), with_data(second, "boolq", OTHER))
    assert "boolq" in notes(alone, "mixed")[0]


def test_guessing_on_different_items_is_no_one_level() -> None:
    def guess(made: Record, chance: float) -> Record:
        tasks = {
            name: result.model_copy(update={"chance": chance, "majority": chance})
            for name, result in made.tasks.items()
        }
        return made.model_copy(update={"tasks": tasks})

    other = guess(with_data(make("other"), "boolq", OTHER), 0.5)
    level = row(board(guess(BASE, 0.25), other), LEVEL)
    assert level.values.keys() == {"rte.acc"}


def test_figures_leave_rows_of_other_data_out() -> None:
    same = with_data(make("same"), "boolq", BOOLQ)
    other = with_data(make("other"), "boolq", OTHER)

    def labels(records: list[Record]) -> set[str]:
        figure = next(iter(trade_off(records, FROZEN))).figure
        return {text for axes in figure.axes for text in axes.get_legend_handles_labels()[1]}

    assert "eep" in labels([BASE, same])
    assert "eep" not in labels([BASE, other])
    drops = [{"kind": "drop_block", "block": 0}]
    dropped = [made.model_copy(update={"edits": drops}) for made in (same, other)]
    assert list(dropping([BASE, dropped[0]], FROZEN))
    assert not list(dropping([BASE, dropped[1]], FROZEN))


def code(name: str, *, seed: int = 0, **stages: dict[str, str]) -> Record:
    return make(name, seed=seed, basis=Basis.model_validate({"code": stages}))


def test_rows_of_other_code_name_the_modules() -> None:
    rest = [code(name, evaluate={"a": "1", "b": "1"}) for name in ("baseline", "one", "two")]
    other = code("other", evaluate={"a": "2", "b": "1", "c": "9"})
    made = board(*rest, other)
    assert notes(made, "other") == ["Computed by other code than the rest (evaluate: a)."]
    assert not notes(made, "one")
    many = {f"m{number}": "2" for number in range(5)}
    made = board(
        code("baseline", evaluate=many),
        code("one", evaluate=many),
        code("other", evaluate=dict.fromkeys(many, "3")),
    )
    assert notes(made, "other") == [
        "Computed by other code than the rest (evaluate: m0, m1, m2 and 2 more)."
    ]


def test_methods_that_reach_other_parts_of_a_module_are_no_other_code() -> None:
    eep, step = make("eep"), make("eep").recipe[0].model_copy(update={"method": "wanda"})
    wanda = make("wanda").model_copy(update={"recipe": [step]})
    bases = [Basis(code={"compress": {"harness.method.scores": digest}}) for digest in "12"]
    pair = [
        made.model_copy(update={"basis": b}) for made, b in zip((eep, wanda), bases, strict=True)
    ]
    assert not any("other code" in note.text for note in board(*pair).footnotes)
    twins = [code("twin", seed=seed, compress={"s": str(seed)}) for seed in (0, 1)]
    assert any("other code" in note.text for note in board(*twins).footnotes)


def test_records_that_kept_no_code_say_so() -> None:
    text = "Of a moebench that did not record its code."
    made = board(make("baseline"), make("old", basis=None))
    assert notes(made, "old") == [text]
    made = board(make("baseline", basis=None), make("old", basis=None))
    assert any(note.text.startswith("All rows are of a moebench that") for note in made.footnotes)
    assert not notes(made, "old")


def test_other_calibration_files_say_so() -> None:
    bases = [Basis(data={"compress": {"allenai/c4": digest}}) for digest in "112"]
    names = ("one", "two", "other")
    made = board(*(make(n, basis=basis) for n, basis in zip(names, bases, strict=True)))
    assert notes(made, "other") == ["Calibrated on other files of allenai/c4 than the rest."]


def test_other_versions_and_machines_are_one_footnote() -> None:
    def of(name: str, torch: str, processor: str = "A") -> Record:
        environment = Environment(
            python="3.11",
            platform="l",
            processor=processor,
            cores=1,
            threads=1,
            memory_bytes=1,
            device="cpu",
            versions={"torch": torch, "numpy": name},
        )
        return make(name, environment=environment)

    made = board(of("baseline", "2.9"), of("one", "2.9"), of("two", "2.8"), of("three", "2.9", "B"))
    text = "Of other versions or another machine than the rest: torch 2.9 or 2.8; processor A or B."
    assert notes(made, "two") == notes(made, "three") == [text]
    assert not notes(made, "one")
    assert not board(of("baseline", "2.9"), of("one", "2.9")).footnotes[3:]


def planned(folder: Path, *records: Record, older: str = "") -> Store:
    results = store(folder, FROZEN, [(made, ()) for made in records])
    cells = [
        PlannedCell(
            id=made.cell, model="m", row=made.row, seed=0, older=older if made.recipe else ""
        )
        for made in records
    ]
    results.begin(Plan(suite="mine", title="", protocol=FROZEN, cells=tuple(cells)), "")
    return results


def test_cells_that_are_missing_older_or_damaged_are_said(tmp_path: Path) -> None:
    names = ("baseline", "one", "two", "three", "four", "five")
    results = planned(tmp_path, *(make(name) for name in names), older="harness.grid is another")
    for name in ("two", "three", "four", "five"):
        results.loose.record_path(make(name).cell).unlink()
    path = results.loose.record_path(make("one").cell)
    path.write_text(path.read_text().replace('"acc": 0.8', '"acc": 0.9'))
    made = board_of(results)
    texts = [note.text for note in made.footnotes]
    assert [row.name for row in made.rows if row.kind != "level"] == ["baseline"]
    assert "4 of 6 cells (two, three, four and 1 more) have no record yet." in texts
    assert "1 of 6 cells (one) has a damaged record, which does not count." in texts
    assert any(text.startswith(f"{path}: damaged (it is not what was written") for text in texts)
    for form in ("terminal", "md", "tex"):
        assert "have no record yet" in " ".join(render(made, form).split())
    results.write(make("one"))
    assert notes(board_of(results), "one") == ["Of older code or data: harness.grid is another."]


def test_a_whole_run_has_no_gaps(tmp_path: Path) -> None:
    run = standing(planned(tmp_path, make("baseline"), make("one")))
    assert isinstance(run, Standing)
    assert (run.gaps(), len(run.records), run.older) == ([], 2, {})
