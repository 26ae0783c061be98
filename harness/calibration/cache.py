"""Statistics and tokens on disk, under everything that determined them."""

from __future__ import annotations

from pathlib import Path

from harness.cache import sealed, tensors
from harness.calibration.statistic import Statistic
from harness.calibration.tokens import Tokens
from harness.errors import UserError


class StatisticCache:
    """A folder of sealed files named by provenance; None keeps nothing.

    Args:
        folder: Created when first written to.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def restore(self, statistic: Statistic, key: str) -> bool:
        """Fill a started statistic from disk; False when it is not there or is damaged."""
        path, like = self._path(statistic, key), statistic.result()
        if path is None or not like:
            return False
        kept = tensors.read(path, like, finite=type(statistic).finite)
        if kept is None:
            return False
        statistic.restore(kept)
        return True

    def keep(self, statistic: Statistic, key: str) -> None:
        """Write a finished statistic; a cache that cannot be written is a warning.

        A result without tensors is none: what the statistic holds is then elsewhere, in lists, and
        would be missing when it is restored. One that breaks the promise of `finite` does not get
        here.
        """
        path, result = self._path(statistic, key), statistic.result()
        if path is None or not result:
            return
        tensors.write(path, result)

    def _path(self, statistic: Statistic, key: str) -> Path | None:
        if self.folder is None or not type(statistic).cached:
            return None
        return self.folder / "statistics" / key[:2] / f"{key}.sealed"


def keep_tokens(tokens: Tokens, folder: Path) -> None:
    """Save tokens in the cache as a file that `ref` of a calibration can name again.

    Its name is their hash. One that is there is read and, where it is damaged, written again with a
    warning; a cache that cannot be written is a warning.
    """
    if not tokens.sequences:
        return
    path = folder / "tokens" / f"{tokens.sha256}.safetensors"
    if path.exists():
        try:
            if Tokens.load(path, saved=True).sha256 == tokens.sha256:
                return
            sealed.damaged(path, "it holds other tokens")
        except UserError as error:
            sealed.damaged(path, str(error).removeprefix(f"{path}: ").rstrip("."))
    tokens.keep(path)
