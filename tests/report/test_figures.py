"""Every figure from made-up records: what is drawn, what is not, and the same bytes each time."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from harness.judge.verdict import Verdict, Verdicts
from harness.papers.published import tables
from harness.records.protocol import Protocol
from harness.records.record import CalibrationInfo, Record, StepInfo
from harness.report.figures.canvas import draw
from harness.report.figures.convergence import convergence
from harness.report.figures.dropping import dropping
from harness.report.figures.importance import importance
from harness.report.figures.page import MOST, Panel, page
from harness.report.figures.paper import paper
from harness.report.figures.reception_field import reception_field
from harness.report.figures.similarity import similarity
from harness.report.figures.usage import usage

TOKENS = {block: {expert: 1 + (3 * block + expert) % 7 for expert in range(8)} for block in (0, 2)}
Make = Callable[..., Record]


@pytest.fixture
def make(records: list[Record]) -> Make:
    """A record like one of the fixture's, of another row."""
    [like] = [r for r in records if r.row == "eep 4 of 8"]
    numbers = iter(range(1000))

    def record(row: str, method: str = "expert-drop", gain: float = 0.0, **fields: Any) -> Record:
        step = StepInfo(
            method=method,
            options=fields.pop("options", {}),
            calibration=CalibrationInfo(
                ref="c4",
                sha256="0" * 64,
                sequences=8,
                length=128,
                batch_size=8,
                seed=0,
                tokens_per_expert=fields.pop("tokens", TOKENS),
            ),
        )
        notes = [{"name": n, "data": d} for n, d in fields.pop("notes", ())]
        tasks = {
            name: task.model_copy(update={"metrics": {"acc": task.metrics["acc"] + gain}})
            for name, task in like.tasks.items()
        }
        update = {"row": row, "recipe": [step], "notes": notes, "tasks": tasks, **fields}
        return like.model_copy(update={"cell": f"{next(numbers):064d}", "edits": [], **update})

    return record


def keep(block: int, *experts: int) -> dict[str, Any]:
    return {"kind": "keep_experts", "block": block, "experts": list(experts), "router": "rows"}


def merge(block: int, *groups: list[int]) -> dict[str, Any]:
    return {"kind": "merge_experts", "block": block, "groups": groups, "weights": groups}


def axes(figure: Figure) -> list[Axes]:
    return [one for one in figure.axes if one.get_title()]


def cells(place: Axes) -> list[list[float | None]]:
    [mesh] = [one for one in place.collections if isinstance(one, QuadMesh)]
    grid: list[list[float | None]] = mesh.get_array().tolist()  # type: ignore[union-attr]
    return grid


def lines(place: Axes) -> dict[str, tuple[list[float], list[float]]]:
    curves = {}
    for container in place.containers:
        line = container[0]
        curves[str(container.get_label())] = (list(line.get_xdata()), list(line.get_ydata()))
    return curves


def everything(make: Make) -> list[Record]:
    layers = {"0": 0.9, "2": 0.8, "3": 0.95}
    loss = {"base": 2.0, "0": {"0": 2.5, "1": 2.1}, "2": {"0": 2.2, "1": 2.0}}
    generations = {"block": 0, "best": [4.0, 3.0, 2.0], "mean": [6.0, 5.0, 2.0]}
    blocks = [[0, 0.4, 0.2], [0, 0, 0.8], [0, 0, 0]]
    one: dict[str, Any] = {"options": {"best": 1, "field": 1}}
    three: dict[str, Any] = {"options": {"best": 3, "field": 1}}
    dropped: dict[str, Any] = {"options": {"score": "norm-moe", "drop": 1}}
    dropped["edits"] = [{"kind": "drop_moe", "block": 0}]
    gone: dict[str, Any] = {"edits": [{"kind": "drop_block", "block": 0}]}
    return [
        make("P", "moe-i2-prune", notes=[("moe-i2.importance", loss)], **one),
        make("P3", "moe-i2-prune", notes=[("moe-i2-prune.search", generations)], **three),
        make("layers", "layer-drop", notes=[("layer-drop.similarity", layers)], **dropped),
        make("blocks", "block-drop", notes=[("block-drop.similarity", blocks)], **gone),
        make("experts", edits=[keep(0, 0, 1, 2, 3, 4), keep(2, 1, 2, 3)]),
    ]


def test_the_same_records_give_the_same_bytes(
    protocol: Protocol, make: Make, tmp_path: Path
) -> None:
    unshuffled = everything(make)
    shuffled = random.Random(0).sample(unshuffled, len(unshuffled))
    first = draw(unshuffled, protocol, tmp_path / "first")
    second = draw(shuffled, protocol, tmp_path / "second")
    stems = list(dict.fromkeys(path.stem for path in first))
    assert stems == [
        "accuracy-against-artifact",
        "accuracy-against-parameters",
        "accuracy-against-experts-removed",
        "accuracy-against-layers-removed",
        "accuracy-against-blocks-removed",
        "kept-experts-reference-mixtral",
        "similarity-of-layers",
        "similarity-of-blocks",
        "importance",
        "search",
        "reception-field",
    ]
    for a, b in zip(first, second, strict=True):
        assert a.name == b.name
        assert a.read_bytes() == b.read_bytes()


def test_what_no_record_has_is_not_drawn(
    records: list[Record], protocol: Protocol, tmp_path: Path
) -> None:
    bare = [record.model_copy(update={"notes": [], "edits": []}) for record in records]
    names = {path.stem for path in draw(bare, protocol, tmp_path)}
    assert names == {"accuracy-against-artifact", "accuracy-against-parameters"}
    assert {path.stem for path in tmp_path.iterdir()} == names


def test_failed_records_are_not_drawn(protocol: Protocol, make: Make) -> None:
    failed = [r.model_copy(update={"status": "failed", "reason": "x"}) for r in everything(make)]
    for figure in (dropping, usage, similarity, importance, convergence, reception_field):
        assert list(figure(failed, protocol)) == []


def test_importance_is_the_rise_of_the_loss(protocol: Protocol, make: Make) -> None:
    [(name, figure)] = importance(everything(make), protocol)
    assert name == "importance"
    [place] = axes(figure)
    gone = [None] * 6  # the model has eight experts, and they keep their numbers
    grid = cells(place)
    assert [row[2:] for row in grid] == [gone, gone]
    assert [row[:2] for row in grid] == [pytest.approx([0.5, 0.1]), pytest.approx([0.2, 0.0])]
    assert [tick.get_text() for tick in place.get_yticklabels()] == ["0", "2"]


def test_rows_with_the_same_notes_share_a_panel(protocol: Protocol, make: Make) -> None:
    loss = {"base": 2.0, "0": {"0": 2.5}}
    other = {"base": 2.0, "0": {"0": 2.4}}
    rows = [("a", loss), ("b", loss), ("c", other)]
    noting = [make(row, notes=[("moe-i2.importance", data)]) for row, data in rows]
    [(_, figure)] = importance(noting, protocol)
    titles = [place.get_title() for place in axes(figure)]
    assert titles == ["reference/mixtral\na and 1 more", "reference/mixtral\nc"]
    [(_, figure)] = importance(noting[:2], protocol)
    assert [place.get_title() for place in axes(figure)] == ["reference/mixtral"]


def test_search_is_relative_to_the_first_generation(protocol: Protocol, make: Make) -> None:
    [(_, figure)] = convergence(everything(make), protocol)
    [place] = axes(figure)
    drawn = [list(line.get_ydata()) for line in place.get_lines()]  # type: ignore[arg-type]
    assert drawn[:2] == [[1.0, 0.75, 0.5], [1.5, 1.25, 0.5]]


def test_similarities(protocol: Protocol, make: Make) -> None:
    drawn = dict(similarity(everything(make), protocol))
    [layers] = axes(drawn["similarity-of-layers"])
    [line] = layers.get_lines()
    assert list(line.get_xdata()) == [0, 2, 3]  # type: ignore[arg-type]
    assert list(line.get_ydata()) == [0.9, 0.8, 0.95]  # type: ignore[arg-type]
    [blocks] = axes(drawn["similarity-of-blocks"])
    assert cells(blocks) == [[0.4, 0.2], [None, 0.8]]


def test_accuracy_against_what_was_dropped(
    records: list[Record], protocol: Protocol, make: Make
) -> None:
    base = [r for r in records if r.model.label == "reference/mixtral" and not r.recipe]
    six = [keep(0, *range(6)), keep(2, *range(6))]
    some = [keep(0, *range(5)), {"kind": "drop_moe", "block": 2}]
    runs = [
        *base,
        make("a", options={"scope": "layerwise", "keep": 6}, edits=six),
        make("b", options={"scope": "global", "keep": 3}, edits=some, gain=-0.1),
        make("b", options={"scope": "global", "keep": 3}, edits=some, gain=-0.2, seed=1),
        make("c", "random", tokens={}, options={"keep": 6}, edits=six),
        make("m", "m-smoe", edits=[merge(0, [1, 0, 2, 3], [4, 5, 6, 7])]),
        make("d", "wanda", edits=[{"kind": "set_weights", "block": 0, "matrices": ["router"]}]),
    ]
    [(name, figure)] = dropping(runs, protocol)
    assert name == "accuracy-against-experts-removed"
    [place] = axes(figure)
    drawn = lines(place)
    assert sorted(drawn) == ["expert-drop, global", "expert-drop, layerwise", "m-smoe", "random"]
    (zero, dropped), (whole, left) = drawn["expert-drop, global"]
    assert (zero, dropped) == (0.0, 5.5)  # (3 + 8) / 2
    (_, two), (_, accuracy) = drawn["expert-drop, layerwise"]
    assert two == 2.0
    assert left == pytest.approx(accuracy - 15)
    assert drawn["m-smoe"][0] == [0.0, 3.0]  # 6 of the 16 in both layers
    assert drawn["random"] == drawn["expert-drop, layerwise"]
    assert place.get_xlabel() == "experts removed per MoE layer (of 8)"
    levels = {str(line.get_label()): line.get_ydata() for line in place.get_lines()}
    assert levels["baseline"] == pytest.approx([whole, whole])
    assert "mean of max(chance, majority)" in levels


def test_two_steps_are_in_no_curve(protocol: Protocol, make: Make) -> None:
    one = make("a", edits=[keep(0, 0, 1)])
    two = one.model_copy(update={"recipe": [*one.recipe, *one.recipe]})
    assert list(dropping([two], protocol)) == []
    assert len(list(dropping([one], protocol))) == 1


def test_kept_experts_and_their_use(protocol: Protocol, make: Make) -> None:
    merged = [merge(0, [1, 0, 2, 3], [4, 5, 6, 7])]
    runs = [
        make("pruned", edits=[keep(0, *range(7)), {"kind": "drop_moe", "block": 2}]),
        make("merged", edits=merged),
        make("merged again", edits=merged),
        make("no tokens", tokens={}, edits=merged),
        make("layers", edits=[{"kind": "drop_moe", "block": 2}]),
    ]
    [(name, figure)] = usage(runs, protocol)
    assert name == "kept-experts-reference-mixtral"
    places = {place.get_title(): place for place in axes(figure)}
    assert list(places) == ["merged and 1 more", "pruned"]
    crosses = places["merged and 1 more"].get_lines()[-1]
    assert list(crosses.get_xdata()) == [0.5, 2.5, 3.5, 5.5, 6.5, 7.5]  # type: ignore[arg-type]
    assert set(crosses.get_ydata()) == {0.5}  # type: ignore[arg-type]
    assert len(places["pruned"].get_lines()[-1].get_xdata()) == 9  # type: ignore[arg-type]
    total = sum(TOKENS[2].values())
    shares = [100 * TOKENS[2][expert] / total for expert in range(8)]
    assert cells(places["pruned"])[1] == pytest.approx(shares)


def test_the_sweep_of_k_and_t(protocol: Protocol, make: Make) -> None:
    def of(k: int, t: int, gain: float, **options: Any) -> Record:
        options = {"best": k, "field": t, "ratio": 0.25, **options}
        return make(f"K {k}, T {t}, {options}", "moe-i2-prune", gain=gain, options=options)

    runs = [of(1, 1, 0.0), of(3, 1, 0.01), of(5, 1, 0.02), of(3, 2, 0.03), of(5, 2, 0.04)]
    runs.append(of(9, 9, 0.3, ratio=0.5))  # alone at its ratio
    [(_, figure)] = reception_field(runs, protocol)
    accuracy, perplexity = axes(figure)
    drawn = lines(accuracy)
    assert {name: xs for name, (xs, _) in drawn.items()} == {"T = 1": [1, 3, 5], "T = 2": [3, 5]}
    first, *rest = drawn["T = 1"][1]
    assert rest == pytest.approx([first + 1, first + 2])
    assert drawn["T = 2"][1] == pytest.approx([first + 3, first + 4])
    assert perplexity.get_ylabel() == "perplexity, wikitext2"
    assert list(reception_field(runs[-1:], protocol)) == []


def test_ours_against_the_papers() -> None:
    table = tables()["moe-i2.table1"]
    columns = {str(column.metric): column for column in table.columns.values()}

    def verdict(metric: str, ours: float | None, **fields: Any) -> Verdict:
        number = Decimal("60.5")
        return Verdict(
            "8x7B", "P", columns[metric], number, number, "", "differs", ours=ours, **fields
        )

    judged = (verdict("acc", 50.0, error=1.0), verdict("average", 55.0), verdict("acc", None))
    [(name, figure)] = paper(Verdicts("mine", table, judged))
    assert name == "accuracy-against-paper"
    [place] = axes(figure)
    assert place.get_title() == "Mixtral-8x7B"
    points = [container[0] for container in place.containers]
    assert [(*p.get_xdata(), *p.get_ydata()) for p in points] == [(60.5, 50.0), (60.5, 55.0)]
    assert list(paper(Verdicts("mine", table, judged[2:]))) == []


def test_a_page_says_what_it_leaves_out() -> None:
    def panels(count: int) -> Sequence[Panel]:
        return [Panel(f"panel {n}", lambda _: None) for n in range(count)]

    full = page("Title", panels(MOST))
    assert len(axes(full)) == MOST
    assert full.get_suptitle() == "Title"
    assert [place.axison for place in page("Title", panels(4)).axes] == [True] * 4 + [False] * 2
    over = page("Title", panels(MOST + 2))
    assert len(axes(over)) == MOST
    assert over.get_suptitle() == f"Title (the first {MOST} of {MOST + 2})"
