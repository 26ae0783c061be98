"""A checkpoint of quantized weights, read as if it were a plain one."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from harness.errors import UserError
from harness.export.formats import Format
from harness.model.stored import Files, pieces


class Decoded(Files):
    """Layers are decoded when they are asked for; nothing dense is kept.

    Args:
        files: Whole files.
        format: How weights are stored there.
        settings: The checkpoint's `quantization_config`.
    """

    def __init__(self, files: Sequence[Path], format: Format, settings: Mapping[str, Any]) -> None:
        super().__init__(files)
        self._format = format
        self._settings = settings
        self._layers: dict[str, dict[str, Path]] = {}  # path, and where its tensors are, by ends
        for name in tuple(self._where):
            path, _, end = name.rpartition(".")
            if end in format.ends:
                self._layers.setdefault(path, {})[end] = self._where.pop(name)
        for path, where in self._layers.items():
            self._where[f"{path}.weight"] = where[format.ends[0]]

    def shapes(self) -> dict[str, Tensor]:
        """Names alone: a layer's shape is known, and checked, when it is read."""
        return {name: torch.empty(0, device="meta") for name in self._where}

    @property
    def quantized(self) -> int:
        """The number of layers that are stored quantized."""
        return len(self._layers)

    def read(self, state: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
        """The tensors of a module; arguments as in `Files.read`.

        Raises:
            UserError: a layer is of another shape than the configuration says.
        """
        tensors: dict[str, Tensor] = {}
        with Opened() as opened:
            for name, like in state.items():
                for piece, place in pieces(prefix + name, like.shape, self._where):
                    tensor = self._tensor(piece, opened)
                    if name not in tensors:
                        tensors[name] = torch.empty(like.shape, dtype=tensor.dtype)
                    if tensors[name][place].shape != tensor.shape:
                        raise UserError(
                            f"{piece} of the export is {tuple(tensor.shape)}, and its "
                            f"configuration says {tuple(tensors[name][place].shape)}."
                        )
                    tensors[name][place].copy_(tensor)
        return tensors

    def _tensor(self, name: str, opened: Opened) -> Tensor:
        path = name.removesuffix(".weight")
        if path not in self._layers:
            return opened.tensor(self._where[name], name)
        layer = {
            end: opened.tensor(file, f"{path}.{end}") for end, file in self._layers[path].items()
        }
        return self._format.read(layer, self._settings, path)


class Opened(contextlib.ExitStack):
    """Files opened once each, until the end of the `with` statement."""

    def __init__(self) -> None:
        super().__init__()
        self._files: dict[Path, Any] = {}

    def tensor(self, file: Path, name: str) -> Tensor:
        """One tensor of a file."""
        if file not in self._files:
            self._files[file] = self.enter_context(safe_open(file, framework="pt"))
        tensor: Tensor = self._files[file].get_tensor(name)
        return tensor
