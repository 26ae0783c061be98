"""The part of a block that gives numbers that are not finite, found once something did."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from harness.model.finite import is_finite

PARTS = {
    "input_layernorm": "attention norm",
    "self_attn": "attention",
    "post_attention_layernorm": "MLP norm",
    "mlp.gate": "router",
    "mlp.experts": "experts",
    "mlp.shared": "shared experts",
    "mlp": "MLP",
}
"""A block's parts by how the names of their modules begin; the first that fits is meant."""


def overflowing(layer: nn.Module, hidden: Tensor, arguments: dict[str, Any]) -> str:
    """Run a block again and name what first gives something that is not finite.

    Args:
        layer: A decoder layer.
        hidden: What enters it, [sequences, length, hidden], finite.
        arguments: As it was run with.
    """
    first: list[str] = []
    with _listening(layer, first):
        layer(hidden, **arguments)
    inner = first[0] if first else ""
    return next((part for start, part in PARTS.items() if inner.startswith(start)), "residual sum")


@contextlib.contextmanager
def _listening(layer: nn.Module, first: list[str]) -> Iterator[None]:
    """Note the names of modules that give something that is not finite, in order."""

    def listen(name: str) -> Any:
        def hook(_: nn.Module, __: Any, out: Any) -> None:
            outputs = out if isinstance(out, tuple) else (out,)
            if not all(is_finite(one) for one in outputs if isinstance(one, Tensor)):
                first.append(name)

        return hook

    handles = [
        module.register_forward_hook(listen(name)) for name, module in layer.named_modules() if name
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
