from __future__ import annotations

import random
from pathlib import Path

from harness.protocol import Protocol
from harness.record import Record
from harness.report.plot import COLOURS, MARKERS, accuracy_against_size


def test_the_same_records_give_the_same_bytes(
    records: list[Record], protocol: Protocol, tmp_path: Path
) -> None:
    shuffled = random.Random(0).sample(records, len(records))
    first = accuracy_against_size(records, protocol, tmp_path / "first")
    second = accuracy_against_size(shuffled, protocol, tmp_path / "second")
    names = [path.name for path in first]
    assert names == [
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
    for found in ([], refused):
        assert all(p.stat().st_size > 0 for p in accuracy_against_size(found, protocol, tmp_path))


def test_families_are_told_apart_beyond_the_palette() -> None:
    # Coprime lengths: colour and marker repeat together only after their product.
    pairs = {(n % len(COLOURS), n % len(MARKERS)) for n in range(40)}
    assert len(pairs) == 40
