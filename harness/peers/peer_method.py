"""A peer as a method: its codes, in our layout, run and audited like our own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch

from harness.calibration.walk import Calibration
from harness.disk import scratch
from harness.errors import Refused, UserError
from harness.export.blocking import check_plain, check_structure
from harness.export.configuration import configuration
from harness.method.contract import Note
from harness.method.quantization.grid import rounded
from harness.method.quantization.rounding import Rounding
from harness.model.editing.matrices import Part
from harness.model.edits import Edit, QuantizeWeights, SetWeights
from harness.model.view import Block, MoEModel
from harness.peers import exchange
from harness.peers import same_matrix as likeness
from harness.peers.peer import Peer
from harness.peers.worker_process import work


class PeerMethod(Rounding):
    """GPTQ or AWQ by another library, in an interpreter of its own.

    The library gets a plain checkpoint and the calibration's tokens, and gives codes, scales and
    zeros as its quantized modules hold them. They are put into our layout: the model runs, is
    measured and is audited as with our own methods. Scales are rounded to the model's dtype, as
    the libraries themselves do when they run in it.
    """

    peer: ClassVar[Peer]
    modules: ClassVar[tuple[str, ...]]
    """Modules that decide its results and that its code does not name."""
    families: ClassVar[dict[str, frozenset[str]]]
    """By algorithm, the families that the library was found to quantize."""

    algorithm: Literal["gptq", "awq"] = "gptq"
    version: str
    """Version of the library; any other is refused, for it may give other results."""

    def compress(self, model: MoEModel, calibration: Calibration) -> Iterator[Edit | Note]:
        """Yield one QuantizeWeights per block, for AWQ after a SetWeights, and three notes.

        `peer.report` has versions and seconds, `peer.errors` what `_compared` found, and
        `peer.changed` the weights that the library changed beside its targets. AWQ scales the
        norm that its targets read; what else reads that norm and is not named in `peer.changed`
        was left uncompensated.

        Raises:
            Refused: a plain checkpoint cannot hold the model, or the library cannot quantize it.
            UserError: the library is not there, is of another version, or fails.
        """
        parts = self.parts(model)
        self._check(model)
        if model.device.type == "meta":
            yield from self._dry(model, parts)
            return
        self._check_version()
        with scratch.folder(what="peer") as folder:
            exchange.send(folder, model, calibration, parts, self._asked())
            seconds = work(self.peer, folder)
            yield Note(
                name="peer.report", data={**exchange.report(folder), "seconds_in_all": seconds}
            )
            errors: dict[int, dict[str, float]] = {}
            changed: dict[int, list[str]] = {}
            for place, block, names in exchange.layers(model, parts):
                answer = exchange.receive(folder, place, block, names, self.scheme)
                errors[block.index] = self._compared(block, answer)
                values = {name: block.weight(name) for name in self._scaled(block, parts)}
                values |= answer.changed
                changed[block.index] = sorted(answer.changed)
                if values:
                    yield SetWeights.of(block.index, values)
                yield QuantizeWeights.of(block.index, answer.quantized)
            yield Note(name="peer.errors", data=errors)
            yield Note(name="peer.changed", data=changed)

    @abstractmethod
    def own_options(self) -> dict[str, Any]:
        """The settings that the worker is given beside algorithm and scheme."""

    def _asked(self) -> dict[str, Any]:
        scheme = self.scheme.model_dump(mode="json")
        return {"algorithm": self.algorithm, **scheme, "options": self.own_options()}

    def _check(self, model: MoEModel) -> None:
        name = self.peer.name
        family, known = model.family.model_type, self.families[self.algorithm]
        if family not in known:
            raise Refused(
                f"{name} cannot quantize {family} by {self.algorithm}; it does "
                f"{', '.join(sorted(known))}."
            )
        try:
            check_structure(model, name)
            check_plain(model)
            configuration(model)
        except Refused as error:
            reason = str(error).removeprefix(f"{name}: ").removeprefix("hf: ")
            raise Refused(f"{name} works on plain checkpoints only: {reason}") from error

    def _check_version(self) -> None:
        version = self.peer.installed()[self.peer.package]
        if version != self.version:
            raise UserError(
                f"{self.peer.name}: {self.peer.interpreter()} has version {version}, not "
                f"{self.version}; install that, or set version = {version!r}."
            )

    def _scaled(self, block: Block, parts: tuple[Part, ...]) -> list[str]:
        """Names of what AWQ may change beside its targets, whether it did or not."""
        if self.algorithm == "gptq":
            return []
        fed = {matrix.reads for matrix in block.matrices(*parts)}
        norms = [name for name in ("attention_norm", "mlp_norm") if name in fed]
        return norms + [m.name for m in block.matrices("router") if "mlp_norm" in fed]

    def _dry(self, model: MoEModel, parts: tuple[Part, ...]) -> Iterator[Edit]:
        for _, block, names in exchange.layers(model, parts):
            scaled = self._scaled(block, parts)
            if scaled:
                yield SetWeights(block=block.index, matrices=tuple(scaled))
            blanks = {name: exchange.blank(block, name, self.scheme) for name in names}
            yield QuantizeWeights.of(block.index, blanks)

    def _compared(self, block: Block, answer: exchange.Answer) -> dict[str, float]:
        """Relative errors of all matrices together: the peer's, and those of plain rounding.

        Raises:
            UserError: a matrix is not the one that was to be quantized.
        """
        scaled = self.algorithm == "awq"
        totals = {"peer": 0.0, "rtn": 0.0}
        for name, quantized in answer.quantized.items():
            weight = block.weight(name)
            theirs = likeness.error(weight, quantized.dequantise(torch.float32), scaled=scaled)
            if theirs > likeness.MOST:
                raise UserError(
                    f"block {block.index}: what {self.peer.name} gives for {name} is not that "
                    f"matrix (relative error {theirs:.2f})."
                )
            plain = rounded(weight, self.scheme).dequantise(torch.float32)
            totals["peer"] += theirs**2
            totals["rtn"] += likeness.error(weight, plain, scaled=scaled) ** 2
        return {who: (sum_ / len(answer.quantized)) ** 0.5 for who, sum_ in totals.items()}
