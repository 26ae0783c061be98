"""Calibration of 6 rows of random tokens."""

from __future__ import annotations

import torch

from harness.calibration.tokens import Tokens
from harness.calibration.walk import Calibration
from tests.models import VOCABULARY


def calibration(sequences: int = 6) -> Calibration:
    """The same random tokens each time, 12 in a row, in batches of 4 rows."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, VOCABULARY, (sequences, 12), generator=generator)
    return Calibration(Tokens(ids, None, "made up", 0, "random ids"), batch_size=4)
