from __future__ import annotations

import random

import pytest
import torch

from harness.evaluate.prefix_rows import PrefixRow, prefix_rows


def _sequences() -> list[tuple[int, ...]]:
    rng = random.Random(3)
    stems = [tuple(rng.choices(range(5), k=rng.randint(1, 6))) for _ in range(6)]
    ends = [tuple(rng.choices(range(5), k=rng.randint(0, 4))) for _ in range(40)]
    return [rng.choice(stems) + end for end in ends]  # duplicates and prefixes of others included


def _visible(row: PrefixRow) -> torch.Tensor:
    size = len(row.tokens)
    return torch.ones(size, size).tril().bool() if row.visible is None else row.visible


@pytest.mark.parametrize("budget", [1, 7, 20, 1000])
def test_every_path_spells_its_sequence_and_sees_itself_alone(budget: int) -> None:
    sequences = _sequences()
    seen = []
    for row in prefix_rows(sequences, budget):
        for number, path in row.paths:
            seen.append(number)
            assert tuple(row.tokens[path].tolist()) == sequences[number]
            assert row.positions[path].tolist() == list(range(len(path)))
            causal = torch.ones(len(path), len(path)).tril().bool()
            assert torch.equal(_visible(row)[path[:, None], path], causal)
        assert torch.equal(_visible(row).sum(1), row.positions + 1)  # ancestors and itself
    assert sorted(seen) == list(range(len(sequences)))


def test_a_row_shares_every_prefix() -> None:
    sequences = _sequences()
    (row,) = prefix_rows(sequences, 1000)
    prefixes = {s[:length] for s in sequences for length in range(1, len(s) + 1)}
    assert len(row.tokens) == len(prefixes)


def test_rows_keep_to_the_budget_unless_one_sequence_is_longer() -> None:
    rows = list(prefix_rows([(1,) * 9, (2, 3), (2, 4), (5, 6, 7)], 4))
    assert [len(row.tokens) for row in rows] == [9, 3, 3]


def test_a_long_row_takes_only_what_shares_more_than_it_adds() -> None:
    stem = tuple(range(20))
    shares, adds = (*stem, 1), (*stem[:3], *range(50, 60))
    rows = list(prefix_rows([stem, shares, adds], 4))
    assert [[number for number, _ in row.paths] for row in rows] == [[0, 1], [2]]
    many = [(*stem, n) for n in range(100)]
    assert {len(row.tokens) for row in prefix_rows(many, 4)} == {2 * 21, 20 + 12}


def test_one_chain_needs_no_mask() -> None:
    (row,) = prefix_rows([(1, 2, 3), (1, 2), (1, 2, 3)], 8)
    assert row.visible is None
    (row,) = prefix_rows([(1, 2, 3), (1, 3)], 8)
    assert row.visible is not None


def test_nothing_gives_no_rows() -> None:
    assert list(prefix_rows([], 8)) == []
