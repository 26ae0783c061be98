"""The papers' numbers: well-formed, consistent with each other, and wrong only where it is said."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from statistics import mean

from harness.papers.published import PrintedRow, PrintedTable, load, papers, tables

TABLES = tables()
HALF_UNIT = Decimal("0.005")

LAST_DIGIT = {
    ("moe-i2.table1", "8x7B", "MoE-I²", "51.79"),
    ("moe-i2.table5", "8x7B", "MoE-I²", "51.79"),
    ("moe-i2.table5", "DeepSeek", "P+F", "50"),
    ("moe-i2.table8", "Qwen", "Imba.", "704"),
    ("moe-i2.table8", "DeepSeek", "Ba.", "352"),
}
"""Averages one unit off in the last digit, which the rounding of the averaged accuracies allows:
each is within 0.005 of what the authors averaged, and so is their mean, and the average is rounded
once more."""


def name(table: PrintedTable, row: PrintedRow) -> tuple[str, str, str, str]:
    """Names a row of the tables that have a setting or a share beside model and method."""
    setting = row.printed.get("Params", row.printed.get("Rank", row.printed.get("Mem")))
    return (table.key, row.model, row.method, str(setting))


def accuracies(table: PrintedTable) -> list[str]:
    return [c.name for c in table.columns.values() if c.metric in ("acc", "acc_norm")]


def distance(table: PrintedTable, numbers: dict[str, Decimal]) -> Decimal:
    """Of the average from the mean of the row's accuracies."""
    return abs(numbers["Average"] - mean(numbers[task] for task in accuracies(table)))


AVERAGED = [
    (table, row)
    for table in TABLES.values()
    for row in table.rows
    if "Average" in table.columns and accuracies(table)
]


def test_every_table_of_every_paper_is_there() -> None:
    assert papers() == ["c-moe", "eep", "moe-i2"]
    assert list(load("moe-i2")) == [f"moe-i2.table{n}" for n in range(1, 10)]
    assert set(TABLES) == {
        *load("moe-i2"),
        "c-moe.headline",
        "c-moe.expert-drop",
        "c-moe.post-finetuning",
        "eep.headline",
    }


def test_the_number_of_numbers() -> None:
    assert {key: sum(len(row.printed) for row in t.rows) for key, t in TABLES.items()} == {
        "c-moe.headline": 10,
        "c-moe.expert-drop": 4,
        "c-moe.post-finetuning": 3,
        "eep.headline": 9,
        "moe-i2.table1": 15 * 9,
        "moe-i2.table2": 5 * 9,
        "moe-i2.table3": 5 * 3,
        "moe-i2.table4": 8 * 3,
        "moe-i2.table5": 9 * 9,
        "moe-i2.table6": 8 * 4,
        "moe-i2.table7": 4 * 9,
        "moe-i2.table8": 12 * 9,
        "moe-i2.table9": 6 * 9 - 2,
    }


def test_an_average_is_the_mean_of_its_row() -> None:
    off = {
        name(table, row): distance(table, row.corrected)
        for table, row in AVERAGED
        if distance(table, row.corrected) > HALF_UNIT
    }
    assert len(AVERAGED) == 51
    assert set(off) == LAST_DIGIT
    assert max(off.values()) <= 2 * HALF_UNIT


def test_the_printed_values_of_the_errata_break_the_average() -> None:
    for table in TABLES.values():
        for erratum in table.errata:
            wanted = (erratum.row.model, erratum.row.method)
            (row,) = (r for r in table.rows if (r.model, r.method) == wanted)
            assert distance(table, row.printed) > 2 * HALF_UNIT, erratum


def test_the_errata_carry_both_values() -> None:
    errata = {
        (key, e.row.model, e.row.method, e.column, str(e.printed), str(e.corrected))
        for key, table in TABLES.items()
        for e in table.errata
        if e.reason
    }
    assert errata == {
        ("moe-i2.table5", "DeepSeek", "D+F", "ARC-c", "69.68", "39.68"),
        ("moe-i2.table9", "8x7B", "P", "Average", "69.02", "69.20"),
        ("moe-i2.table9", "8x7B", "L8/32", "Average", "65.42", "65.48"),
    }


def test_only_errata_are_corrected() -> None:
    corrected = {
        (key, row.model, row.method, column, str(row.printed[column]), str(value))
        for key, table in TABLES.items()
        for row in table.rows
        for column, value in row.corrected.items()
        if value != row.printed[column]
    }
    assert corrected == {
        (key, e.row.model, e.row.method, e.column, str(e.printed), str(e.corrected))
        for key, table in TABLES.items()
        for e in table.errata
    }


def test_tables_of_a_paper_agree_on_what_they_share() -> None:
    """Rows that several tables of accuracies print are the same rows."""
    seen: dict[tuple[str, str, str], dict[str, Decimal]] = {}
    for key in ("table1", "table2", "table5", "table7"):
        for row in TABLES[f"moe-i2.{key}"].rows:
            method = "P" if row.method == "Imba." else row.method
            at = (row.model, method, str(row.printed["Params"]))
            assert seen.setdefault(at, row.printed) == row.printed
    averages = {(model, row["Average"]) for (model, _, _), row in seen.items()}
    for row in TABLES["moe-i2.table4"].rows:
        assert (row.model, row.printed["Average"]) in averages
    for row in TABLES["moe-i2.table6"].rows:
        at = (row.model, row.method, str(row.printed["Params"]))
        assert at not in seen or seen[at]["Average"] == row.printed["Average"]


def test_the_drops_of_table_9_follow_from_its_averages() -> None:
    rows = {row.method: row for row in TABLES["moe-i2.table9"].rows}
    baselines = {"P": "baseline (ours, EEP)"}
    for method in ("P", "E2/8", "L8/32", "B5/32"):
        baseline = rows[baselines.get(method, "baseline (He et al.)")].printed["Average"]
        row = rows[method]
        # The L8/32 row's drop was taken from the average as printed.
        average = (row.printed if method == "L8/32" else row.corrected)["Average"]
        assert baseline - average == row.printed["Δ"]


def test_missing_is_absent_and_never_zero() -> None:
    table = TABLES["moe-i2.table9"]
    assert [row.method for row in table.rows if "Δ" not in row.printed] == [
        "baseline (ours, EEP)",
        "baseline (He et al.)",
    ]
    zeros = {
        (row.method, column)
        for table in TABLES.values()
        for row in table.rows
        for column, value in row.printed.items()
        if value == 0
    }
    assert zeros == {("baseline", "Params")}


def test_bounds_keep_their_relation() -> None:
    block_drop = TABLES["c-moe.headline"].rows[3]
    assert block_drop.printed["Performance kept"] == 92
    assert block_drop.relations == {"Performance kept": ">"}
    bounds = {
        (row.relations[column], str(row.printed[column]))
        for table in (TABLES["eep.headline"], TABLES["c-moe.expert-drop"])
        for row in table.rows
        for column in row.relations
    }
    assert bounds == {
        ("≈", "24"), ("≈", "2.9"), ("≈", "48"), ("≈", "7.1"), ("≤", "1.33"), ("<", "1"),
    }  # fmt: skip


def test_digits_are_those_printed() -> None:
    rows = TABLES["moe-i2.table3"].rows
    assert [str(row.printed["PTB"]) for row in rows] == [
        "107.24", "141.1", "133.38", "207.4", "185.2",
    ]  # fmt: skip
    assert str(TABLES["moe-i2.table1"].rows[0].printed["OBQA"]) == "35.00"


def test_metrics_units_and_protocols_are_said() -> None:
    for table in TABLES.values():
        assert table.protocol
        for column in table.columns.values():
            unitless = column.metric in ("perplexity", "setting")
            assert column.unit is not None or unitless, column
            assert column.task is not None or column.metric not in ("acc", "acc_norm"), column
            if column.metric == "perplexity":
                assert column.protocol == "reported, protocol unknown"


def test_table_9_is_acc_norm_where_a_task_defines_it() -> None:
    columns = TABLES["moe-i2.table9"].columns
    normed = {name for name, column in columns.items() if column.metric == "acc_norm"}
    assert normed == {"ARC-c", "HellaSwag", "OBQA"}
    others = [table for key, table in TABLES.items() if key != "moe-i2.table9"]
    assert not any(c.metric == "acc_norm" for table in others for c in table.columns.values())


def test_importing_is_light() -> None:
    code = "import sys, harness.papers.published as p; p.tables(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
