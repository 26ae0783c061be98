"""The world of spoiled files, made once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.faults.trial import Trials
from tests.faults.world import World


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trials]:
    """Trials in this process, which the verbs set up as their own."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    yield Trials(World(tmp_path_factory.mktemp("world")))
    torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
