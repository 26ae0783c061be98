"""Published numbers against made-up records."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.judge.ours import counterpart
from harness.judge.verdict import PAPER_MODELS, Verdict, Verdicts, verdicts
from harness.papers.published import PrintedColumn, tables
from harness.records.protocol import Protocol
from harness.records.record import Record
from harness.records.store import Store
from harness.report.tables.verdict import VERDICT_FORMATS, verdict_table
from tests.records.made_up import record, store

SEVEN = (
    *("arc_challenge", "arc_easy", "boolq", "hellaswag", "openbookqa", "rte"),
    "winogrande",
)
PRINTED = (0.5717, 0.8401, 0.8535, 0.6488, 0.35, 0.704, 0.7593)
"""The baseline of moe-i2.table1, Mixtral."""
BASELINE = dict(zip(SEVEN, PRINTED, strict=True))
TABLE1 = """
models = ["mistralai/Mixtral-8x7B-v0.1"]
[published]
table = "moe-i2.table1"
[[recipes]]
name = "pruned"
steps = [{ method = "eep", ratio = 0.25 }]
published = "P"
"""
Judge = Callable[..., Verdicts]


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    def judge(suite: str, records: Sequence[Record], protocol: Protocol, **more: Any) -> Verdicts:
        without_items = [(record, ()) for record in records]
        return verdicts(store(tmp_path / "mine", protocol, without_items, suite=suite, **more))

    return judge


def protocol(**fields: Any) -> Protocol:
    return Protocol.model_validate({"tasks": SEVEN, "average": SEVEN, "perplexity": (), **fields})


def pick(judged: Verdicts, model: str, method: str, column: str) -> Verdict:
    [verdict] = [
        v for v in judged.verdicts if (v.model, v.method, v.column.name) == (model, method, column)
    ]
    return verdict


def test_within_our_error_is_reproduced_and_beyond_it_differs(judge: Judge) -> None:
    frozen = protocol()
    # Near 35 % of 1000 items, 1.96 standard errors are 3.0 points above and 2.9 below.
    apart_and_outcome = {0.0295: "reproduced", 0.031: "differs", -0.028: "reproduced"}
    for apart, outcome in {**apart_and_outcome, -0.0295: "differs"}.items():
        scores = {**BASELINE, "openbookqa": 0.35 + apart}
        judged = judge(TABLE1, [record("baseline", scores, protocol=frozen)], frozen)
        verdict = pick(judged, "8x7B", "baseline", "OBQA")
        assert verdict.outcome == outcome, apart
        assert verdict.difference == pytest.approx(100 * apart)
        acc = scores["openbookqa"]
        assert verdict.error == pytest.approx(100 * (acc * (1 - acc) / 1000) ** 0.5)


def test_every_number_of_the_table_has_a_verdict(judge: Judge) -> None:
    frozen = protocol()
    judged = judge(TABLE1, [record("baseline", BASELINE, protocol=frozen)], frozen)
    assert len(judged.verdicts) == 15 * 9
    average = pick(judged, "8x7B", "baseline", "Average")
    assert average.outcome == "reproduced"
    assert average.ours == pytest.approx(67.53, abs=0.01)
    assert pick(judged, "8x7B", "baseline", "Params").outcome == "reproduced"
    assert pick(judged, "8x7B", "P", "RTE").outcome == "not run"
    assert pick(judged, "8x7B", "P+D", "RTE").why == "the suite has no such row"
    assert pick(judged, "Qwen", "P", "RTE").outcome == "not run"
    assert "9 reproduced, 0 differs, 0 not comparable, 126 not run" in judged.summary()


def test_expert_parameters_removed_are_counted(judge: Judge) -> None:
    frozen = protocol()
    for parameters, outcome in ((750, "reproduced"), (700, "differs")):
        records = [
            record("baseline", BASELINE, protocol=frozen),
            record("pruned", BASELINE, protocol=frozen, parameters=parameters),
        ]
        verdict = pick(judge(TABLE1, records, frozen), "8x7B", "P", "Params")
        assert verdict.outcome == outcome
        assert verdict.ours == pytest.approx(100 - parameters / 10)


def test_zeros_are_no_parameters_removed(judge: Judge) -> None:
    frozen = protocol()
    size = record("pruned", BASELINE, protocol=frozen).size
    assert size is not None
    masked = size.model_copy(update={"nonzero_parameters": 1200})
    records = [
        record("baseline", BASELINE, protocol=frozen),
        record("pruned", BASELINE, protocol=frozen, size=masked),
    ]
    verdict = pick(judge(TABLE1, records, frozen), "8x7B", "P", "Params")
    assert (verdict.outcome, verdict.ours) == ("not comparable", None)
    assert "set to zero" in verdict.why


def test_records_of_different_data_are_never_subtracted_or_averaged(judge: Judge) -> None:
    frozen = protocol()

    def of(row: str, data: str, seed: int = 0) -> Record:
        made = record(row, BASELINE, protocol=frozen, seed=seed)
        tasks = {
            name: result.model_copy(update={"data": data if name == "rte" else "d"})
            for name, result in made.tasks.items()
        }
        return made.model_copy(update={"tasks": tasks})

    why = "data: the records were evaluated on different rte"
    judged = judge(TABLE1, [of("baseline", "a", 0), of("baseline", "b", 1)], frozen)
    for column in ("RTE", "Average"):
        verdict = pick(judged, "8x7B", "baseline", column)
        assert (verdict.outcome, verdict.why, verdict.ours) == ("not comparable", why, None)
    assert pick(judged, "8x7B", "baseline", "BoolQ").ours is not None
    difference = PrintedColumn(name="drop", metric="difference", unit="points")
    table = tables()["moe-i2.table1"]
    same = counterpart(difference, table, [of("pruned", "a")], [of("baseline", "a")], frozen)
    other = counterpart(difference, table, [of("pruned", "b")], [of("baseline", "a")], frozen)
    assert same.value == pytest.approx(0.0)
    assert (other.value, other.obstacle) == (None, why)


def test_a_damaged_record_is_not_run(judge: Judge, tmp_path: Path) -> None:
    frozen = protocol()
    made = record("baseline", BASELINE, protocol=frozen)
    judge(TABLE1, [made], frozen)
    results = Store(tmp_path / "mine")
    path = results.loose.record_path(made.cell)
    path.write_text(path.read_text().replace('"acc": 0.8535', '"acc": 0.9535'))
    verdict = pick(verdicts(results), "8x7B", "baseline", "BoolQ")
    assert (verdict.outcome, verdict.why, verdict.ours) == (
        "not run",
        "its record is damaged",
        None,
    )


def test_a_reference_model_is_never_compared(judge: Judge) -> None:
    frozen = protocol()
    records = [record("baseline", BASELINE, protocol=frozen, ref="reference/mixtral")]
    judged = judge(TABLE1, records, frozen)
    mine = [v for v in judged.verdicts if (v.model, v.method) == ("8x7B", "baseline")]
    assert {(v.outcome, v.why) for v in mine} == {("not comparable", "reference model")}
    assert pick(judged, "8x7B", "baseline", "RTE").ours == pytest.approx(70.4)


def test_another_model_of_the_family_is_not_the_papers(judge: Judge) -> None:
    frozen = protocol()
    other = "mistralai/Mixtral-8x7B-Instruct-v0.1"
    records = [record("baseline", BASELINE, protocol=frozen, ref=other)]
    verdict = pick(judge(TABLE1, records, frozen), "8x7B", "baseline", "RTE")
    assert (verdict.outcome, verdict.why) == ("not comparable", f"model: ours is {other}")
    mirrored = record("baseline", BASELINE, protocol=frozen, ref="/models/Mixtral-8x7B-v0.1")
    both = judge(TABLE1, [*records, mirrored], frozen)
    assert pick(both, "8x7B", "baseline", "RTE").outcome == "reproduced"


@pytest.mark.parametrize(
    ("fields", "column", "why"),
    [
        ({"limit": 10}, "RTE", "limit: 10 items per task"),
        ({"shots": 5}, "RTE", "shots: the paper's are zero"),
        ({"tasks": SEVEN[:-1], "average": ()}, "WinoGrande", "task set: winogrande was not mea"),
        ({"tasks": SEVEN[:-1], "average": ()}, "Average", "task set: winogrande not measured"),
    ],
)
def test_what_stands_in_the_way_is_named(
    judge: Judge, fields: dict[str, Any], column: str, why: str
) -> None:
    frozen = protocol(**fields)
    scores = {task: BASELINE[task] for task in frozen.tasks}
    judged = judge(TABLE1, [record("baseline", scores, protocol=frozen)], frozen)
    verdict = pick(judged, "8x7B", "baseline", column)
    assert verdict.outcome == "not comparable"
    assert verdict.why.startswith(why)


def test_an_erratum_is_judged_by_the_corrected_number(judge: Judge) -> None:
    suite = """
    models = ["deepseek-ai/DeepSeek-V2-Lite"]
    published = { table = "moe-i2.table5" }
    [[recipes]]
    name = "decomposed"
    steps = [{ method = "svd" }]
    published = "D+F"
    families = ["deepseek_v2"]
    """
    frozen = protocol()
    for acc, outcome in ((0.3968, "reproduced"), (0.6968, "differs")):
        scores = {**BASELINE, "arc_challenge": acc}
        ref = "deepseek-ai/DeepSeek-V2-Lite"
        mine = record("decomposed", scores, protocol=frozen, ref=ref, family="deepseek_v2")
        judged = judge(suite, [mine], frozen)
        verdict = pick(judged, "DeepSeek", "D+F", "ARC-c")
        assert (verdict.outcome, verdict.corrected) == (outcome, Decimal("39.68"))
        # The Qwen row of the same name is another family's.
        assert pick(judged, "Qwen", "D+F", "ARC-c").why == "the suite has no such row"
        for form in ("terminal", "md"):
            text = verdict_table(judged, form, width=160)
            assert "69.68 [39.68]" in text
            assert "Erratum: DeepSeek D+F, ARC-c" in text


def test_rows_of_one_name_are_told_apart_by_their_settings(judge: Judge) -> None:
    suite = """
    models = ["mistralai/Mixtral-8x7B-v0.1"]
    published = { table = "moe-i2.table2" }
    [[recipes]]
    name = "half"
    steps = [{ method = "eep", ratio = 0.5 }]
    published = { method = "EEP", Params = 50 }
    """
    frozen = protocol()
    judged = judge(suite, [record("half", BASELINE, protocol=frozen)], frozen)
    assert pick(judged, "8x7B", "EEP, Params 50", "RTE").row == "half"
    assert pick(judged, "8x7B", "EEP, Params 25", "RTE").outcome == "not run"


def test_metrics_are_the_tables_and_two_baselines_may_stand_for_ours(judge: Judge) -> None:
    suite = """
    models = ["mistralai/Mixtral-8x7B-v0.1"]
    [published]
    table = "moe-i2.table9"
    baseline = ["baseline (ours, EEP)", "baseline (He et al.)"]
    [[recipes]]
    name = "drop"
    steps = [{ method = "expert-drop", ratio = 0.25 }]
    published = "E2/8"
    """
    frozen = protocol()
    norm = {**BASELINE, "arc_challenge": 0.5981}
    lower = {task: acc - 0.01 for task, acc in BASELINE.items()}
    records = [
        record("baseline", BASELINE, protocol=frozen, norm=norm),
        record("drop", lower, protocol=frozen, norm={t: a - 0.01 for t, a in norm.items()}),
    ]
    judged = judge(suite, records, frozen)
    for method in ("baseline (ours, EEP)", "baseline (He et al.)"):
        assert pick(judged, "8x7B", method, "ARC-c").ours == pytest.approx(59.81)
    lost = pick(judged, "8x7B", "E2/8", "Δ")
    assert lost.ours == pytest.approx(1.0)
    assert lost.outcome == "differs"
    missing = judge(suite, [record("baseline", BASELINE, protocol=frozen)], frozen)
    verdict = pick(missing, "8x7B", "baseline (He et al.)", "ARC-c")
    assert (verdict.outcome, verdict.ours) == ("not comparable", None)
    memory = pick(judged, "8x7B", "E2/8", "Mem")
    assert (memory.outcome, memory.why[:8]) == ("not comparable", "hardware")


def test_perplexities_of_an_unknown_protocol_stand_side_by_side(judge: Judge) -> None:
    suite = """
    models = ["mistralai/Mixtral-8x7B-v0.1"]
    published = { table = "moe-i2.table3" }
    """
    frozen = protocol(perplexity=("wikitext2", "wikitext2-128"))
    judged = judge(suite, [record("baseline", BASELINE, protocol=frozen, perplexity=6.24)], frozen)
    verdict = pick(judged, "8x7B", "baseline", "WikiText2")
    assert verdict.why == "perplexity text unknown; ours is wikitext2-128"
    assert (verdict.outcome, verdict.ours) == ("not comparable", 6.24)


def test_bounds_and_rounded_numbers(judge: Judge) -> None:
    eight = (*SEVEN, "mmlu")
    suite = """
    models = ["mistralai/Mixtral-8x7B-v0.1"]
    published = { table = "eep.headline" }
    [[recipes]]
    name = "r = 6"
    steps = [{ method = "eep", ratio = 0.25 }]
    published = { method = "pruning", Kept = 6 }
    """
    frozen = protocol(tasks=eight, average=eight)
    whole = {**BASELINE, "mmlu": 0.7}
    for kept, outcome in ((765, "reproduced"), (745, "differs")):
        records = [
            record("baseline", whole, protocol=frozen),
            record(
                "r = 6", {t: a - 0.029 for t, a in whole.items()}, protocol=frozen, parameters=kept
            ),
        ]
        judged = judge(suite, records, frozen)
        lost = pick(judged, "8x7B", "pruning, Kept 6", "Lost")
        assert lost.outcome == "reproduced"
        assert lost.ours == pytest.approx(2.9)
        assert pick(judged, "8x7B", "pruning, Kept 6", "Removed").outcome == outcome
        assert pick(judged, "8x7B", "pruning, Kept 6", "Speedup").outcome == "not comparable"


def test_seeds_are_averaged_and_their_spread_counts(judge: Judge) -> None:
    frozen = protocol()
    accs = (0.32, 0.35, 0.38)
    records = [
        record("pruned", {**BASELINE, "openbookqa": acc}, protocol=frozen, seed=seed)
        for seed, acc in enumerate(accs)
    ]
    verdict = pick(judge(TABLE1, records, frozen), "8x7B", "P", "OBQA")
    items_part = sum(acc * (1 - acc) / 1000 for acc in accs) / 3
    assert verdict.ours == pytest.approx(35.0)
    assert verdict.error == pytest.approx(100 * (items_part + 0.03**2 / 3) ** 0.5)
    assert len(verdict.cells) == 3


def test_a_refusal_is_said(judge: Judge) -> None:
    frozen = protocol()
    refused = record("pruned", {}, protocol=frozen, status="refused", reason="too few experts.")
    verdict = pick(judge(TABLE1, [refused], frozen), "8x7B", "P", "RTE")
    assert (verdict.outcome, verdict.why) == ("not run", "refused: too few experts.")


def test_the_csv_has_every_number_unrounded(judge: Judge) -> None:
    frozen = protocol()
    judged = judge(TABLE1, [record("baseline", BASELINE, protocol=frozen)], frozen)
    rows = list(csv.DictReader(io.StringIO(verdict_table(judged, "csv"))))
    assert len(rows) == len(judged.verdicts)
    [rte] = [r for r in rows if (r["model"], r["row"], r["column"]) == ("8x7B", "baseline", "RTE")]
    assert (rte["printed"], rte["verdict"]) == ("70.40", "reproduced")
    assert float(rte["ours"]) == pytest.approx(70.4)
    assert float(rte["stderr"]) > 0
    with pytest.raises(UserError, match="Did you mean 'csv'"):
        verdict_table(judged, "cvs")
    assert {"terminal", "md", "csv"} == set(VERDICT_FORMATS)


def test_a_suite_without_a_table_has_no_verdict(judge: Judge) -> None:
    frozen = protocol()
    with pytest.raises(UserError, match="names no published table"):
        judge('models = ["a"]', [record("baseline", BASELINE, protocol=frozen)], frozen)


def test_nothing_run_is_said(tmp_path: Path) -> None:
    from harness.records.store import Store

    with pytest.raises(UserError, match="no results here"):
        verdicts(Store(tmp_path / "nothing"))


def test_every_published_model_is_known_or_no_model() -> None:
    named = {name for table in tables().values() for name in table.models.values()}
    assert named - PAPER_MODELS.keys() == {"the models that were quantized, not named one by one"}
