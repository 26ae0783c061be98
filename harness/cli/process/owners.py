"""Check that the packages `harness`, `methods` and `suites` are moebench's own.

The names are generic, so another distribution may install packages of the same name; Python would
then mix the two without a word.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from harness.errors import UserError

PACKAGES = ("harness", "methods", "suites")


def refuse_foreign_packages() -> None:
    """Raise UserError when one of moebench's packages is somebody else's."""
    home = Path(__file__).resolve().parents[3]
    for name in PACKAGES:
        place = location(name)
        if place is None:
            raise UserError(f"the package {name!r} of moebench is missing. Install moebench again.")
        if place != home / name:
            raise _foreign(name, place)
    for name in overwritten(home):
        raise _foreign(name, home / name)


def location(name: str) -> Path | None:
    """Return the folder of a top-level package, without importing it; None if there is none."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))).resolve()


def overwritten(home: Path) -> list[str]:
    """Return the packages whose `__init__.py` is no longer the one that the installer recorded.

    Args:
        home: The folder that holds the packages.
    """
    try:
        recorded = distribution("moebench").files or []
    except PackageNotFoundError:
        return []
    wanted = {f"{name}/__init__.py": name for name in PACKAGES}
    changed = []
    for file in recorded:
        name = wanted.get(str(file))
        if name is None or file.hash is None:
            continue
        digest = hashlib.new(file.hash.mode, (home / str(file)).read_bytes()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
            changed.append(name)
    return changed


def owners(name: str) -> list[str]:
    """Return the distributions that install a top-level package; slow, it reads them all."""
    from importlib.metadata import packages_distributions

    return sorted(set(packages_distributions().get(name, ())))


def _foreign(name: str, place: Path) -> UserError:
    others = [owner for owner in owners(name) if owner != "moebench"]
    whose = f"the distribution {others[0]!r}" if others else "something else"
    return UserError(
        f"the package {name!r} in {place.parent} belongs to {whose}, and moebench has one of the "
        "same name. Install moebench in an environment of its own."
    )
