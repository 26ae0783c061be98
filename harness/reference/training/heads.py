"""A head start: two heads begin as the pair that copies, and blocks begin silent.

Copying needs a head that sees the previous token and one in a later block that uses it; left to
chance the two wait for each other, and many runs never learn to copy. So the first head of block 0
starts by looking at the previous token, and the first head of block 1 by looking for what followed
the current token before. Everything stays trainable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_SPREAD = 0.12  # standard deviation of the embedding
_CONSTANT = 0.4  # first entry of every embedding: the direction that finds neighbours
_PAIRS = 4  # rotary pairs in use, from the fastest
_NEAR, _ALIKE = 60.0, 24.0  # attention scores of the previous token, and of a match
_CARRY, _COPY = 0.25, 0.6  # how loudly the two heads write


@torch.no_grad()
def head_start(model: nn.Module) -> None:
    """Give a fresh model its two copying heads, silence in the rest, and a wider embedding."""
    for name, parameter in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj", "down_proj.weight")):
            parameter.zero_()
    embedding: Tensor = model.get_input_embeddings().weight  # type: ignore[operator]
    embedding.normal_(std=_SPREAD)
    embedding[:, 0] = _CONSTANT
    size = float(_CONSTANT / embedding.square().mean(-1).sqrt().mean())
    first, second = (_Head.of(model, layer) for layer in (0, 1))
    token, carried, value = (_rows(first.value_dim, embedding.size(1)) for _ in range(3))
    first.look_back(model.config, size)
    first.write(token, _CARRY * carried)
    second.match(token, carried)
    second.write(value, _COPY * value)


@dataclass
class _Head:
    """The first head of a block's attention, whatever the architecture calls its parts."""

    attention: Any
    apart: int
    rotary: int
    value_dim: int

    @classmethod
    def of(cls, model: Any, layer: int) -> _Head:
        config = model.config
        apart = getattr(config, "qk_nope_head_dim", 0)
        width = config.hidden_size // config.num_attention_heads
        rotary = config.qk_rope_head_dim if apart else getattr(config, "head_dim", width)
        value = config.v_head_dim if apart else rotary
        return cls(model.model.layers[layer].self_attn, apart, rotary, value)

    def look_back(self, config: Any, size: float) -> None:
        """Attend one position back, through the embedding's constant entry."""
        theta = config.rope_parameters["rope_theta"]
        query, key = _neighbours(self.rotary, theta, interleaved=bool(self.apart))
        scale = (_NEAR * (self.apart + self.rotary) ** 0.5) ** 0.5 / size
        end = self.apart + self.rotary
        self.attention.q_proj.weight[self.apart : end, 0] = query * scale
        if self.apart:
            self.attention.kv_a_proj_with_mqa.weight[-self.rotary :, 0] = key * scale
        else:
            self.attention.k_proj.weight[: self.rotary, 0] = key * scale

    def match(self, token: Tensor, carried: Tensor) -> None:
        """Attend to where the previous token was what the current one is."""
        slow = [i for i in range(self.rotary) if i % (self.rotary // 2) >= self.rotary * 3 // 16]
        dims = self.apart or len(slow)
        scale = (_ALIKE * (self.apart + self.rotary) ** 0.5 / dims) ** 0.5
        if self.apart:
            self.attention.q_proj.weight[: self.apart + self.rotary] = 0
            self.attention.q_proj.weight[:dims] = scale * token[:dims]
            self.attention.kv_a_proj_with_mqa.weight[:dims] = carried[:dims]
            self.attention.kv_b_proj.weight[:dims] = 0
            self.attention.kv_b_proj.weight[:dims, :dims] = scale * torch.eye(dims)
        else:
            self.attention.q_proj.weight[: self.rotary] = 0
            self.attention.k_proj.weight[: self.rotary] = 0
            self.attention.q_proj.weight[slow] = scale * token[slow]
            self.attention.k_proj.weight[slow] = scale * carried[slow]

    def write(self, source: Tensor, target: Tensor) -> None:
        """Read `source` from the attended token and write it along `target`."""
        size = self.value_dim
        if self.apart:
            self.attention.kv_a_proj_with_mqa.weight[self.apart : self.apart + size] = source
            rows = self.attention.kv_b_proj.weight[self.apart : self.apart + size]
            rows.zero_()[:, self.apart : self.apart + size] = torch.eye(size)
        else:
            self.attention.v_proj.weight[:size] = source
        self.attention.o_proj.weight[:, :size] = target.T


def _rows(count: int, size: int) -> Tensor:
    """Random orthonormal rows that do not read the constant entry."""
    rows = torch.zeros(count, size)
    rows[:, 1:] = torch.linalg.qr(torch.randn(size - 1, count)).Q.T
    return rows


def _neighbours(rotary: int, theta: float, *, interleaved: bool) -> tuple[Tensor, Tensor]:
    """Unit query and key whose rotated product is largest one position apart."""
    half = rotary // 2
    query, key = torch.zeros(rotary), torch.zeros(rotary)
    for i in range(_PAIRS):
        angle = torch.tensor(theta ** (-i / half))
        first, second = (2 * i, 2 * i + 1) if interleaved else (i, i + half)
        query[first] = 1.0
        key[first], key[second] = angle.cos(), angle.sin()
    return query / query.norm(), key / key.norm()
