"""Files of suites and of calibrations, found by name."""

from __future__ import annotations

from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path

from harness.disk.reading import is_file
from harness.errors import UserError, nearest, unknown


def installed() -> dict[str, Path]:
    """Return the file of every installed suite, by the suite's name.

    Packages register suites under the entry-point group `moebench.suites`.
    """
    suites: dict[str, Path] = {}
    for point in entry_points(group="moebench.suites"):
        for entry in files(point.value).iterdir():
            if entry.name.endswith(".toml"):
                suites.setdefault(entry.name.removesuffix(".toml"), Path(str(entry)))
    return dict(sorted(suites.items()))


def find(name: str) -> Path:
    """Return the file of a suite.

    Args:
        name: A path that ends in `.toml`, or the name of an installed suite.

    Raises:
        UserError: there is no such file or suite.
    """
    if name.endswith(".toml"):
        if not is_file(Path(name)):
            raise UserError(f"{name}: no such suite file.{nearest(name, _neighbours(name))}")
        return Path(name)
    suites = installed()
    if name not in suites:
        raise unknown("suite", name, suites)
    return suites[name]


def calibration_file(ref: str) -> Path | None:
    """Return the file that a calibration names as `FILE` or `FILE#FIELD`, or None for a corpus."""
    for name in (ref, ref.rpartition("#")[0]):
        if name and is_file(Path(name)):
            return Path(name)
    return None


def _neighbours(name: str) -> list[str]:
    folder = Path(name).parent
    return [str(path) for path in folder.glob("*.toml")] if folder.is_dir() else []
