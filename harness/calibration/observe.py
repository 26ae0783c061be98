"""A calibration batch in one block: its tokens, their routing, the inputs of every matrix."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.calibration.states import Arguments, run
from harness.errors import Refused
from harness.model.editing.matrices import Matrix
from harness.model.layers.experts import NOWHERE, Experts
from harness.model.layers.packed import PackedLinear
from harness.model.view import Block


class Seen:
    """One batch in one block: valid tokens only, the model's dtype, flattened to [tokens, ...].

    Attributes:
        batch: Number of the calibration batch.
        block: The block as it was run.
        base_experts: Experts of the base model, the width of `probs`.
    """

    def __init__(
        self, block: Block, batch: int, captured: dict[Any, Tensor], valid: Tensor | None
    ) -> None:
        self.block = block
        self.batch = batch
        self.base_experts = block.model.experts
        self._captured = captured
        self._valid = None if valid is None else valid.reshape(-1)

    @cached_property
    def hidden(self) -> Tensor:
        """[tokens, hidden] entering the block."""
        return self._flat("hidden")

    @cached_property
    def residual(self) -> Tensor:
        """[tokens, hidden] entering the norm of the MLP."""
        return self._flat("residual")

    @cached_property
    def x(self) -> Tensor:
        """[tokens, hidden] entering the MoE layer (or dense MLP)."""
        return self._flat("x")

    @cached_property
    def y(self) -> Tensor:
        """[tokens, hidden] leaving the MoE layer (or dense MLP), shared experts included."""
        return self._flat("y")

    @cached_property
    def output(self) -> Tensor:
        """[tokens, hidden] leaving the block."""
        return self._flat("output")

    @cached_property
    def logits(self) -> Tensor:
        """[tokens, router rows]: the router's rows as they are."""
        return self._flat("logits")

    @cached_property
    def probs(self) -> Tensor:
        """fp32 [tokens, base experts]: softmax over the router's rows, by expert.

        0 where an expert is gone, summed where experts were merged.
        """
        soft = self.logits.float().softmax(-1)
        wide = soft.new_zeros(len(soft), self.base_experts)
        rows = self._rows
        return wide.index_add_(1, rows[rows >= 0], soft[:, rows >= 0])

    @cached_property
    def places(self) -> Tensor:
        """int64 [tokens, top-k]: the router's rows chosen."""
        return self._flat("index")

    @cached_property
    def coefficients(self) -> Tensor:
        """[tokens, top-k]: the weights as the router gives them, before anything is skipped."""
        return self._flat("weights")

    @property
    def index(self) -> Tensor:
        """int64 [tokens, top-k]: base numbers of the experts computed.

        -1 where a choice leads to no expert or is skipped.
        """
        return self._computed[0]

    @property
    def weights(self) -> Tensor:
        """[tokens, top-k]: the coefficients of the expert outputs, 0 where none is computed."""
        return self._computed[1]

    @cached_property
    def _computed(self) -> tuple[Tensor, Tensor]:
        weights = self.coefficients
        numbers = self._rows[self.places]
        experts = self.block.layer.mlp.experts
        if not isinstance(experts, Experts):
            return numbers, weights
        computed, weights = experts.choose(self.places, weights)
        return numbers.masked_fill(~computed, NOWHERE), weights

    @cached_property
    def _rows(self) -> Tensor:
        return torch.tensor(self.block.rows, device=self.logits.device)  # [router rows]

    def routed(self, expert: int) -> Tensor:
        """The tokens that were routed to this expert, bool [tokens]."""
        return (self.index == expert).any(-1)

    def expert(self, expert: int, x: Tensor) -> Tensor:
        """f_e(x), [tokens, hidden], without routing weight; `expert` is a base number."""
        return self._linear(f"experts.{expert}.down", self._gated(expert, x))

    def inputs(self, matrix: Matrix) -> Tensor:
        """[tokens, inputs] this matrix multiplied; for an expert's, of the tokens routed to it."""
        if matrix.expert is None:
            return self._flat(matrix.name) if matrix.name != "router" else self.x
        x = self.x[self.routed(matrix.expert)]
        _, _, role, *factor = matrix.name.split(".")
        fed = self._gated(matrix.expert, x) if role == "down" else x
        if factor == ["u"]:
            return F.linear(fed, self.block.weight(f"experts.{matrix.expert}.{role}.v"))
        return fed

    def _gated(self, expert: int, x: Tensor) -> Tensor:
        gate = self._linear(f"experts.{expert}.gate", x)
        up = self._linear(f"experts.{expert}.up", x)
        activated: Tensor = self.block.layer.mlp.experts.act_fn(gate)
        return activated * up

    def _linear(self, name: str, x: Tensor) -> Tensor:
        if self.block.has(name):
            return F.linear(x, self.block.weight(name))
        inner = F.linear(x, self.block.weight(f"{name}.v"))
        return F.linear(inner, self.block.weight(f"{name}.u"))

    def _flat(self, name: str) -> Tensor:
        if name not in self._captured:
            raise Refused(f"block {self.block.index} has no {name} to observe: it is dense.")
        tensor = self._captured[name]
        flat = tensor.reshape(-1, tensor.shape[-1])
        return flat if self._valid is None else flat[self._valid.to(flat.device)]


def observe(
    block: Block, batch: int, hidden: Tensor, arguments: Arguments, valid: Tensor | None
) -> tuple[Tensor, Seen]:
    """Run a block on one batch and keep what its parts saw.

    Returns:
        The block's output [sequences, length, hidden], and what was seen.
    """
    captured: dict[Any, Tensor] = {"hidden": hidden}
    with _hooks(block, captured):
        output = run(block.layer, hidden, arguments, block.index)
    captured["output"] = output
    return output, Seen(block, batch, captured, valid)


@contextmanager
def _hooks(block: Block, captured: dict[Any, Tensor]) -> Iterator[None]:
    layer = block.layer
    mlp = layer.mlp

    def residual(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        captured["residual"] = args[0]

    def sublayer(_: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        captured["x"], captured["y"] = args[0], out

    def router(_: nn.Module, args: tuple[Tensor, ...], out: tuple[Tensor, ...]) -> None:
        captured["logits"], captured["weights"], captured["index"] = out

    handles = [
        layer.post_attention_layernorm.register_forward_pre_hook(residual),
        mlp.register_forward_hook(sublayer),
    ]
    if block.experts:
        handles.append(mlp.gate.register_forward_hook(router))
    for matrix in block.matrices("attention", "shared", "dense", "router"):
        module = block.module(matrix)
        if isinstance(module, nn.Linear | PackedLinear):
            handles.append(module.register_forward_pre_hook(_keep_input(captured, matrix.name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _keep_input(captured: dict[Any, Tensor], name: str) -> Any:
    def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        captured[name] = args[0]

    return hook
