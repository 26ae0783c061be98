"""M-SMoE's usage, dominant experts and groups against the authors' code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from harness.model.edits import MergeExperts
from harness.model.view import MoEModel

Run = Callable[..., tuple[MoEModel, Any]]


def test_groups_dominants_and_usage(compressed: Run, expected: dict[str, Any]) -> None:
    facts = expected["reap_and_mcsmoe"]
    model, report = compressed("m-smoe", keep=4)
    assert [len(block.experts) for block in model.blocks] == [5, 3, 5, 3]
    for edit in model.edits:
        assert isinstance(edit, MergeExperts)
        layer = f"model.layers.{edit.block}.block_sparse_moe"
        leaders = facts["mcsmoe_dom"][layer]  # most used first
        labels = facts["mcsmoe_groups_avg4"][layer]  # of every expert, a place among the leaders
        assert [group[0] for group in edit.groups] == leaders
        theirs = [{e for e in range(8) if labels[e] == place} for place in range(len(leaders))]
        assert [set(group) for group in edit.groups] == theirs
        assert report.notes[0].data[edit.block] == edit.groups
        tokens = torch.zeros(8, dtype=torch.float64)
        for group, weights in zip(edit.groups, edit.weights, strict=True):
            tokens[list(group)] = torch.tensor(weights, dtype=torch.float64)
        ours = (tokens / tokens.sum()).tolist()
        assert ours == pytest.approx(facts["mcsmoe_usage"][layer], abs=1e-12)
    assert [edit.block for edit in model.edits] == [0, 1, 2, 3]
