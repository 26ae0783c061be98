"""Versions of a block, in memory or on disk.

A version is a block as it is between two edits, and never changes. A streamed model keeps a few
blocks on its *shelf*, the last used. What falls off is read again from the files it came from; what
an edit's tensors have changed is written to a scratch file first, once.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from harness.disk import scratch
from harness.errors import UserError, first_line
from harness.model.families.family import Family
from harness.model.shell import shell
from harness.model.stored import Files, Stored

if TYPE_CHECKING:
    from harness.model.edits import Edit


class Version(ABC):
    """A block as it is between two edits.

    Attributes:
        structure: The decoder layer; of a streamed model its twin on the meta device.
    """

    structure: nn.Module

    @abstractmethod
    def load(self) -> nn.Module:
        """The decoder layer with its tensors, read-only."""

    @abstractmethod
    def edited(self, edit: Edit, family: Family) -> Version | None:
        """The version an edit leads to; None: the block is gone.

        Raises:
            Refused: the edit does not fit.
        """


class Held(Version):
    """A version in memory."""

    def __init__(self, layer: nn.Module) -> None:
        self.structure = layer

    def load(self) -> nn.Module:
        """The layer itself."""
        return self.structure

    def edited(self, edit: Edit, family: Family) -> Held | None:
        """Apply the edit to a shell."""
        changed = edit.apply(shell(self.structure), family)
        return None if changed is None else Held(changed)


class Streamed(Version):
    """A version that is in memory only while it is on the shelf."""

    def __init__(self, structure: nn.Module, shelf: Shelf, origin: Stored | Derived) -> None:
        self.structure = structure
        self._origin: Stored | Derived | None = origin  # None: on the shelf and nowhere else
        self._shelf = shelf
        self._layer: nn.Module | None = None

    def load(self) -> nn.Module:
        """Put the layer on the shelf, unless it is there."""
        if self._layer is None:
            self._shelf.make_room()
            self._layer = self.peek()
            if isinstance(self._origin, Derived) and self._origin.edit.tensors:
                self._origin = None  # frees them: what they led to is in the layer
        self._shelf.use(self)
        return self._layer

    def peek(self) -> nn.Module:
        """The layer for one moment: what is not on the shelf does not get there."""
        if self._layer is not None:
            return self._layer
        if self._origin is None:
            raise RuntimeError("a block was put away and not written")
        return self._origin.load()

    def edited(self, edit: Edit, family: Family) -> Streamed | None:
        """Apply the edit to the twin; to the tensors only when they are asked for."""
        changed = edit.apply(shell(self.structure), family)
        if changed is None:
            return None
        return Streamed(changed, self._shelf, Derived(self, edit, family))

    def put_away(self) -> None:
        """Leave the shelf."""
        if self._layer is not None and self._origin is None:
            self._origin = self._shelf.write(self.structure, self._layer)
        self._layer = None


@dataclass(frozen=True, eq=False)
class Derived:
    """The origin of a version: another one, and an edit to it."""

    parent: Streamed
    edit: Edit
    family: Family

    def load(self) -> nn.Module:
        """Edit the other version."""
        changed = self.edit.apply(shell(self.parent.peek()), self.family)
        if changed is None:
            raise RuntimeError("an edit left nothing of a block whose twin it left")
        return changed


class Shelf:
    """The versions in memory, and a scratch folder for those that were changed.

    The folder is in the system's temporary folder (TMPDIR) and goes with the shelf.

    Attributes:
        room: Versions in memory at once.
    """

    def __init__(self) -> None:
        self.room = 2
        self._held: list[weakref.ref[Streamed]] = []  # the last used at the end
        self._written = 0
        self._folder: Path | None = None

    def use(self, version: Streamed) -> None:
        """Note that a version is in use."""
        others = [ref for ref in self._held if ref() is not None and ref() is not version]
        self._held = [*others, weakref.ref(version)]

    def make_room(self) -> None:
        """Put away what was not used for the longest time, until there is room for one more."""
        self._held = [ref for ref in self._held if ref() is not None]
        while len(self._held) >= self.room:
            version = self._held.pop(0)()
            if version is not None:
                version.put_away()

    def write(self, structure: nn.Module, layer: nn.Module) -> Stored:
        """Write a layer to a scratch file, which is deleted once nothing is read from it.

        Raises:
            UserError: it cannot be written (no space left).
        """
        try:
            if self._folder is None:
                self._folder = scratch.new(what="blocks")
                weakref.finalize(self, scratch.delete, self._folder)
            self._written += 1
            path = self._folder / f"{self._written}.safetensors"
            save_file({n: t.contiguous() for n, t in layer.state_dict().items()}, path)
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"a changed block cannot be written to {self._folder}: "
                f"{first_line(error)}; set TMPDIR to a folder with more space."
            ) from error
        device = str(next(layer.parameters()).device)
        stored = Stored(structure, Files([path], device=device))
        weakref.finalize(stored, path.unlink, missing_ok=True)
        return stored
