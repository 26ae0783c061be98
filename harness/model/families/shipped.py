"""Full-size models whose configurations ship with the package, so that a dry run needs no network.

`configs/OWNER/NAME.json` holds the facts of the `config.json` that the hub has for OWNER/NAME. A
dry run reads them; what loads weights never does.
"""

from __future__ import annotations

from pathlib import Path

from harness.disk.reading import read_object

CONFIGS = Path(__file__).parent / "configs"


def known() -> tuple[str, ...]:
    """The hub ids, sorted."""
    files = (file.relative_to(CONFIGS).with_suffix("") for file in CONFIGS.glob("*/*.json"))
    return tuple(sorted(file.as_posix() for file in files))


def config_file(ref: str) -> Path | None:
    """The shipped configuration of a hub id; None where there is none."""
    return CONFIGS / f"{ref}.json" if ref in known() else None


def family_name(ref: str) -> str:
    """The model type of a shipped configuration."""
    return str(read_object(CONFIGS / f"{ref}.json").get("model_type"))
