"""The contract of a statistic: taken batch by batch, its own result, cached by provenance."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from harness.code.modules import Unreadable
from harness.code.reach import code_sha256

if TYPE_CHECKING:
    from harness.calibration.observe import Seen
    from harness.model.view import Block


@cache
def _code(kind: type) -> str | None:
    """The digest of the code that a statistic can reach, asked once in a process."""
    try:
        return code_sha256((kind.__module__, kind.__qualname__))
    except Unreadable:
        return None


class Statistic(ABC):
    """Something summed over the calibration tokens of one block.

    Tensor attributes (and dicts of tensors) set by `start` are the result. Options are the other
    attributes; they take part in the cache key.
    """

    cached: ClassVar[bool] = True
    """False for what is too big to keep."""
    finite: ClassVar[bool] = True
    """False where infinities or NaN can be right; elsewhere they are neither kept nor believed."""

    @abstractmethod
    def start(self, block: Block) -> None:
        """Allocate zeros of the final shape: no token seen is a legal end."""

    @abstractmethod
    def update(self, seen: Seen) -> None:
        """Take in one batch; upcast here, accumulate in fp32 or fp64."""

    def identity(self) -> str | None:
        """Class, digest of its code, and options, before `start`.

        None where the class has no source, as one typed at a prompt: its results are not kept.
        """
        kind = type(self)
        code = _code(kind)
        options = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return code and f"{kind.__module__}.{kind.__qualname__} {code} {json.dumps(options)}"

    def result(self) -> dict[str, Tensor]:
        """The tensors, flat: "name" or "name/key"."""
        flat: dict[str, Tensor] = {}
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                flat[name] = value
            elif isinstance(value, Mapping):
                flat |= {f"{name}/{key}": item for key, item in value.items()}
        return flat

    def restore(self, result: Mapping[str, Tensor]) -> None:
        """Take the tensors of an earlier `result`, after `start`."""
        for name, tensor in result.items():
            attribute, _, key = name.partition("/")
            if key:
                getattr(self, attribute)[key] = tensor
            else:
                setattr(self, attribute, tensor)
