"""Statistics on disk, under everything that determined them."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from harness.calibration.statistic import Statistic

_log = logging.getLogger(__name__)


class StatisticCache:
    """A folder of safetensors files named by provenance; None keeps nothing.

    Args:
        folder: Created when first written to.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def restore(self, statistic: Statistic, key: str) -> bool:
        """Fill a started statistic from disk; False when it is not there or cannot be read."""
        path = self._path(key)
        if path is None or not type(statistic).cached or not path.is_file():
            return False
        try:
            statistic.restore(load_file(path))
        except (SafetensorError, OSError) as error:
            _log.warning("cached statistic %s is unreadable (%s) and is taken anew", path, error)
            return False
        return True

    def keep(self, statistic: Statistic, key: str) -> None:
        """Write a finished statistic; readers see it whole or not at all.

        A cache that cannot be written is a warning: the result is at hand.
        """
        path = self._path(key)
        if path is None or not type(statistic).cached:
            return
        try:
            _write(path, statistic)
        except (SafetensorError, OSError) as error:
            _log.warning("the statistic is not kept: %s", error)

    def _path(self, key: str) -> Path | None:
        return self.folder / key[:2] / f"{key}.safetensors" if self.folder else None


def _write(path: Path, statistic: Statistic) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
        temporary = Path(file.name)
    try:
        tensors = statistic.result()
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
