"""The files of a data set's folder that hold a configuration and split.

A hub repository says so in the `configs:` block of its README's front matter; one without that
block goes by the names of files and folders, as the hub does.
"""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel, Field

from harness.data.files import READABLE, form, is_data
from harness.disk.reading import BadFile, fit, parse_yaml, read_text
from harness.errors import UserError, unknown

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


class Chosen(BaseModel):
    """One entry of a list of `data_files`."""

    split: str
    path: str | list[str]


class Config(BaseModel):
    """One entry of `configs:`; what else it says is not read."""

    config_name: str = Field(coerce_numbers_to_str=True)
    default: bool = False
    data_dir: str | None = None
    data_files: str | list[Chosen] | list[str] | dict[str, str | list[str]] = "**/*"


class Front(BaseModel):
    """The front matter of a README; what else it says is not read."""

    configs: list[Config] | None = Field(default_factory=list)


_NO_DATA = (".md", ".py")
"""Endings of what lies beside a data set's files: its card, its loading script."""


class Layout:
    """The folder of one data set.

    Args:
        folder: Laid out as the hub repository is.
        hub_id: Named in errors.

    Raises:
        UserError: the README's front matter cannot be read.
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
        return self._patterns(self._configs[name])

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
        except (IndexError, NotImplementedError, OSError, ValueError) as error:
            raise UserError(
                f"{self.folder}: the pattern {pattern!r} is no good ({error})."
            ) from None

    def _patterns(self, form: Config) -> dict[str, list[str]]:
        prefix = f"{form.data_dir.strip('/')}/" if form.data_dir else ""
        files = form.data_files
        if isinstance(files, dict):
            return {split: _listed(paths, prefix) for split, paths in files.items()}
        entries = [] if isinstance(files, str) else [e for e in files if isinstance(e, Chosen)]
        if entries:
            return {entry.split: _listed(entry.path, prefix) for entry in entries}
        listed = [files] if isinstance(files, str) else [e for e in files if isinstance(e, str)]
        chosen = {f for p in _listed(listed, prefix) for f in self._glob(p) if is_data(f)}
        return _by_name(sorted(chosen), self.folder)

    def _default(self) -> str:
        marked = [name for name, form in self._configs.items() if form.default]
        for names in (marked, [n for n in self._configs if n == "default"], list(self._configs)):
            if len(names) == 1:
                return names[0]
        raise UserError(
            f"{self.folder / 'README.md'}: name one of the configs of {self.hub_id}: "
            f"{', '.join(self._configs)}."
        )


def _declared(readme: Path) -> dict[str, Config]:
    """Config name to its entry in the README's front matter."""
    if not readme.is_file():
        return {}
    match = re.match(r"---\s*\n(.*?\n)---\s*(\n|$)", read_text(readme), re.DOTALL)
    front = parse_yaml(match[1], f"{readme}: the front matter") if match else None
    if front is None:
        return {}
    try:
        form = fit(Front, front, str(readme))
    except BadFile as error:
        why = f"the front matter has no readable `configs` ({error.why})"
        raise BadFile(str(readme), why) from None
    return {config.config_name: config for config in form.configs or ()}


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
