"""The files of a data set's folder that hold a configuration and split.

A hub repository says so in the `configs:` block of its README's front matter; one without that
block goes by the names of files and folders, as the hub does.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from harness.data.files import READABLE, form, is_data
from harness.errors import UserError, first_line, unknown

_SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
"""A word in a file's or a folder's name to the split it names."""


_NO_DATA = (".md", ".py")
"""Endings of what lies beside a data set's files: its card, its loading script."""


class Layout:
    """The folder of one data set.

    Args:
        folder: Laid out as the hub repository is.
        hub_id: Named in errors.

    Raises:
        UserError: the README's front matter is no YAML mapping.
    """

    def __init__(self, folder: Path, hub_id: str) -> None:
        self.folder = folder
        self.hub_id = hub_id
        self._configs = _declared(folder / "README.md")

    def splits(self, config: str | None) -> dict[str, list[str]]:
        """Split to the patterns of its files, relative to the folder.

        Without a `configs:` block the folder itself is the one configuration whatever it is
        called, unless it has a sub-folder of that name.

        Raises:
            UserError: no such configuration, or several and none was named.
        """
        if not self._configs:
            below = self.folder / config if config else self.folder
            base = below if below.is_dir() else self.folder
            return _by_name([f for f in sorted(base.rglob("*")) if is_data(f)], self.folder)
        name = config if config is not None else self._default()
        if name not in self._configs:
            raise unknown("config", name, self._configs, where=str(self.folder / "README.md"))
        try:
            return _patterns(self._configs[name], self.folder)
        except (AttributeError, KeyError, TypeError):
            readme = self.folder / "README.md"
            raise UserError(f"{readme}: config {name!r} has no readable `data_files`.") from None

    def files(self, config: str | None, split: str) -> list[Path]:
        """The files of one split, sorted.

        Raises:
            UserError: no such configuration or split, no file that can be read or matches, or
                files that are written in several ways.
        """
        splits = self.splits(config)
        if not splits:
            raise self._nothing()
        if split not in splits:
            named = f" of config {config!r}" if config else ""
            raise unknown(f"split{named}", split, splits, where=str(self.folder))
        return self.glob(*splits[split])

    def glob(self, *patterns: str) -> list[Path]:
        """The files that match any of the patterns, sorted within each.

        Raises:
            UserError: none does, or they are written in several ways: the same rows, most likely.
        """
        matches = [file for pattern in patterns for file in sorted(self._glob(pattern))]
        every = list(dict.fromkeys(file for file in matches if file.is_file()))
        if not every:
            raise UserError(f"{self.folder}: no file matches {', '.join(patterns)}.")
        # Beside an unpacked file often lies the packed one. Where none can be read, `read` says so.
        chosen = [file for file in every if is_data(file)] or every
        self._refuse_twins(chosen)
        return chosen

    def _refuse_twins(self, files: list[Path]) -> None:
        """Refuse one split in two formats: reading both would count its rows twice."""
        forms = {form(file): file for file in reversed(files)}
        if len(forms) > 1:
            names = [file.relative_to(self.folder).as_posix() for file in forms.values()]
            raise UserError(
                f"{self.folder}: {' and '.join(sorted(names)[:2])} hold the same split in "
                "different formats, and its rows would be read twice; leave one of them there."
            )

    def _nothing(self) -> UserError:
        """The error that no file of the folder can be read."""
        others = {file.suffix for file in self.folder.rglob("*") if file.is_file()}
        others -= {"", *_NO_DATA}
        if not others:
            return UserError(
                f"{self.folder}: holds no data file; put those of {self.hub_id} there, as its hub "
                "repository has them."
            )
        return UserError(
            f"{self.folder}: files that end in {', '.join(sorted(others))} are not read; write the "
            f"rows as one of {', '.join(READABLE)}."
        )

    def _glob(self, pattern: str) -> list[Path]:
        if ".." in Path(pattern).parts:  # beyond what a data set's fingerprint covers
            raise UserError(f"{self.folder}: the pattern {pattern!r} leaves the data set's folder.")
        try:
            return list(self.folder.glob(pattern))
        except (NotImplementedError, ValueError) as error:
            raise UserError(
                f"{self.folder}: the pattern {pattern!r} is no good ({error})."
            ) from None

    def _default(self) -> str:
        marked = [name for name, form in self._configs.items() if form.get("default")]
        for names in (marked, [n for n in self._configs if n == "default"], list(self._configs)):
            if len(names) == 1:
                return names[0]
        raise UserError(
            f"{self.folder / 'README.md'}: name one of the configs of {self.hub_id}: "
            f"{', '.join(self._configs)}."
        )


def _declared(readme: Path) -> dict[str, dict[str, Any]]:
    """Config name to its entry in the README's front matter."""
    if not readme.is_file():
        return {}
    match = re.match(r"---\s*\n(.*?\n)---\s*(\n|$)", readme.read_text("utf-8"), re.DOTALL)
    if not match:
        return {}
    import yaml

    try:
        # The C loader: a README of sixty configurations takes the Python one 0.2 s.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        front = yaml.load(match[1], Loader=loader)  # noqa: S506  (both loaders are safe)
        entries = front.get("configs") or []
        return {entry["config_name"]: entry for entry in entries}
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise UserError(
            f"{readme}: the front matter has no readable `configs` ({first_line(error)})."
        ) from None


def _patterns(form: dict[str, Any], folder: Path) -> dict[str, list[str]]:
    prefix = f"{form['data_dir'].strip('/')}/" if form.get("data_dir") else ""
    files = form.get("data_files", "**/*")
    if isinstance(files, dict):
        return {split: _listed(paths, prefix) for split, paths in files.items()}
    if isinstance(files, list) and files and isinstance(files[0], dict):
        return {entry["split"]: _listed(entry["path"], prefix) for entry in files}
    chosen = {file for p in _listed(files, prefix) for file in folder.glob(p) if is_data(file)}
    return _by_name(sorted(chosen), folder)


def _listed(paths: str | list[str], prefix: str) -> list[str]:
    return [prefix + path for path in ([paths] if isinstance(paths, str) else paths)]


def _by_name(files: list[Path], folder: Path) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {}
    for file in files:
        relative = file.relative_to(folder)
        escaped = re.sub(r"([*?\[])", r"[\1]", relative.as_posix())
        splits.setdefault(_split_of(relative), []).append(escaped)
    return splits


def _split_of(file: Path) -> str:
    """The split that a file's name, or else a folder's above it, speaks of; train if none does."""
    for part in reversed(file.parts):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in _SPLITS:
                return _SPLITS[word]
    return "train"
