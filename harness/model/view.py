"""One view of every model: blocks, experts as slices, edits applied as they come."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from harness.errors import Refused, StaleWalk
from harness.model.editing.matrices import (
    PARTS,
    Matrix,
    Part,
    Slot,
    expert_numbers,
    find,
    matrices,
    row_numbers,
)
from harness.model.families.family import Family, Layer, family_of
from harness.model.families.switches import as_stated
from harness.model.layers.grouped import choose_experts
from harness.model.layers.router import MaskedRouter
from harness.model.quantized.scheme import Quantized, Scheme
from harness.model.shell import assemble, settle
from harness.model.stored import Files, Stored
from harness.model.versions import Held, Shelf, Streamed, Version

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from harness.model.edits import Edit


class Block:
    """One block of a model, read-only. Its number is the base model's and never shifts."""

    def __init__(self, model: MoEModel, index: int, version: Version | None = None) -> None:
        self.model = model
        self.index = index
        self._pinned = version

    @property
    def version(self) -> Version:
        """The block as it is now."""
        return self.model.version(self.index) if self._pinned is None else self._pinned

    @property
    def layer(self) -> Layer:
        """The transformers decoder layer as it is now, loaded if the model is streamed."""
        return self.version.load()

    @property
    def _structure(self) -> Layer:
        """The layer, or its twin on the meta device if the model is streamed."""
        return self.version.structure

    @property
    def experts(self) -> tuple[int, ...]:
        """Base numbers of the experts left; () where the block is dense or its MoE is dropped."""
        return expert_numbers(self._structure.mlp)

    @property
    def top_k(self) -> int:
        """Experts chosen per token; 0 where there are none."""
        return int(self._structure.mlp.gate.top_k) if self.experts else 0

    @property
    def rows(self) -> tuple[int, ...]:
        """For each row of the router the base number of the expert it leads to, -1 for none."""
        return row_numbers(self._structure.mlp)

    @property
    def beta(self) -> float | None:
        """Chosen experts with less than `beta` times the largest weight are skipped."""
        experts = getattr(self._structure.mlp, "experts", None)
        beta: float | None = getattr(experts, "beta", None)
        return beta

    @property
    def plain_routing(self) -> bool:
        """One router row per expert left, none masked, none skipped."""
        gate = getattr(self._structure.mlp, "gate", None)
        masked = isinstance(gate, MaskedRouter) and not bool(gate.kept.all())
        return self.rows == self.experts and self.beta is None and not masked

    def matrices(self, *parts: Part) -> tuple[Matrix, ...]:
        """The 2-D weights of these parts (default: all), gate, up and down apart."""
        wanted = parts or PARTS
        every = matrices(self._structure, self.model.family)
        return tuple(matrix for matrix in every if matrix.part in wanted)

    def weight(self, matrix: Matrix | str) -> Tensor:
        """The weight, [outputs, inputs] (norms: [hidden]), read-only; dequantised if it is packed.

        Raises:
            Refused: the block has no such weight.
        """
        name = matrix if isinstance(matrix, str) else matrix.name
        return self._slot(name).read()

    def packed_scheme(self, matrix: Matrix | str) -> Scheme | None:
        """The scheme in which the weight is packed; None if it is dense."""
        name = matrix if isinstance(matrix, str) else matrix.name
        slot = find(self._structure, self.model.family, name)
        return slot.packed.scheme if slot is not None and slot.packed is not None else None

    def quantized(self, matrix: Matrix | str) -> Quantized | None:
        """The weight as codes on a grid, if it is packed; None if it is dense.

        Raises:
            Refused: the block has no such weight.
        """
        return self._slot(matrix if isinstance(matrix, str) else matrix.name).quantized()

    def has(self, name: str) -> bool:
        """True if the block has a weight of this name."""
        return find(self._structure, self.model.family, name) is not None

    def module(self, matrix: Matrix) -> nn.Module:
        """The transformers module that holds the weight."""
        return self._slot(matrix.name).module

    def _slot(self, name: str) -> Slot:
        slot = find(self.layer, self.model.family, name)
        if slot is None:
            raise Refused(f"block {self.index} has no weight {name!r}.")
        return slot


class MoEModel:
    """A model that methods read and the harness edits. The base's tensors are never written.

    Args:
        lm: A transformers model, taken over: its decoder layers move into this view.
        ref: What the user asked for: a reference name, a hub id or a path.
        sha256: Identity of the base's weights and configuration.
        tokenizer_source: Folder or hub id of the tokenizer; None for a model without one.
        check: Called before and after the tokenizer is read, which may be long after the weights;
            raises where its files have changed.
        home: Folder with the files that came with the model; None for one that was not read.
        stated: Fields of the configuration that are switched off here, as their owner wrote them.
    """

    def __init__(
        self,
        lm: PreTrainedModel,
        *,
        ref: str,
        sha256: str,
        tokenizer_source: str | Path | None = None,
        check: Callable[[], None] = lambda: None,
        home: Path | None = None,
        stated: Mapping[str, Any] | None = None,
    ) -> None:
        self.ref = ref
        self.sha256 = sha256
        self.config = lm.config
        self.family: Family = family_of(lm.config, where=ref)
        self.edits: tuple[Edit, ...] = ()
        self.experts = int(getattr(lm.config, "num_experts", 0) or 0)
        self._tokenizer_source = tokenizer_source
        self._check = check
        self._experts_asked = getattr(lm.config, "_experts_implementation", None)
        self.home = home
        self._stated = dict(stated or {})
        self._tokenizer: PreTrainedTokenizerBase | None = None
        lm.train(False)
        self._versions: dict[int, Version] = {
            index: Held(layer) for index, layer in enumerate(lm.model.layers)
        }
        self._keys = {index: f"{sha256}/{index}" for index in self._versions}
        self._shelf: Shelf | None = None
        self._step = ""
        self._passed: list[set[int]] = []
        lm.model.layers = nn.ModuleList()
        self.frame = lm
        self.settle()
        self._assembled: PreTrainedModel | None = None

    @property
    def stated_config(self) -> Any:
        """A copy of the configuration, to be written: with what its owner said of training."""
        return as_stated(self.config, self._stated)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Base numbers of the blocks left, in order."""
        return tuple(self._versions)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks left, in order."""
        return tuple(Block(self, index) for index in self._versions)

    def moe_blocks(self) -> tuple[Block, ...]:
        """The blocks that have experts.

        Raises:
            Refused: there are none: a dense model, or every MoE layer is dropped.
        """
        blocks = tuple(block for block in self.blocks if block.experts)
        if not blocks:
            raise Refused(f"{self.ref} has no experts: it is dense, or its MoE layers are gone.")
        return blocks

    @property
    def base_blocks(self) -> int:
        """Blocks of the base model."""
        return int(self.config.num_hidden_layers)

    @property
    def lm(self) -> PreTrainedModel:
        """A runnable transformers model with all edits applied; shares tensors with this view.

        Raises:
            Refused: the model is streamed.
        """
        if self.streamed:
            raise Refused(f"{self.ref} is streamed and never whole in memory; open it as a whole.")
        if self._assembled is None:
            layers = {index: version.load() for index, version in self._versions.items()}
            self._assembled = assemble(self.frame, layers)
        return self._assembled

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, loaded when first asked for.

        Raises:
            UserError: the model came without one, it cannot be read, its files have changed since
                the model was opened, or it gives ids that the model does not embed.
        """
        if self._tokenizer is None:
            from harness.model.tokenizer import check_fits, load_tokenizer

            self._check()
            tokenizer = load_tokenizer(self._tokenizer_source, self.ref)
            self._check()
            check_fits(tokenizer, self.config.vocab_size, self.ref)
            self._tokenizer = tokenizer
        return self._tokenizer

    def check_unchanged(self) -> None:
        """Raise a UserError if the files that the model was opened from have changed since."""
        self._check()

    @property
    def has_tokenizer(self) -> bool:
        """True if the model came with a tokenizer's files."""
        return self._tokenizer_source is not None

    @property
    def device(self) -> torch.device:
        """The device of the parameters ("meta" in a dry run)."""
        return next(self.frame.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the parameters."""
        return next(self.frame.parameters()).dtype

    @property
    def streamed(self) -> bool:
        """True if blocks are in memory only while they are used."""
        return self._shelf is not None

    def stream(self, files: Files, prefix: str) -> None:
        """From now on read the blocks, which are on the meta device, from files when asked for.

        Args:
            files: Hold the tensors of all blocks left.
            prefix: What comes before a block's number in their names.
        """
        self._shelf = Shelf()
        for index, version in self._versions.items():
            stored = Stored(version.structure, files, f"{prefix}{index}.")
            self._versions[index] = Streamed(version.structure, self._shelf, stored)

    def hold(self, blocks: int) -> None:
        """Keep so many blocks in memory, if the model is streamed and keeps fewer."""
        if self._shelf is not None:
            self._shelf.room = max(self._shelf.room, blocks)

    def version(self, index: int) -> Version:
        """A block that is left, as it is now; edits to come will not touch it."""
        if index not in self._versions:
            raise Refused(f"block {index} is not in the model; it has {list(self._versions)}.")
        return self._versions[index]

    def layer(self, index: int) -> Layer:
        """The decoder layer of a block that is left, loaded if the model is streamed."""
        return self.version(index).load()

    def key(self, index: int) -> str:
        """Provenance of a block: base, and the steps and edits that led to it."""
        return self._keys[index]

    def begin(self, step: str) -> None:
        """Name the step whose edits follow; part of the provenance of what they change."""
        self._step = step

    def identify(self, sha256: str) -> None:
        """From now on the blocks' provenance is a hash of files, not the edits made so far.

        What edits say is not all that a reloaded artifact is: two with the same edits may have been
        given other values.
        """
        self._keys = {index: f"{sha256}/{index}" for index in self._versions}

    def apply(self, edit: Edit) -> None:
        """Apply one edit.

        Raises:
            Refused: the edit does not fit, or would leave no block.
            StaleWalk: a live walk has already passed the block.
        """
        if any(edit.block in passed for passed in self._passed):
            raise StaleWalk(
                f"{edit.kind} changes block {edit.block}, which a live walk has passed: "
                "the states it has computed since would be stale."
            )
        changed = self.version(edit.block).edited(edit, self.family)
        if changed is None:
            if len(self._versions) == 1:
                raise Refused("no block would be left; drop fewer blocks.")
            del self._versions[edit.block], self._keys[edit.block]
        else:
            if edit.tensors:
                changed.load()  # the edit's tensors leave memory when the block does
            self._versions[edit.block] = changed
            self._keys[edit.block] = self._provenance(edit)
        self.edits = (*self.edits, edit.light())
        self._assembled = None

    def snapshot(self) -> dict[int, tuple[Version, str]]:
        """The blocks and their provenance as they are now; edits to come will not touch them."""
        return {index: (version, self._keys[index]) for index, version in self._versions.items()}

    @contextmanager
    def walking(self) -> Iterator[set[int]]:
        """Register a walk; it adds the blocks it has passed to the set."""
        passed: set[int] = set()
        self._passed.append(passed)
        try:
            yield passed
        finally:
            self._passed = [other for other in self._passed if other is not passed]

    def _provenance(self, edit: Edit) -> str:
        # Tensors are not part of an edit: within a step they follow from the step; an edit made
        # by hand has no step, so what it leads to must never be found in a cache again.
        origin = self._step or (uuid.uuid4().hex if edit.tensors else "")
        text = json.dumps([self._keys[edit.block], origin, edit.data()])
        return hashlib.sha256(text.encode()).hexdigest()

    def refresh(self) -> None:
        """Forget the assembled model, after tensors were given to blocks from outside."""
        self._assembled = None

    def settle(self) -> None:
        """After loading: nothing is trained, all is aligned in memory, and experts can run."""
        for module in (self.frame, *(version.structure for version in self._versions.values())):
            settle(module)
        choose_experts(self.config, self._experts_asked, self.dtype)

    def describe(self) -> dict[str, Any]:
        """Blocks and experts left, as plain data."""
        return {
            "blocks": len(self._versions),
            "experts": {block.index: len(block.experts) for block in self.blocks},
        }
