"""The readers: one valid file of each kind, and the function that reads it."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st

from harness.cache import sealed, tensors
from harness.calibration.corpora.cutting import Draw
from harness.calibration.corpora.instructions import instructions, reap
from harness.calibration.corpora.text_files import documents
from harness.calibration.tokens import Tokens
from harness.code.modules import FROM_FILE
from harness.data.files import placed
from harness.data.layout import Layout
from harness.method import registry
from harness.model.checkpoint import shards, weight_files
from harness.model.edits import parse
from harness.model.files.card import _about
from harness.model.files.generation import check_generation
from harness.model.files.identity import read_config
from harness.model.files.manifest import Manifest, _own_sha256, write_manifest
from harness.model.files.opening import open_meta
from harness.model.tokenizer import load_tokenizer
from harness.papers.published import FOLDER, load
from harness.peers.exchange import report
from harness.places import origin
from harness.plan.cells import resolve
from harness.plan.check import check, check_calibration, check_step
from harness.plan.forms import CalibrationForm
from harness.plan.suite import Suite
from harness.records.archiving import archive
from harness.records.digest import KEY
from harness.records.digest import sealed as with_digest
from harness.records.protocol import Protocol
from harness.records.reading import read_record
from harness.records.standing import standing
from harness.records.store import Store
from tests.fuzz.changes import (
    front_matter,
    json_file,
    json_lines,
    other_bytes,
    packed,
    python_file,
    safetensors_file,
    toml_file,
)
from tests.models import save_checkpoint
from tests.records import made_up

Changes = Callable[[bytes], st.SearchStrategy[bytes]]
SUITES = Path(__file__).parents[2] / "suites"
FROZEN = Protocol(tasks=("boolq",), average=("boolq",), perplexity=("wikitext2",))
CELL = "m-one-0"


@dataclass(frozen=True)
class Reader:
    """A kind of file that people edit."""

    make: Callable[[Path], Path]
    """Writes a valid file, with what belongs beside it, into a new folder."""
    read: Callable[[Path], object]
    """Reads the file as the harness does."""
    changes: Changes
    modules: tuple[str, ...]
    """The modules of the harness that read it, without `harness.`."""
    examples: int = 60
    """Number of changed files in the checks."""
    seal: Callable[[bytes], bytes] | None = field(default=None)
    """Gives a changed file its digest, so that the change is not all that is seen."""


def _written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _file(name: str, content: str | bytes) -> Callable[[Path], Path]:
    return lambda folder: _written(folder, name, content)


def _rows(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _resealed(data: bytes) -> bytes:
    """A record or plan with the digest of what it holds now, where it holds an object."""
    try:
        values = json.loads(data)
        rest = {key: value for key, value in values.items() if key != KEY}
        return json.dumps(with_digest(rest)).encode()
    except (AttributeError, ValueError, RecursionError):
        return data


def _resealed_lines(data: bytes) -> bytes:
    lines = gzip.decompress(data).splitlines()
    return gzip.compress(b"".join(_resealed(line) + b"\n" for line in lines))


def _resealed_edits(data: bytes) -> bytes:
    try:
        values = json.loads(data)
        return json.dumps({**values, "sha256": _own_sha256(values)}).encode()
    except (TypeError, ValueError, RecursionError):
        return data


def _resealed_note(data: bytes) -> bytes:
    return sealed.sealed("note", data[: data.rfind(b"\nmoebench-seal ")])


def _results(folder: Path) -> Store:
    rows = ("baseline", "one", "two")
    records = [
        made_up.record(row, {"boolq": 0.5}, protocol=FROZEN, perplexity=2.5, cell=f"m-{row}-0")
        for row in rows
    ]
    outcomes = made_up.items([True, False])
    suite = (SUITES / "eep.toml").read_text(encoding="utf-8")
    return made_up.store(folder, FROZEN, [(one, outcomes) for one in records], suite=suite)


def _loose(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        return _results(folder).folder / name

    return make


def _archived(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        store = _results(folder)
        archive(store)
        return store.folder / name

    return make


def _all_results(path: Path) -> None:
    """Everything that a verb reads of a results folder; damage is told and not raised."""
    folder = path.parent if path.parent.name not in ("records", "items") else path.parents[1]
    store = Store(folder)
    run = standing(store)
    for sentence in run.gaps():
        assert sentence.isprintable()
        assert "Traceback" not in sentence
    for cell in ("m-baseline-0", CELL):
        store.items(cell)


def check_sentence(sentence: str, path: Path) -> None:
    """Hold a sentence to the form of all: one line that names the file, in nobody else's words."""
    assert sentence.isprintable(), sentence
    assert "Traceback" not in sentence
    assert "pydantic" not in sentence
    assert path.name in sentence or path.parent.name in sentence or CELL in sentence, sentence


_MODELS: dict[str, Path] = {}


def _checkpoint(name: str) -> Callable[[Path], Path]:
    """A copy of one small checkpoint; `name` is the file that is changed."""

    def make(folder: Path) -> Path:
        if "model" not in _MODELS or not _MODELS["model"].is_dir():
            _MODELS["model"] = save_checkpoint(folder / "original")
        return shutil.copytree(_MODELS["model"], folder / "model") / name

    return make


def _generation(folder: Path) -> Path:
    path = _checkpoint("generation_config.json")(folder)
    values = {"eos_token_id": [1, 2], "max_new_tokens": 8, "do_sample": True, "top_p": 0.9}
    return _written(path.parent, path.name, json.dumps(values))


def _index(folder: Path) -> Path:
    for name in ("a.safetensors", "b.safetensors"):
        _written(folder, name, b"")
    text = {"metadata": {"total_size": 1}, "weight_map": {"x": "a.safetensors", "y": name}}
    return _written(folder, "model.safetensors.index.json", json.dumps(text))


def _edits(folder: Path) -> Path:
    path = _checkpoint("edits.json")(folder)
    values = {
        "base": {"ref": "reference/mixtral", "sha256": "0" * 64},
        "recipe": [],
        "calibration": [],
        "edits": [
            {"kind": "low_rank", "block": 0, "ranks": {"attention.q": 2}},
            {"kind": "skip_experts", "block": 1, "beta": 0.5},
            {"kind": "drop_block", "block": 1},
        ],
    }
    write_manifest(path.parent, values)
    return path


def _read_edits(path: Path) -> None:
    origin(str(path.parent))
    manifest = Manifest.read(path.parent)
    for number, edit in enumerate(manifest.edits):
        parse(edit, where=f"{path}, edit {number}")


def _tokens(folder: Path) -> Path:
    path = folder / "ids.safetensors"
    Tokens(torch.ones(2, 3, dtype=torch.int64), None, "made up", 0, "by hand").save(path)
    return path


def _parquet(folder: Path) -> Path:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    path = folder / "train.parquet"
    pq.write_table(pa.table({"text": ["a", "b"], "label": [0, 1]}), path)
    return path


def _note(folder: Path) -> Path:
    sealed.write(folder / "note", ["a", "b"])
    return folder / "note"


def _statistic(folder: Path) -> Path:
    tensors.write(folder / "note", {"mass": torch.ones(3)})
    return folder / "note"


README = """---
configs:
- config_name: main
  default: true
  data_files:
  - split: train
    path: main/train-*.jsonl
  - split: test
    path: [main/test.jsonl]
- config_name: other
  data_files: other.jsonl
---
# Things
"""
METHOD = '''"""A method."""
from harness.method import Method


class Nothing(Method):
    """Nothing."""

    name = "nothing"
    reference = "none"
    keep: int = 1

    def compress(self, model, calibration):
        yield from ()
'''


def _layout(path: Path) -> None:
    for name in ("main/train-0.jsonl", "main/test.jsonl"):
        _written(path.parent, name, "{}")
    layout = Layout(path.parent, "someone/things")
    for config in (None, "main"):
        for split in layout.splits(config):
            layout.files(config, split)


def _suite(path: Path) -> None:
    suite = Suite.load(str(path))
    check(suite)
    for recipe in suite.recipes:
        for seed in recipe.seeds:
            resolve(recipe.steps, seed)


def _recipe(path: Path) -> None:
    suite = Suite.load_recipe(path, CalibrationForm())
    for position, step in enumerate(suite.recipes[1].steps):
        check_step(suite, step, ("steps", position))
        check_calibration(suite, step, ("steps", position))


def _instructed(path: Path) -> None:
    """Calibration from instructions in a model's chat template, as `reap` samples them."""
    folder = path.parent
    tokenizer = load_tokenizer(folder, str(folder))
    data = _written(folder, "asked.jsonl", _rows({"instruction": "a", "output": "b"}))
    asked = list(instructions(placed(data)))
    reap(asked, tokenizer, Draw(1, 64, 0, str(folder)))


def _template(folder: Path) -> Path:
    path = _checkpoint("chat_template.jinja")(folder)
    turn = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] | trim }}\n{% endfor %}"
    return _written(
        path.parent, path.name, f"{turn}{{% if add_generation_prompt %}}a:{{% endif %}}"
    )


def _bytes_only(data: bytes) -> st.SearchStrategy[bytes]:
    return other_bytes(data)


def _read_note(path: Path) -> None:
    value = sealed.read(path, list[str])
    assert value is None or all(isinstance(one, str) for one in value)


def _read_statistic(path: Path) -> None:
    value = tensors.read(path, {"mass": torch.zeros(3)})
    assert value is None or value["mass"].shape == (3,)


def _documents(path: Path) -> None:
    list(documents(path))


def _data(path: Path) -> None:
    list(placed(path))


def _ids(path: Path) -> None:
    Tokens.load(path, vocabulary=53)


def _asked(path: Path) -> None:
    list(instructions(placed(path)))


def _method(path: Path) -> None:
    for name in [name for name in sys.modules if name.startswith(FROM_FILE)]:
        del sys.modules[name]
    registry.build(f"{path}:Nothing", {"keep": 2})


PRINTED = min(FOLDER.glob("*.toml"))

READERS: dict[str, Reader] = {
    "suite": Reader(
        _file("mine.toml", (SUITES / "eep.toml").read_bytes()),
        _suite,
        toml_file,
        ("plan.suite", "plan.strict", "plan.lines"),
        150,
    ),
    "small suite": Reader(
        _file("mine.toml", (SUITES / "quickstart.toml").read_bytes()),
        _suite,
        toml_file,
        ("plan.suite",),
        100,
    ),
    "recipe": Reader(
        _file("mine.toml", 'steps = [{method = "eep", keep = 4}]\n[calibration]\nref = "pile"\n'),
        _recipe,
        toml_file,
        ("plan.suite",),
        150,
    ),
    "printed numbers": Reader(
        _file(PRINTED.name, PRINTED.read_bytes()),
        lambda path: load(path.stem, path.parent),
        toml_file,
        ("papers.published",),
        100,
    ),
    "record": Reader(
        _loose(f"records/{CELL}.json"),
        read_record,
        json_file,
        ("records.reading", "records.migrations"),
        150,
        _resealed,
    ),
    "record in a folder": Reader(
        _loose(f"records/{CELL}.json"),
        _all_results,
        json_file,
        ("records.loose", "records.store"),
        60,
        _resealed,
    ),
    "plan": Reader(
        _loose("cells.json"), _all_results, json_file, ("records.store",), 80, _resealed
    ),
    "items": Reader(
        _loose(f"items/{CELL}.jsonl.gz"),
        _all_results,
        packed(json_lines),
        ("records.items", "records.loose"),
        60,
    ),
    "archived records": Reader(
        _archived("records.jsonl.gz"),
        _all_results,
        packed(json_lines),
        ("records.archive",),
        60,
    ),
    "archived items": Reader(
        _archived("items.jsonl.gz"),
        _all_results,
        packed(json_lines),
        ("records.archive", "records.items"),
        60,
    ),
    "suite in the results": Reader(
        _loose("suite.toml"),
        lambda path: Suite.stored(Store(path.parent)),
        toml_file,
        ("judge.verdict", "report.figures.paper"),
        60,
    ),
    "configuration": Reader(
        _checkpoint("config.json"),
        lambda path: read_config(str(path.parent)),
        json_file,
        ("model.files.identity", "model.families.limits"),
        100,
    ),
    "configuration that is built": Reader(
        _checkpoint("config.json"),
        lambda path: open_meta(str(path.parent)),
        json_file,
        ("model.files.skeleton",),
        30,
    ),
    "settings of generation": Reader(
        _generation,
        lambda path: check_generation(path.parent),
        json_file,
        ("model.files.generation",),
        50,
    ),
    "card of a model": Reader(
        _file("BASE_README.md", "---\nlicense: mit\nlanguage: [en]\n---\n# A model\n"),
        _about,
        _bytes_only,
        ("model.files.card",),
        50,
    ),
    "index": Reader(
        _index, lambda path: shards(path.parent), json_file, ("model.checkpoint",), 100
    ),
    "weights": Reader(
        _checkpoint("model.safetensors"),
        lambda path: weight_files(path.parent),
        safetensors_file,
        ("model.checkpoint",),
        40,
    ),
    "edits": Reader(
        _edits,
        _read_edits,
        json_file,
        ("model.files.manifest", "places"),
        100,
        _resealed_edits,
    ),
    "tokenizer": Reader(
        _checkpoint("tokenizer.json"),
        lambda path: load_tokenizer(path.parent, str(path.parent)),
        json_file,
        ("model.tokenizer",),
        15,
    ),
    "tokenizer's configuration": Reader(
        _checkpoint("tokenizer_config.json"),
        lambda path: load_tokenizer(path.parent, str(path.parent)),
        json_file,
        ("model.tokenizer",),
        25,
    ),
    "chat template": Reader(
        _template,
        _instructed,
        _bytes_only,
        ("calibration.corpora.instructions",),
        25,
    ),
    "token ids": Reader(_tokens, _ids, safetensors_file, ("calibration.tokens",), 150),
    "rows of data": Reader(
        _file("train.jsonl", _rows({"a": 1, "text": "x"}, {"a": 2, "text": "y"})),
        _data,
        json_lines,
        ("data.files", "data.root"),
        100,
    ),
    "packed rows of data": Reader(
        _file("train.jsonl.gz", gzip.compress(_rows({"text": "x"}, {"text": "y"}).encode())),
        _data,
        packed(json_lines),
        ("data.files",),
    ),
    "a list of data": Reader(
        _file("train.json", '[{"text": "x"}, {"text": "y"}]'), _data, json_file, ("data.files",)
    ),
    "parquet": Reader(_parquet, _data, _bytes_only, ("data.files",), 100),
    "documents": Reader(
        _file("mine.jsonl", _rows({"text": "x"}, {"text": "y"})),
        _documents,
        json_lines,
        ("calibration.corpora.text_files",),
    ),
    "plain text": Reader(
        _file("mine.txt", "One.\nTwo.\n"),
        _documents,
        _bytes_only,
        ("calibration.corpora.text_files",),
    ),
    "packed text": Reader(
        _file("mine.txt.gz", gzip.compress(b"One.\nTwo.\n")),
        _documents,
        _bytes_only,
        ("calibration.corpora.text_files",),
    ),
    "instructions": Reader(
        _file("mine.jsonl", _rows({"instruction": "a", "output": "b"})),
        _asked,
        json_lines,
        ("calibration.corpora.instructions", "calibration.corpora.draw"),
    ),
    "card of a data set": Reader(
        _file("README.md", README), _layout, front_matter, ("data.layout",), 150
    ),
    "note of the cache": Reader(
        _note, _read_note, _bytes_only, ("cache.sealed",), 60, _resealed_note
    ),
    "tensors of the cache": Reader(
        _statistic, _read_statistic, _bytes_only, ("cache.tensors",), 100, _resealed_note
    ),
    "a peer's report": Reader(
        _file("report.json", '{"seconds": 1.0}'),
        lambda path: report(path.parent),
        json_file,
        ("peers.exchange",),
    ),
    "method": Reader(
        _file("mine.py", METHOD),
        _method,
        python_file,
        ("method.registry",),
        60,
    ),
}
"""Every kind of file that people edit, by what it is."""

EXEMPT: dict[str, str] = {
    "cli.compress": "values of --set; `tests/cli` has them",
    "peers.peer": "what a Python interpreter answers",
    "cli.process.owners": "files of installed packages, as bytes",
    "code.library": "its own sources, as bytes",
    "code.outline": "sources of modules that Python has read before",
    "model.files.card": "what cannot be read of a card is left out; `test_beside` has it",
    "data.fingerprint": "a commit in the hub's cache; any text is taken",
    "disk.scratch": "the system's",
    "disk.reading": "what all others read with",
    "evaluate.lm_eval_tasks": "lm-eval's own files",
    "export.decoded": "what the export has just written",
    "export.proof": "what the export has just written",
    "measure.environment": "the system's",
    "measure.memory": "the system's",
    "method.source": "sources of installed modules",
    "model.families.shipped": "configurations in the package",
    "model.files.audit": "files that loading has read before",
    "model.files.opening": "`fit` and `identity` have read the folder before",
    "model.quantized.native": "its own source, and what it has just compiled",
    "model.stored": "files that `weight_files` has opened before",
    "peers.worker_process": "what a worker has printed; any text is taken",
    "peers.workers.llm_compressor_worker": "what the harness has just written, elsewhere",
    "peers.workers.peer_job": "what the harness has just written, elsewhere",
    "reference.real.__main__": "texts that become models, by hand",
    "reference.real.data_root": "texts that become data, by hand",
    "reference.real.dense": "made by hand",
    "reference.make": "made by hand, for the package itself",
    "run.process": "what a worker has printed; any text is taken",
}
"""Modules that read no file that a person edits, and why."""
