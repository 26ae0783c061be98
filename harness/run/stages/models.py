"""The models of a cell: all that differs between a cell on stored weights and one on random ones.

Each of the two has a class: `harness.run.stages.stored_models`, `harness.run.stages.random_models`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.run.job import Job, Say
from harness.run.stages.compressing import Compression

if TYPE_CHECKING:
    from harness.measure.speed.throughput import Prompts
    from harness.model.view import MoEModel
    from harness.records.record import Size


@dataclass
class Models(ABC):
    """The two models of a cell: the compressed one, and the base it is compared with."""

    job: Job
    say: Say

    @abstractmethod
    def compress(self) -> Compression:
        """Carry the cell's steps out on its base model.

        Raises:
            Refused: a step cannot be carried out.
            UserError: the model or the calibration data cannot be had.
        """

    @abstractmethod
    def compressed_model(self) -> MoEModel:
        """Return the model that `compress` has left, on the device where it is measured."""

    @property
    @abstractmethod
    def folder(self) -> Path | None:
        """The folder with the compressed model's files; None for a model without files."""

    @abstractmethod
    def base_model(self, beside: MoEModel) -> MoEModel:
        """Return the base model on the same device as the compressed one, `beside`."""

    @abstractmethod
    def size(self, compressed: MoEModel) -> Size:
        """Count the compressed model's parameters and bytes."""

    @abstractmethod
    def prompts(self, compressed: MoEModel) -> Prompts:
        """Return the prompts that throughput is measured with."""
