"""One view of every model: blocks, experts as slices, edits applied as they come."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from harness.errors import Refused, StaleWalk
from harness.model.families import Family, Layer, family_of
from harness.model.matrices import (
    PARTS,
    Matrix,
    Part,
    Slot,
    expert_numbers,
    find,
    matrices,
    row_numbers,
)
from harness.model.router import MaskedRouter
from harness.model.shell import align, assemble, shell

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from harness.edits import Edit


class Block:
    """One block of a model, read-only. Its number is the base model's and never shifts."""

    def __init__(self, model: MoEModel, index: int, layer: nn.Module | None = None) -> None:
        self.model = model
        self.index = index
        self._pinned = layer

    @property
    def layer(self) -> Layer:
        """The transformers decoder layer as it is now."""
        return self.model.layer(self.index) if self._pinned is None else self._pinned

    @property
    def experts(self) -> tuple[int, ...]:
        """Base numbers of the experts left; () where the block is dense or its MoE is dropped."""
        return expert_numbers(self.layer.mlp)

    @property
    def top_k(self) -> int:
        """Experts chosen per token; 0 where there are none."""
        return int(self.layer.mlp.gate.top_k) if self.experts else 0

    @property
    def rows(self) -> tuple[int, ...]:
        """For each row of the router the base number of the expert it leads to, -1 for none."""
        return row_numbers(self.layer.mlp)

    @property
    def beta(self) -> float | None:
        """Chosen experts with less than `beta` times the largest weight are skipped."""
        beta: float | None = getattr(getattr(self.layer.mlp, "experts", None), "beta", None)
        return beta

    @property
    def plain_routing(self) -> bool:
        """One router row per expert left, none masked, none skipped."""
        gate = getattr(self.layer.mlp, "gate", None)
        masked = isinstance(gate, MaskedRouter) and not bool(gate.kept.all())
        return self.rows == self.experts and self.beta is None and not masked

    def matrices(self, *parts: Part) -> tuple[Matrix, ...]:
        """The 2-D weights of these parts (default: all), gate, up and down apart."""
        wanted = parts or PARTS
        found = matrices(self.layer, self.model.family)
        return tuple(matrix for matrix in found if matrix.part in wanted)

    def weight(self, matrix: Matrix | str) -> Tensor:
        """The weight, [outputs, inputs] (norms: [hidden]), read-only.

        Raises:
            Refused: the block has no such weight.
        """
        name = matrix if isinstance(matrix, str) else matrix.name
        return self._slot(name).read()

    def has(self, name: str) -> bool:
        """Whether the block has a weight of this name."""
        return find(self.layer, self.model.family, name) is not None

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
    """

    def __init__(
        self,
        lm: PreTrainedModel,
        *,
        ref: str,
        sha256: str,
        tokenizer_source: str | Path | None = None,
    ) -> None:
        self.ref = ref
        self.sha256 = sha256
        self.config = lm.config
        self.family: Family = family_of(lm.config, where=ref)
        self.edits: tuple[Edit, ...] = ()
        self.experts = int(getattr(lm.config, "num_experts", 0) or 0)
        self._tokenizer_source = tokenizer_source
        self._tokenizer: PreTrainedTokenizerBase | None = None
        lm.train(False)
        self._layers: dict[int, nn.Module] = dict(enumerate(lm.model.layers))
        self._keys = {index: f"{sha256}/{index}" for index in self._layers}
        self._step = ""
        self._passed: list[set[int]] = []
        lm.model.layers = nn.ModuleList()
        self.frame = lm
        self.settle()
        self._assembled: PreTrainedModel | None = None

    @property
    def numbers(self) -> tuple[int, ...]:
        """Base numbers of the blocks left, in order."""
        return tuple(self._layers)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks left, in order."""
        return tuple(Block(self, index) for index in self._layers)

    def moe_blocks(self) -> tuple[Block, ...]:
        """The blocks that have experts.

        Raises:
            Refused: there are none: a dense model, or every MoE layer is dropped.
        """
        found = tuple(block for block in self.blocks if block.experts)
        if not found:
            raise Refused(f"{self.ref} has no experts: it is dense, or its MoE layers are gone.")
        return found

    @property
    def base_blocks(self) -> int:
        """Blocks of the base model."""
        return int(self.config.num_hidden_layers)

    @property
    def lm(self) -> PreTrainedModel:
        """A runnable transformers model with all edits applied; shares tensors with this view."""
        if self._assembled is None:
            self._assembled = assemble(self.frame, self._layers)
        return self._assembled

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, loaded when first asked for.

        Raises:
            UserError: the model came without one, or it cannot be read.
        """
        if self._tokenizer is None:
            from harness.model.source import load_tokenizer

            self._tokenizer = load_tokenizer(self._tokenizer_source, self.ref)
        return self._tokenizer

    @property
    def has_tokenizer(self) -> bool:
        """Whether the model came with a tokenizer's files."""
        return self._tokenizer_source is not None

    @property
    def device(self) -> torch.device:
        """Where the parameters are ("meta" in a dry run)."""
        return next(self.frame.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters."""
        return next(self.frame.parameters()).dtype

    def layer(self, index: int) -> Layer:
        """The decoder layer of a block that is left."""
        if index not in self._layers:
            raise Refused(f"block {index} is not in the model; it has {list(self._layers)}.")
        return self._layers[index]

    def key(self, index: int) -> str:
        """Provenance of a block: base, and the steps and edits that led to it."""
        return self._keys[index]

    def begin(self, step: str) -> None:
        """Name the step whose edits follow; part of the provenance of what they change."""
        self._step = step

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
        changed = edit.apply(shell(self.layer(edit.block)), self.family)
        if changed is None:
            if len(self._layers) == 1:
                raise Refused("no block would be left; drop fewer blocks.")
            del self._layers[edit.block], self._keys[edit.block]
        else:
            self._layers[edit.block] = changed
            self._keys[edit.block] = self._provenance(edit)
        self.edits = (*self.edits, edit.light())
        self._assembled = None

    def snapshot(self) -> dict[int, tuple[nn.Module, str]]:
        """The layers and their provenance as they are now; edits to come will not touch them."""
        return {index: (layer, self._keys[index]) for index, layer in self._layers.items()}

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

    def settle(self) -> None:
        """After loading: no parameter is trained, all are aligned in memory."""
        for module in (self.frame, *self._layers.values()):
            module.requires_grad_(False)
            align(module)

    def describe(self) -> dict[str, Any]:
        """Blocks and experts left, as plain data."""
        return {
            "blocks": len(self._layers),
            "experts": {block.index: len(block.experts) for block in self.blocks},
        }
