from __future__ import annotations

import random
from pathlib import Path

from matplotlib.figure import Figure

from harness.records.protocol import Protocol
from harness.records.record import Record
from harness.report.figures.canvas import draw
from harness.report.figures.page import COLOURS, MARKERS, legend


def test_the_same_records_give_the_same_bytes(
    records: list[Record], protocol: Protocol, tmp_path: Path
) -> None:
    shuffled = random.Random(0).sample(records, len(records))
    first = draw(records, protocol, tmp_path / "first")
    second = draw(shuffled, protocol, tmp_path / "second")
    names = [path.name for path in first]
    assert names[:4] == [
        "accuracy-against-artifact.png",
        "accuracy-against-artifact.svg",
        "accuracy-against-parameters.png",
        "accuracy-against-parameters.svg",
    ]
    for a, b in zip(first, second, strict=True):
        assert a.read_bytes() == b.read_bytes()
    assert "<dc:date>" not in first[1].read_text()
    # A quantized or masked model differs in one of the two sizes only.
    assert first[1].read_bytes() != first[3].read_bytes()


def test_records_without_numbers_still_make_a_plot(
    records: list[Record], protocol: Protocol, tmp_path: Path
) -> None:
    refused = [record for record in records if record.status != "ok"]
    for without in ([], refused):
        assert all(p.stat().st_size > 0 for p in draw(without, protocol, tmp_path))


def test_the_legend_fits_its_figure() -> None:
    for recipe in ("eep", "eep + wanda", "moe-i2-prune + moe-i2-decompose + finetune"):
        figure = Figure((10.0, 4.0), layout="constrained")
        axes = figure.subplots()
        for number in range(8):
            axes.plot([0, 1], [0, 1], label=f"{recipe} {number}")
        legend(figure, "A note.")
        figure.set_figheight(6.0)
        figure.draw_without_rendering()
        box = figure.legends[0].get_window_extent()
        assert 0 <= box.x0 < box.x1 <= figure.bbox.x1


def test_families_are_told_apart_beyond_the_palette() -> None:
    # Coprime lengths: colour and marker repeat together only after their product.
    pairs = {(n % len(COLOURS), n % len(MARKERS)) for n in range(40)}
    assert len(pairs) == 40
