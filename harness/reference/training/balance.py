"""RoutingWatch as training watches it in the routed blocks: balance per layer and loud tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LOUD = 3.0  # multiples of the median output norm from which a token counts as loud


class RoutingWatch:
    """Hooks every router and every routed block of a model; read it after each forward."""

    def __init__(self, model: nn.Module, top_k: int) -> None:
        self.top_k = top_k
        self._logits: list[Tensor] = []
        self._norms: list[Tensor] = []
        for module in list(model.modules()):
            if type(module).__name__.endswith("Router"):
                module.register_forward_hook(self._routed)
            if hasattr(module, "experts"):
                module.register_forward_hook(self._output)

    def _routed(self, _module: nn.Module, _args: Any, output: Any) -> None:
        self._logits.append(output[0])

    def _output(self, _module: nn.Module, _args: Any, output: Tensor) -> None:
        self._norms.append(output.norm(dim=-1))

    def balance(self) -> Tensor:
        """The usual load-balancing loss, for each layer by itself, averaged; 1 is balanced."""
        losses = []
        for logits in self._logits:
            shares = logits.float().softmax(-1)
            chosen = torch.zeros_like(shares).scatter_(1, shares.topk(self.top_k).indices, 1.0)
            load = chosen.mean(0) / self.top_k
            losses.append(shares.size(-1) * (load * shares.mean(0)).sum())
        return torch.stack(losses).mean()

    def domains(self, foreign: Tensor, reserved: int) -> Tensor:
        """A loss for `foreign` tokens outside the last `reserved` experts, for others in them."""
        losses = []
        for logits in self._logits:
            inside = logits.float().softmax(-1)[:, -reserved:].sum(-1).clamp(1e-6, 1 - 1e-6)
            losses.append(-torch.where(foreign, inside.log(), (1 - inside).log()).mean())
        return torch.stack(losses).mean()

    def loudness(self) -> Tensor:
        """Penalty on tokens whose block output is far louder than the median's."""
        losses = []
        for norms in self._norms:
            ratio = norms / (norms.median().detach() + 1e-6)
            losses.append(F.relu(ratio - _LOUD).square().mean())
        return torch.stack(losses).mean()

    def loudest(self) -> float:
        """The largest ratio of a token's output norm to the median, over all layers."""
        return max(float(n.max() / n.median()) for n in self._norms)

    @property
    def experts(self) -> int:
        """Routed experts in a block."""
        return self._logits[0].size(-1)

    def clear(self) -> None:
        """Forget the last forward."""
        self._logits.clear()
        self._norms.clear()
