from __future__ import annotations

import pytest

from harness.errors import UserError
from harness.records.protocol import Protocol
from harness.records.record import Memory, Record
from harness.report.board import Column, Leaderboard, Row, Value
from harness.report.leaderboard import LEVEL, leaderboard
from harness.report.tables import render
from harness.report.tables.text import MINUS, cell, label, printed, sources, values

MIXTRAL = "reference/mixtral"
ACME = "acme/my_moe & sons"


def _row(board: Leaderboard, model: str, name: str) -> Row:
    return next(row for row in board.rows if row.id == (model, name))


def _column(board: Leaderboard, key: str) -> Column:
    return next(column for column in board.columns if column.key == key)


def _shown(board: Leaderboard, model: str, name: str, key: str) -> str:
    return values(_row(board, model, name), [_column(board, key)])[0]


def _pick(records: list[Record], row: str, seed: int = 0, model: str = MIXTRAL) -> Record:
    matching = [r for r in records if (r.row, r.seed, r.model.label) == (row, seed, model)]
    return matching[0]


def _with_accuracy(record: Record, task: str, acc: float) -> Record:
    result = record.tasks[task].model_copy(update={"metrics": {"acc": acc}})
    return record.model_copy(update={"tasks": {**record.tasks, task: result}})


def test_rows_are_sorted_by_model_baseline_first(records: list[Record], protocol: Protocol) -> None:
    names = [row.name for row in leaderboard(records, protocol).rows if row.model == MIXTRAL]
    by_name = ["eep 4 of 8", "eep 6 of 8 + wanda 2:4", "eep 9 of 8", "random 4 of 8"]
    assert names == [LEVEL, "baseline", *by_name]
    board = leaderboard(records, protocol, ["random 4 of 8", "eep 9 of 8", "baseline"])
    names = [row.name for row in board.rows if row.model == MIXTRAL]
    assert names[2:] == ["random 4 of 8", "eep 9 of 8", "eep 4 of 8", "eep 6 of 8 + wanda 2:4"]
    assert [row.model for row in board.rows] == sorted(row.model for row in board.rows)


def test_seeds_are_averaged_and_their_spread_is_shown(
    records: list[Record], protocol: Protocol
) -> None:
    board = leaderboard(records, protocol)
    row = _row(board, MIXTRAL, "random 4 of 8")
    assert row.seeds == (0, 1, 2)
    assert len(set(row.cells)) == 3
    assert all(cell[:8] in render(board, "md") for cell in row.cells)
    # Accuracies .80 .86 .74; averages .743333 .74 .726667.
    assert _shown(board, MIXTRAL, "random 4 of 8", "arc_challenge.acc") == "80.0 ± 6.0"
    assert _shown(board, MIXTRAL, "random 4 of 8", "average") == "73.7 ± 0.9"
    assert _shown(board, MIXTRAL, "random 4 of 8", "average.delta") == f"{MINUS}10.0 ± 0.9"
    assert _shown(board, MIXTRAL, "random 4 of 8", "average.kept") == "88.0 ± 1.1"
    assert label(board, row).startswith("random 4 of 8 (n = 3)")


def test_differences_are_to_the_baseline_of_the_same_model(
    records: list[Record], protocol: Protocol
) -> None:
    board = leaderboard(records, protocol)
    row = _row(board, MIXTRAL, "eep 4 of 8")
    assert row.deltas["boolq.acc"] == pytest.approx(0.95 - 0.98)
    assert row.deltas["perplexity.wikitext2.value"] == pytest.approx(1.9 - 1.79)
    assert _shown(board, MIXTRAL, "eep 4 of 8", "average.delta") == f"{MINUS}2.7"
    acme = _row(board, ACME, "block-drop 1")
    assert acme.deltas["boolq.acc"] == pytest.approx(0.80 - 0.85)
    assert not _row(board, MIXTRAL, "baseline").deltas


def test_without_a_baseline_there_are_no_differences(
    records: list[Record], protocol: Protocol
) -> None:
    board = leaderboard([r for r in records if r.recipe], protocol)
    assert _shown(board, MIXTRAL, "eep 4 of 8", "average") == "81.0"
    assert _shown(board, MIXTRAL, "eep 4 of 8", "average.delta") == "—"
    assert not any(row.deltas for row in board.rows)


def test_an_average_with_a_task_missing_is_absent(
    records: list[Record], protocol: Protocol
) -> None:
    board = leaderboard(records, protocol)
    for name in ("baseline", "block-drop 1"):
        assert _shown(board, ACME, name, "rte.acc") == "—"
        assert _shown(board, ACME, name, "average") == "—"
        assert _shown(board, ACME, name, "average.kept") == "—"
    two = protocol.model_copy(update={"average": ("arc_challenge", "boolq")})
    same = [record.model_copy(update={"protocol": two.sha256}) for record in records]
    assert _shown(leaderboard(same, two), ACME, "block-drop 1", "average") == "66.0"


def test_one_seed_without_a_task_counts_fewer_in_that_column(
    records: list[Record], protocol: Protocol
) -> None:
    poor = _pick(records, "random 4 of 8", 1)
    others = [record for record in records if record is not poor]
    less = poor.model_copy(update={"tasks": {**poor.tasks}})
    del less.tasks["rte"]
    board = leaderboard([*others, less], protocol)
    assert _shown(board, MIXTRAL, "random 4 of 8", "average") == "73.5 ± 1.2 (n = 2)"
    assert _shown(board, MIXTRAL, "random 4 of 8", "boolq.acc") == "90.0 ± 4.0"


def test_missing_numbers_are_dashes_never_zero(records: list[Record], protocol: Protocol) -> None:
    board = leaderboard(records, protocol)
    assert _shown(board, ACME, "baseline", "memory_running.rss_peak") == "—"
    assert _shown(board, MIXTRAL, "baseline", "compression_seconds") == "—"
    assert _shown(board, MIXTRAL, "baseline", "speed.decode.speedup") == "—"


def test_the_best_of_each_model_is_marked(records: list[Record], protocol: Protocol) -> None:
    board = leaderboard(records, protocol)
    best = {row.name: row.best for row in board.rows if row.model == MIXTRAL}
    assert "arc_challenge.acc" in best["eep 4 of 8"]
    assert "perplexity.wikitext2.value" in best["eep 4 of 8"]  # lower is better
    assert "compression_seconds" in best["random 4 of 8"]
    assert "speed.decode.speedup" in best["eep 4 of 8"]
    assert not best["baseline"]  # though it is better than all of them
    assert not best["eep 9 of 8"]
    ties = [name for name, keys in best.items() if "boolq.acc" in keys]
    assert ties == ["eep 4 of 8", "eep 6 of 8 + wanda 2:4"]
    ties = [name for name, keys in best.items() if "size.artifact_bytes" in keys]
    assert ties == ["eep 4 of 8", "random 4 of 8"]


def test_numbers_that_print_alike_are_a_tie(records: list[Record], protocol: Protocol) -> None:
    near = _with_accuracy(_pick(records, "eep 4 of 8"), "boolq", 0.95049)
    others = [record for record in records if record.row != "eep 4 of 8"]
    board = leaderboard([*others, near], protocol)
    best = [row.name for row in board.rows if "boolq.acc" in row.best]
    assert best == ["eep 4 of 8", "eep 6 of 8 + wanda 2:4"]


def test_one_row_alone_is_not_the_best(records: list[Record], protocol: Protocol) -> None:
    board = leaderboard([r for r in records if r.model.label == ACME], protocol)
    assert not any(row.best for row in board.rows)


def test_rows_that_are_not_ok_stay_with_their_reason(
    records: list[Record], protocol: Protocol
) -> None:
    board = leaderboard(records, protocol)
    refused = _row(board, MIXTRAL, "eep 9 of 8")
    failed = _row(board, ACME, "layer_drop #2 {50%}")
    assert (refused.status, failed.status) == ("refused", "failed")
    text = {number: note.text for number, note in enumerate(board.footnotes, 1)}
    (mark,) = board.row_marks(refused)
    assert text[mark] == (
        "Refused: keep = 9 is more than the 8 experts of reference/mixtral: give 1 to 8."
    )
    (mark,) = board.row_marks(failed)
    assert text[mark].startswith("Failed: ValueError: 50% of $x_1")
    assert "Traceback" not in render(board, "md")
    assert set(values(refused, board.shown)) == {"—"}


def test_a_row_with_one_bad_seed_is_partial(records: list[Record], protocol: Protocol) -> None:
    board = leaderboard(records, protocol)
    row = _row(board, ACME, "random 4 of 8")
    assert row.status == "partial"
    assert row.values["boolq.acc"] == Value(0.7)
    assert label(board, row).startswith("random 4 of 8 (n = 1 of 2, partial) [")
    notes = [board.footnotes[mark - 1].text for mark in board.row_marks(row)]
    assert notes == ["Failed with seed 1: MemoryError: out of memory."]
    assert not row.best


def test_guessing_is_shown_and_tasks_at_chance_are_named(
    records: list[Record], protocol: Protocol
) -> None:
    board = leaderboard(records, protocol)
    assert _shown(board, MIXTRAL, LEVEL, "arc_challenge.acc") == "29.5"
    assert _shown(board, MIXTRAL, LEVEL, "rte.acc") == "51.0"
    assert _shown(board, MIXTRAL, LEVEL, "average") == "43.5"
    assert _shown(board, ACME, LEVEL, "average") == "—"
    note = board.footnotes[board.row_marks(_row(board, MIXTRAL, "baseline"))[0] - 1].text
    # .56 is above max(chance, majority) = .51, but not by two standard errors of .035.
    assert "by more than two standard errors on rte:" in note
    assert "boolq" not in note


def test_a_clear_baseline_has_no_footnote(records: list[Record], protocol: Protocol) -> None:
    sure = _with_accuracy(_pick(records, "baseline"), "rte", 0.7)
    others = [r for r in records if r.row != "baseline"]
    board = leaderboard([*others, sure], protocol)
    assert not board.row_marks(_row(board, MIXTRAL, "baseline"))


def test_footnotes_say_what_the_numbers_rest_on(records: list[Record], protocol: Protocol) -> None:
    text = "\n".join(note.text for note in leaderboard(records, protocol).footnotes)
    assert "mean of the acc of arc_challenge, boolq, rte;" in text
    for setting in ("224 tokens", "dynamic cache", "experts grouped_mm", "attention sdpa"):
        assert setting in text
    for setting in ("float32", "cpu (a processor)", "CPU threads: 2", "asks for 2048."):
        assert setting in text
    assert "reference/mixtral is a small model trained for this package" in text
    assert "acme/my_moe & sons is" not in text
    assert "windows of 256 tokens" in text
    assert "Warning: 3 experts saw fewer than 16 calibration tokens." in text


def test_a_limit_is_a_footnote(records: list[Record], protocol: Protocol) -> None:
    few = protocol.model_copy(update={"limit": 20})
    same = [record.model_copy(update={"protocol": few.sha256}) for record in records]
    assert "Only the first 20 items" in render(leaderboard(same, few), "md")


def test_what_was_measured_can_be_left_out(records: list[Record], protocol: Protocol) -> None:
    again = [
        record.model_copy(
            update={
                "seconds": 99.0,
                "compression_seconds": 77.0,
                "compression_cpu_seconds": 66.0,
                "memory_running": Memory(rss_peak=1),
                "speed": None,
                "tasks": {
                    name: result.model_copy(update={"seconds": 55.0})
                    for name, result in record.tasks.items()
                },
                "perplexity": {
                    name: result.model_copy(update={"seconds": 44.0})
                    for name, result in record.perplexity.items()
                },
            }
        )
        if record.status == "ok"
        else record
        for record in records
    ]
    first, second = (leaderboard(r, protocol) for r in (records, again))
    for format in ("md", "csv", "tex"):
        assert render(first, format) != render(second, format)
        kept = [render(board.without_measured(), format) for board in (first, second)]
        assert kept[0] == kept[1]
    assert "ARC-c" in render(first.without_measured(), "md")


def test_memory_of_an_accelerator_is_shown_where_there_is_one(
    records: list[Record], protocol: Protocol
) -> None:
    memory = Memory(rss_peak=10**9, torch_peak=87_700_000_000)
    gpu = [r.model_copy(update={"memory_running": memory}) for r in records if r.status == "ok"]
    board = leaderboard(gpu, protocol)
    assert _shown(board, MIXTRAL, "baseline", "memory_running.torch_peak") == "87.70 GB"
    shown = [column.key for column in board.shown]
    assert "memory_running.rss_peak" not in shown


def test_records_of_another_protocol_are_refused(records: list[Record], protocol: Protocol) -> None:
    other = protocol.model_copy(update={"limit": 5})
    with pytest.raises(UserError, match="was made under protocol"):
        leaderboard(records, other)


def test_two_records_for_one_row_and_seed_are_refused(
    records: list[Record], protocol: Protocol
) -> None:
    first = records[0]
    assert leaderboard([*records, first], protocol) == leaderboard(records, protocol)
    second = first.model_copy(update={"cell": "f" * 64})
    with pytest.raises(UserError, match="two records claim row"):
        leaderboard([*records, second], protocol)


def test_models_that_share_a_label_stay_apart(records: list[Record], protocol: Protocol) -> None:
    base = _pick(records, "baseline")
    other = base.model_copy(update={"model": base.model.model_copy(update={"sha256": "e" * 64})})
    board = leaderboard([base, other], protocol)
    assert {row.model for row in board.rows if row.kind == "baseline"} == {
        f"{MIXTRAL} ({base.model.sha256[:8]})",
        f"{MIXTRAL} (eeeeeeee)",
    }


def test_short_cell_ids_stay_unique(records: list[Record], protocol: Protocol) -> None:
    base = _pick(records, "baseline")
    twin = _pick(records, "eep 4 of 8").model_copy(update={"cell": base.cell[:10] + "0" * 54})
    ids = sources(leaderboard([base, twin], protocol))
    short = {cell for cells in ids.values() for cell in cells}
    assert len(short) == 2
    assert {len(cell) for cell in short} == {11}


@pytest.mark.parametrize(
    ("number", "unit", "expected"),
    [
        (46_702_792_704, "", "46.70 B"),
        (1_380_000, "", "1.380 M"),
        (999_960, "", "1.000 M"),
        (999, "", "999"),
        (2_760_000, "B", "2.760 MB"),
        (87_700_000_000, "B", "87.70 GB"),
        (0, "B", "0 B"),
    ],
)
def test_prefixes(number: float, unit: str, expected: str) -> None:
    assert printed(number, Column("x", "x", unit, digits=4, scale="si")) == expected


def test_the_spread_of_a_size_has_the_prefix_of_its_mean() -> None:
    column = Column("x", "x", "B", digits=4, scale="si")
    assert cell(Value(923_000_000, 1_200_000, 3), column, 3) == "923.0 ± 1.2 MB"
    assert cell(Value(923_000_000, 0.0, 3), column, 3) == "923.0 MB"


def test_a_measured_zero_is_not_missing() -> None:
    column = Column("x", "x", scale=100.0)
    assert cell(Value(0.0), column) == "0.0"
    assert cell(None, column) == "—"
