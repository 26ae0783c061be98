"""The models of a cell on stored weights, read from files and saved to files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.run.stages.compressing import Compression, Places, compress_to
from harness.run.stages.models import Models
from harness.run.stages.opening import open_stored

if TYPE_CHECKING:
    from harness.measure.speed.throughput import Prompts
    from harness.model.view import MoEModel
    from harness.records.record import Size


class StoredModels(Models):
    """Both models come from files: the base model's own, and the artifact that was made of it."""

    def compress(self) -> Compression:
        """Carry the steps out and save the artifact, the baseline's too, which has no steps."""
        cell = self.job.cell
        self._check_unchanged()
        places = Places(self.job.data_root, self.job.cache)
        return compress_to(
            self.folder, cell.model.ref, cell.steps, cell.protocol, places, say=self.say
        )

    def compressed_model(self) -> MoEModel:
        """Load the artifact."""
        self.say("loading the artifact")
        return open_stored(str(self.folder), self.job.cell.protocol)

    @property
    def folder(self) -> Path:
        """The artifact's folder."""
        return self.job.artifact

    def base_model(self, beside: MoEModel) -> MoEModel:
        """Load the base model from its own files."""
        self._check_unchanged()
        return open_stored(self.job.cell.model.ref, self.job.cell.protocol)

    def _check_unchanged(self) -> None:
        """Raise a UserError if the base model is not the one that the run was planned with."""
        from harness.model.files.identity import check_unchanged

        check_unchanged(self.job.cell.model.ref, self.job.cell.model.sha256)

    def size(self, compressed: MoEModel) -> Size:
        """Count parameters, those that are not zero, and the artifact's bytes."""
        from harness.measure.size import measure_size

        return measure_size(compressed, self.folder)

    def prompts(self, compressed: MoEModel) -> Prompts:
        """Draw the instructions of EEP's protocol; random tokens without a tokenizer."""
        from harness.data import DataRoot
        from harness.measure.speed.throughput import Prompts, instructions

        count = self.job.cell.protocol.instructions
        if not compressed.has_tokenizer:
            return Prompts.random(count, compressed.config.vocab_size)
        return instructions(compressed, count, data=DataRoot(self.job.data_root))
