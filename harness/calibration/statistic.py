"""The contract of a statistic: taken batch by batch, its own result, cached by provenance."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from harness.code.modules import Unreadable
from harness.code.reach import code_sha256

if TYPE_CHECKING:
    from harness.calibration.observe import Seen
    from harness.model.view import Block


@cache
def _code(kind: type) -> str | None:
    """The digest of the code that a statistic can reach, asked once in a process."""
    if "<locals>" in kind.__qualname__:
        return None
    try:
        return code_sha256((kind.__module__, kind.__qualname__))
    except Unreadable:
        return None


def _told(value: object) -> str:
    """A value that JSON does not know, in words that are equal for equal values alone.

    Raises:
        TypeError: there are none.
    """
    if isinstance(value, torch.dtype):
        return str(value)
    if isinstance(value, Tensor):
        plain = value.detach().cpu().contiguous()
        digest = hashlib.sha256(plain.flatten().view(torch.uint8).numpy().tobytes()).hexdigest()
        return f"{value.dtype} {list(value.shape)} {digest}"
    raise TypeError


class Statistic(ABC):
    """Something summed over the calibration tokens of one block.

    Tensor attributes (and dicts of tensors) set by `start` are the result. All attributes that are
    set before it are options, and take part in the cache key, whatever their names begin with. A
    statistic whose options no key can hold, as a function, or whose class is made in a function,
    of whose variables nobody can tell, is taken every time.
    """

    cached: ClassVar[bool] = True
    """False for what is too big to keep."""
    finite: ClassVar[bool] = True
    """False where infinities or NaN can be right; elsewhere `collect` refuses them, so that they
    are never kept, and a file that holds some is not believed."""

    aside: ClassVar[tuple[str, ...]] = ()
    """Attributes set before `start` that do not decide the result, or that others stand for."""

    @abstractmethod
    def start(self, block: Block) -> None:
        """Allocate zeros of the final shape: no token seen is a legal end."""

    @abstractmethod
    def update(self, seen: Seen) -> None:
        """Take in one batch; upcast here, accumulate in fp32 or fp64."""

    def identity(self) -> str | None:
        """Class, digest of its code, and options, before `start`.

        None where they cannot be told: the class has no source, as one typed at a prompt, or is
        made in a function, or an option is no plain value. Its results are not kept.
        """
        kind = type(self)
        code = _code(kind)
        options = {name: value for name, value in vars(self).items() if name not in self.aside}
        try:
            told = json.dumps(options, sort_keys=True, default=_told)
        except (TypeError, ValueError):  # of no plain value, or one that holds itself
            return None
        return code and f"{kind.__module__}.{kind.__qualname__} {code} {told}"

    def result(self) -> dict[str, Tensor]:
        """The tensors, flat: "name" or "name/key"."""
        flat: dict[str, Tensor] = {}
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                flat[name] = value
            elif isinstance(value, Mapping):
                flat |= {f"{name}/{key}": item for key, item in value.items()}
        return flat

    def taken(self) -> Iterator[tuple[str, Tensor]]:
        """Tensors that must be finite, by name: the result, and what stands in lists beside it."""
        for name, value in self.result().items():
            if isinstance(value, Tensor):  # a dict of something else is no result
                yield name, value

    def restore(self, result: Mapping[str, Tensor]) -> None:
        """Take the tensors of an earlier `result`, after `start`."""
        for name, tensor in result.items():
            attribute, _, key = name.partition("/")
            if key:
                getattr(self, attribute)[key] = tensor
            else:
                setattr(self, attribute, tensor)
