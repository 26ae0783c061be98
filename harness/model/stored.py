"""Layers read from safetensors files, one at a time: no tensor of another one is touched."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from harness.model.shell import settle, shell

_FUSED = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}
_MIXTRAL = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}
Place = tuple[int | slice, ...]


class Files:
    """The tensors in some safetensors files, read when asked for into memory of their own.

    Args:
        files: Whole files; of a tensor in several the last counts.
        device: Where the tensors go.
        dtype: Of floating-point tensors; None for the files' own.
        check: Told of each file before and after tensors are read from it; raises where it is not
            what it should be.
    """

    def __init__(
        self,
        files: Sequence[Path],
        *,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        check: Callable[[Path], None] | None = None,
    ) -> None:
        self.device = device
        self.dtype = dtype
        self._check = check or (lambda _file: None)
        self._where: dict[str, Path] = {}
        self._stored_as: dict[str, str] = {}
        for file in files:
            with safe_open(file, framework="pt") as tensors:
                self._where |= dict.fromkeys(tensors.keys(), file)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all tensors, those of the first file first."""
        return tuple(self._where)

    def forget(self, name: str) -> None:
        """Leave a tensor out from now on."""
        del self._where[name]

    def rename(self, old: str, new: str) -> None:
        """Give a tensor another name from now on."""
        self._where[new] = self._where.pop(old)
        self._stored_as[new] = old

    def tensor(self, name: str) -> Tensor:
        """One tensor as `read` gives it."""
        with safe_open(self._where[name], framework="pt") as opened:
            shape = opened.get_slice(self._stored_as.get(name, name)).get_shape()
        return self.read({name: torch.empty(shape, device="meta")})[name]

    def shapes(self) -> dict[str, Tensor]:
        """All tensors on the meta device."""
        with contextlib.ExitStack() as stack:
            opened = {
                file: stack.enter_context(safe_open(file, framework="pt"))
                for file in set(self._where.values())
            }
            return {
                name: torch.empty(
                    opened[file].get_slice(self._stored_as.get(name, name)).get_shape(),
                    device="meta",
                )
                for name, file in self._where.items()
            }

    def expected(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors that the files must hold for `read` to give this state, on the meta device."""
        return {
            piece: tensor.to("meta")[place]
            for name, tensor in state.items()
            for piece, place in pieces(name, tensor.shape, self._where)
        }

    def read(self, state: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
        """The tensors of a module.

        Args:
            state: Names and shapes, as the module's `state_dict` on the meta device gives them.
            prefix: Of the names in the files.

        Raises:
            UserError: a file is not what it should be, as `check` says.
        """
        tensors: dict[str, Tensor] = {}
        with contextlib.ExitStack() as stack:
            opened: dict[Path, Any] = {}
            for name, like in state.items():
                for piece, place in pieces(prefix + name, like.shape, self._where):
                    file = self._where[piece]
                    if file not in opened:
                        self._check(file)
                        opened[file] = stack.enter_context(safe_open(file, framework="pt"))
                    tensor = opened[file].get_tensor(self._stored_as.get(piece, piece))
                    if name not in tensors:
                        tensors[name] = self._empty(like, tensor.dtype)
                    tensors[name][place].copy_(tensor)
        for file in opened:
            self._check(file)
        return tensors

    def _empty(self, like: Tensor, dtype: torch.dtype) -> Tensor:
        wanted = self.dtype if self.dtype is not None and dtype.is_floating_point else dtype
        return torch.empty(like.shape, dtype=wanted, device=self.device)


@dataclass(frozen=True, eq=False)
class Stored:
    """A decoder layer in files: its twin on the meta device says what to read."""

    structure: nn.Module
    files: Files
    prefix: str = ""
    check: Callable[[nn.Module], None] = lambda _layer: None
    """Looks at a layer that was read, and raises where it will not do."""

    def load(self) -> nn.Module:
        """The layer with its tensors."""
        layer = shell(self.structure)
        state = self.files.read(layer.state_dict(), self.prefix)
        layer.load_state_dict(state, assign=True, strict=True)
        layer.to(self.files.device)  # buffers, which are in no file
        settle(layer)
        self.check(layer)
        return layer


def pieces(name: str, shape: Sequence[int], here: Container[str]) -> Iterator[tuple[str, Place]]:
    """The tensors in the files that make up a tensor, and the part of it that each one is.

    transformers fuses experts that checkpoints hold one by one, and renames Mixtral's.
    """
    owner, _, fused = name.rpartition(".mlp.")
    mixtral = f"{owner}.block_sparse_moe."
    fused = fused.removeprefix("experts.")
    if name in here or fused not in _FUSED:
        old = name.replace(".mlp.", ".block_sparse_moe.")
        yield (old if old in here else name), ()
        return
    roles = _FUSED[fused]
    rows = shape[1] // len(roles)  # of shape [experts, outputs, inputs]
    for expert in range(shape[0]):
        for number, role in enumerate(roles):
            piece = f"{mixtral}experts.{expert}.{_MIXTRAL[role]}.weight"
            if piece not in here:
                piece = f"{owner}.mlp.experts.{expert}.{role}.weight"
            yield piece, (expert, slice(number * rows, (number + 1) * rows))
