"""The model's loss without each expert of a block, from one pass over the block.

The states that enter the block and its experts' outputs are computed once per batch; only the
blocks after it run once per expert. Without expert j a token chooses what is left of its k experts
and, where j was among them, the next in router order: k + 1 outputs per token serve every j.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from torch import Tensor

from harness.calibration.observe import Seen
from harness.calibration.states import digest, run
from harness.calibration.statistic import Statistic
from harness.calibration.walk import LiveBlock, summed_loss
from harness.model.edits import Edit, KeepExperts, SetWeights
from harness.model.layers.experts import NOWHERE
from harness.model.layers.router import MaskedRouter
from harness.model.view import Block


class LeaveOneOut(Statistic):
    """Token losses of the whole model with one expert of this block removed.

    `sums` is fp64 [base experts]: the cross-entropy in nats, summed over all predicted tokens, with
    that expert and its router row cut (`KeepExperts`, "rows"; in a block whose router masks or
    leads to removed experts, as those were removed; masked where the router is group-limited, which
    cannot lose a single row); with nothing in its place where it is the block's only one. `base` is
    fp64 [batches]: with all experts.

    The states of one batch are held for all experts at once, so that they take turns in each block
    that follows. Where experts were merged, are masked or skipped, or the router is group-limited,
    the block itself runs once per expert too: slower, and as exact.

    Args:
        block: The block, as the walk gives it.
        base: What another block of the same model measured; None measures it here.
    """

    aside: ClassVar[tuple[str, ...]] = ("_block", "_after", "_given")

    def __init__(self, block: LiveBlock, base: Tensor | None = None) -> None:
        model = block.model
        self._block = block
        self._after = [index for index in model.numbers if index > block.index]
        self._given = None if base is None else base.tolist()
        self.after = digest(*(model.key(index) for index in self._after))
        self.measures_base = base is None

    def start(self, block: Block) -> None:
        """Zero losses."""
        batches = len(self._block.inputs.trace.batches)
        self.sums = torch.zeros(block.model.experts, dtype=torch.float64)  # [base experts]
        self.base = torch.tensor(self._given or [0.0] * batches, dtype=torch.float64)  # [batches]

    def update(self, seen: Seen) -> None:
        """Add one batch."""
        if self.measures_base:
            self.base[seen.batch] = self._losses(seen.batch, [self._whole(seen, seen.output)])[0]
        experts: list[int] = []
        states: list[Tensor] = []
        plain = self._block.plain_routing and self._block.grouping is None
        for expert, output in self._rerouted(seen) if plain else self._edited(seen.batch):
            experts.append(expert)
            states.append(output)
        base = self.base[seen.batch]
        self.sums[list(self._block.experts)] += base
        self.sums[experts] += self._losses(seen.batch, states) - base

    def _rerouted(self, seen: Seen) -> Iterator[tuple[int, Tensor]]:
        """Outputs of the block without each expert; without those whose absence changes nothing.

        In families that do not renormalise, the softmax over the experts left changes every token.
        """
        places, renormalises = seen.places, self._block.model.family.renormalises
        everywhere = not renormalises(self._block.model.config)
        ranked = _ranked(seen)  # [tokens, k or k + 1]
        outputs = _outputs(seen, ranked)  # [tokens, k or k + 1, hidden]
        routed = _summed(seen.weights.float(), outputs[:, : places.shape[1]])  # [tokens, hidden]
        for place, expert in enumerate(self._block.experts):
            hit = (places == place).any(-1)  # [tokens]
            rows = torch.ones_like(hit) if everywhere else hit
            if not bool(rows.any()):
                continue
            weights = self._weights(seen.logits[rows], ranked[rows], place, hit[rows])
            y = seen.y[rows].float() - routed[rows] + _summed(weights, outputs[rows])
            output = seen.output.clone()
            output[rows] = seen.residual[rows] + y.to(output.dtype)
            yield expert, self._whole(seen, output)

    def _weights(self, logits: Tensor, ranked: Tensor, place: int, hit: Tensor) -> Tensor:
        """Coefficients of the ranked experts without the one at `place`, fp32, as `ranked`."""
        family, config = self._block.model.family, self._block.model.config
        gone = torch.arange(logits.shape[1], device=logits.device) == place
        probs = logits.float().masked_fill(gone, float("-inf")).softmax(-1)  # [tokens, experts]
        taken = ranked != place  # [tokens, k or k + 1]
        if ranked.shape[1] > self._block.top_k:
            taken[:, -1] = hit
        weights = torch.where(taken, probs.gather(1, ranked), 0)
        if family.renormalises(config):  # an only expert leaves a sum of zero
            weights = weights / weights.sum(-1, keepdim=True).clamp_min(1e-30)
        return weights * family.routing_scale(config)

    def _edited(self, batch: int) -> Iterator[tuple[int, Tensor]]:
        """Outputs of the block without each expert, by running it so."""
        inputs = self._block.inputs
        for expert in self._block.experts:
            layer = self._block.edited(self._removal(expert))
            if layer is not None:
                arguments = inputs.trace.arguments(batch, self._block.index)
                yield expert, run(layer, inputs.batches[batch], arguments, self._block.index)

    def _removal(self, expert: int) -> Edit:
        block = self._block
        others = tuple(other for other in block.experts if other != expert)
        if others:
            return KeepExperts(block=block.index, experts=others, router=self._router())
        last = [m for m in block.matrices("experts") if m.name.startswith(f"experts.{expert}.down")]
        return SetWeights.of(block.index, {m.name: torch.zeros_like(block.weight(m)) for m in last})

    def _router(self) -> Literal["rows", "mask", "preserve"]:
        limited = self._block.grouping is not None
        if limited or isinstance(self._block.layer.mlp.gate, MaskedRouter):
            return "mask"
        return "preserve" if NOWHERE in self._block.rows else "rows"

    def _whole(self, seen: Seen, rows: Tensor) -> Tensor:
        """States [sequences, length, hidden] of valid tokens' rows; nothing reads the padding's."""
        trace = self._block.inputs.trace
        valid = trace.valid(seen.batch)
        shape = trace.batches[seen.batch]["input_ids"].shape
        if valid is None:
            return rows.view(*shape, -1)
        states = rows.new_zeros(*shape, rows.shape[-1])
        states[valid.to(rows.device)] = rows
        return states

    def _losses(self, batch: int, states: list[Tensor]) -> Tensor:
        """Summed losses of states that leave the block, fp64 [candidates]; uses them up."""
        trace, model = self._block.inputs.trace, self._block.model
        for index in self._after:
            layer, arguments = model.layer(index), trace.arguments(batch, index)
            for place, hidden in enumerate(states):
                states[place] = run(layer, hidden, arguments, index)
        labels = trace.batches[batch]["labels"]
        losses = [summed_loss(trace.logits(batch, hidden), labels) for hidden in states]
        return torch.tensor(losses, dtype=torch.float64)


def _ranked(seen: Seen) -> Tensor:
    """Places of each token's experts and, where there is one, of the next in router order."""
    rest = seen.logits.float().scatter(1, seen.places, float("-inf"))  # [tokens, experts]
    if seen.places.shape[1] == rest.shape[1]:
        return seen.places
    return torch.cat([seen.places, rest.argmax(-1, keepdim=True)], dim=1)


def _outputs(seen: Seen, ranked: Tensor) -> Tensor:
    """f_e(x) of each token's ranked experts, fp32 [tokens, ranked, hidden]."""
    outputs = seen.x.new_empty(*ranked.shape, seen.x.shape[-1], dtype=torch.float32)
    for place, expert in enumerate(seen.block.experts):
        token, rank = torch.where(ranked == place)
        if len(token):
            outputs[token, rank] = seen.expert(expert, seen.x[token]).float()
    return outputs


def _summed(weights: Tensor, outputs: Tensor) -> Tensor:
    """Weighted sum of outputs, [tokens, hidden]."""
    return (weights.unsqueeze(1) @ outputs).squeeze(1)
