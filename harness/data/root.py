"""A data root: data sets by hub id, config and split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from harness.data.files import Example, read
from harness.data.layout import Layout
from harness.errors import UserError, nearest


class DataRoot:
    """The source of data sets: a folder laid out as the hub, or the hub.

    Args:
        path: A folder in which `path/<hub id>/` is laid out as the data set's hub repository is.
            None: data sets come from the hub (or its cache) through `datasets.load_dataset`; only
            then is anything fetched.

    Raises:
        UserError: `path` is no folder.
    """

    def __init__(self, path: Path | str | None) -> None:
        self.path = None if path is None else Path(path)
        self._layouts: dict[str, Layout] = {}
        if self.path is not None and not self.path.is_dir():
            raise UserError(f"{self.path}: no such data root; name a folder of data sets.")

    def rows(
        self,
        hub_id: str,
        config: str | None = None,
        split: str = "train",
        *,
        files: str | None = None,
        limit: int | None = None,
    ) -> list[Example]:
        """The rows of one split, in order.

        Args:
            hub_id: Such as "allenai/ai2_arc".
            config: None for the data set's default.
            split: As the data set names it.
            files: A pattern of files inside the repository instead of config and split; reads
                one shard of a data set too large to fetch whole.
            limit: Stop after this many rows; the rest of a local file is not read.

        Raises:
            UserError: nothing there, or unreadable; one sentence with the file and line.
        """
        rows = list(islice(self._rows(hub_id, config, split, files), limit))
        if not rows:
            raise UserError(f"{self._where(hub_id)}: the split {split!r} of {hub_id} has no rows.")
        return rows

    def dataset(self, hub_id: str, config: str | None = None) -> Mapping[str, Any]:
        """Split to its `datasets.Dataset`; a split is read when it is first asked for."""
        return _Splits(self, hub_id, config)

    def fingerprint(
        self,
        hub_id: str,
        config: str | None = None,
        split: str = "train",
        *,
        files: str | None = None,
    ) -> str:
        """The sha256 of the split's rows as JSON, hex: equal for jsonl, parquet and the hub."""
        digest = hashlib.sha256()
        for row in self._rows(hub_id, config, split, files):
            digest.update(json.dumps(row, ensure_ascii=False, default=str).encode() + b"\n")
        return digest.hexdigest()

    def _rows(
        self, hub_id: str, config: str | None, split: str, files: str | None
    ) -> Iterator[Example]:
        if self.path is None:
            return _from_hub(hub_id, config, split, files)
        layout = self._layout(hub_id, self.path)
        paths = layout.glob(files) if files else layout.files(config, split)
        return (row for path in paths for row in read(path))

    def _layout(self, hub_id: str, root: Path) -> Layout:
        if hub_id not in self._layouts:
            folder = root / hub_id
            if not folder.is_dir():
                there = (p.relative_to(root).as_posix() for p in root.glob("*/*") if p.is_dir())
                raise UserError(
                    f"{folder}: no such folder; put the files of the data set {hub_id} there, "
                    f"as its hub repository has them.{nearest(hub_id, there)}"
                )
            self._layouts[hub_id] = Layout(folder, hub_id)
        return self._layouts[hub_id]

    def _where(self, hub_id: str) -> str:
        return "the hub" if self.path is None else str(self.path / hub_id)


class _Splits(Mapping[str, Any]):
    """The part of a `datasets.DatasetDict` that a task uses; splits are read when asked for."""

    def __init__(self, root: DataRoot, hub_id: str, config: str | None) -> None:
        self._root, self._hub_id, self._config = root, hub_id, config
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, split: str) -> Any:
        from datasets import Dataset

        if split not in self._loaded:
            rows = self._root.rows(self._hub_id, self._config, split)
            # Not from_list, which drops every key that the first row does not have.
            names = dict.fromkeys(name for row in rows for name in row)
            columns = {name: [row.get(name) for row in rows] for name in names}
            self._loaded[split] = Dataset.from_dict(columns)
        return self._loaded[split]

    def __iter__(self) -> Iterator[str]:
        assert self._root.path is not None  # noqa: S101
        return iter(self._root._layout(self._hub_id, self._root.path).splits(self._config))

    def __len__(self) -> int:
        return sum(1 for _ in self)


@contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """Turn an error of `datasets` when it cannot fetch into one sentence.

    Raises:
        UserError: instead of any such error.
    """
    import datasets

    try:
        yield
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise UserError(
            f"cannot read {what} from the hub ({type(error).__name__}); name a data root that "
            "holds it instead."
        ) from error


def _from_hub(hub_id: str, config: str | None, split: str, files: str | None) -> Iterator[Example]:
    import datasets

    named = f"{hub_id}, config {config}, split {split}," if config else f"{hub_id}, split {split},"
    with hub_errors(named):
        loaded = datasets.load_dataset(
            hub_id, config, split=split, data_files={split: files} if files else None
        )
    return (dict(row) for row in loaded)
