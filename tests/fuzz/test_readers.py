from __future__ import annotations

import ast
import os
import time
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings

from harness.errors import UserError
from tests.fuzz.readers import EXEMPT, READERS, Reader, check_sentence

HARNESS = Path(__file__).parents[2] / "harness"
MINUTES = float(os.environ.get("MOEBENCH_FUZZ_MINUTES", 0))
"""Minutes for which the long fuzz goes on, with seeds that no run had before it."""
BATCH = 100
"""Changed files of each kind between two looks at the clock."""
PRIMITIVES = {
    *("loads", "read_text", "read_bytes", "safe_open", "load_file", "ParquetFile"),
    *("from_pretrained", "read_object", "read_json", "parse_json", "parse_object", "parse_toml"),
    *("parse_yaml", "exec_module"),
}
"""Names of functions that read a file, or parse what stands in one."""


def attempt(reader: Reader, path: Path) -> None:
    """Read a file: a value, or one sentence; anything else fails."""
    try:
        reader.read(path)
    except UserError as error:
        check_sentence(str(error), path)
    except Exception:
        raise
    except BaseException as error:
        raise AssertionError(f"{type(error).__name__} went through") from error


def drive(reader: Reader, folder: Path, examples: int, number: int | None = None) -> None:
    """Read `examples` changed files; of one seed, or always the same ones."""
    path = reader.make(folder)
    data = path.read_bytes()
    reader.read(path)
    changed = reader.changes(data)
    if reader.seal is not None:
        changed = changed | changed.map(reader.seal)

    @settings(
        max_examples=examples,
        derandomize=number is None,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(changed)
    def one(content: bytes) -> None:
        path.write_bytes(content)
        attempt(reader, path)

    (one if number is None else seed(number)(one))()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOEBENCH_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("kind", READERS)
def test_a_changed_file_is_a_value_or_a_sentence(kind: str, tmp_path: Path) -> None:
    drive(READERS[kind], tmp_path, 3 * READERS[kind].examples)


@pytest.mark.skipif(not MINUTES, reason="MOEBENCH_FUZZ_MINUTES says for how long; by hand")
def test_other_changes_for_as_long_as_asked(tmp_path: Path) -> None:
    end = time.monotonic() + 60 * MINUTES
    for number in count(time.time_ns()):
        for kind, reader in READERS.items():
            folder = tmp_path / f"{number} {kind}"
            folder.mkdir()
            try:
                drive(reader, folder, BATCH, number)
            except BaseException as error:
                error.add_note(f"reader {kind!r}, seed {number}")
                raise
            if time.monotonic() > end:
                return


def test_every_module_that_reads_a_file_has_its_reader_here() -> None:
    driven = {module for reader in READERS.values() for module in reader.modules}
    unknown = []
    for file in sorted(HARNESS.rglob("*.py")):
        module = ".".join(file.relative_to(HARNESS).with_suffix("").parts)
        calls = (
            node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)
        )
        names = {getattr(call.func, "attr", getattr(call.func, "id", "")) for call in calls}
        if names & PRIMITIVES and module not in driven | EXEMPT.keys():
            unknown.append(f"{module}: {', '.join(sorted(names & PRIMITIVES))}")
    assert unknown == []
