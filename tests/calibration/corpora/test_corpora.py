from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from harness import reference
from harness.calibration.corpora.cutting import Draw
from harness.calibration.corpora.draw import CORPORA, tokens
from harness.calibration.corpora.instructions import ANSWERED
from harness.calibration.corpora.samplers import SAMPLERS
from harness.calibration.tokens import Tokens
from harness.data import DataRoot
from harness.errors import UserError

HUB = DataRoot(None)


def lines(path: Path, *rows: object) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


@pytest.mark.parametrize("name", ["eep", "c-moe", "wanda"])
def test_c4(
    name: str, data_root: Path, texts: list[str], tokenizer: PreTrainedTokenizerFast
) -> None:
    ours = tokens(name, tokenizer, sequences=6, length=48, data=DataRoot(data_root))
    sampler = SAMPLERS[CORPORA[name].sampler]
    expected = sampler(texts, tokenizer, Draw(sequences=6, length=48, seed=CORPORA[name].seed))
    assert torch.equal(ours.input_ids, expected)
    assert (ours.ref, ours.seed) == (name, 42 if name == "eep" else 0)
    assert "allenai/c4/en/c4-train.00000-of-01024.json.gz, field 'text'" in ours.source
    assert f"sampled as {name!r} with seed {ours.seed}" in ours.source


def test_papers_defaults() -> None:
    sizes = {n: (c.sequences, c.length, c.seed) for n, c in CORPORA.items() if c.hub_id}
    assert sizes == {
        "eep": (128, 2048, 42),
        "c-moe": (128, 2048, 0),
        "wanda": (128, 2048, 0),
        "moe-i2": (128, 2048, 42),
        "math": (128, 2048, 42),
        "wikitext2": (128, 2048, 0),
        "ptb": (128, 2048, 0),
        "svd-llm": (256, 2048, 3),
        "pile": (128, 512, 42),
        "m-smoe": (None, 512, 0),
        "reap": (1024, 2048, 42),
        "alpaca": (2048, 256, 0),
        "alpaca-gpt4": (2048, 1024, 0),
        "metamathqa": (2048, 512, 0),
    }
    assert all(c.sampler in {*SAMPLERS, *ANSWERED} for c in CORPORA.values())


def write(root: Path, hub_id: str, file: str, rows: list[dict[str, str]]) -> None:
    path = root / hub_id / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(row) for row in rows))


def test_moe_i2_reads_as_many_documents_as_eep(
    data_root: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    data = DataRoot(data_root)
    ours, eeps = (
        tokens(name, tokenizer, sequences=5, length=40, data=data) for name in ("moe-i2", "eep")
    )
    assert ours.sha256 == eeps.sha256
    assert CORPORA["moe-i2"].sequences == 2048 // 16


@pytest.mark.parametrize(
    ("name", "file", "field"),
    [
        ("wikitext2", "wikitext-2-raw-v1/train.jsonl", "text"),
        ("svd-llm", "wikitext-2-raw-v1/train.jsonl", "text"),
        ("ptb", "penn_treebank/train.jsonl", "sentence"),
        ("pile", "val.jsonl", "text"),
        ("m-smoe", "data/validation-00000-of-00001.jsonl", "text"),
    ],
)
def test_splits_of_a_data_root(
    name: str,
    file: str,
    field: str,
    tmp_path: Path,
    tokenizer: PreTrainedTokenizerFast,
    texts: list[str],
) -> None:
    corpus = CORPORA[name]
    documents = ["", *texts[:400], "", *texts[400:600]]  # wikitext has empty rows
    rows = [{field: text, "other": "x"} for text in documents]
    write(tmp_path, str(corpus.hub_id), file, rows)
    ours = tokens(name, tokenizer, sequences=4, length=30, data=DataRoot(tmp_path))
    expected = SAMPLERS[corpus.sampler](
        documents, tokenizer, Draw(sequences=4, length=30, seed=corpus.seed)
    )
    assert torch.equal(ours.input_ids, expected)
    assert (ours.attention_mask, ours.answers) == (None, None)
    assert f"field {field!r}, sampled as {corpus.sampler!r}" in ours.source


def test_a_tenth_of_minipile_unless_asked(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, texts: list[str]
) -> None:
    rows = [{"text": text} for text in texts]
    write(tmp_path, "JeanKaddour/minipile", "data/validation-0.jsonl", rows)
    data = DataRoot(tmp_path)
    tenth = tokens("m-smoe", tokenizer, length=32, data=data).sequences
    with pytest.raises(UserError, match=r"gives \d+ calibration sequences") as error:
        tokens("m-smoe", tokenizer, sequences=10**6, length=32, data=data)
    assert tenth == int(str(error.value).split(" gives ")[1].split()[0]) // 10 > 5


def test_math_has_problem_and_solution_of_every_subject(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, texts: list[str]
) -> None:
    hub_id = "EleutherAI/hendrycks_math"
    rows = [{"problem": f"How {t}?", "solution": t} for t in texts]
    write(tmp_path, hub_id, "geometry/train-0.jsonl", rows[700:])
    write(tmp_path, hub_id, "algebra/train-0.jsonl", rows[:700])
    write(tmp_path, hub_id, "algebra/test-0.jsonl", [{"problem": "no", "solution": "no"}])
    ours = tokens("math", tokenizer, sequences=6, length=40, data=DataRoot(tmp_path))
    documents = [f"How {t}? {t}" for t in texts]
    random.Random(42).shuffle(documents)
    expected = SAMPLERS["eep"](documents, tokenizer, Draw(sequences=6, length=40, seed=42))
    assert torch.equal(ours.input_ids, expected)
    assert "fields" not in ours.source
    assert "field 'problem' and 'solution'" in ours.source


@pytest.mark.parametrize("bad", [{"text": 3}, {"txt": "x"}])
def test_a_bad_row_of_a_split(
    bad: dict[str, object], tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    path = tmp_path / "Salesforce/wikitext/wikitext-2-raw-v1/train.jsonl"
    path.parent.mkdir(parents=True)
    lines(path, {"text": "fine"}, bad)
    with pytest.raises(UserError, match="Salesforce/wikitext: row 2 of train: "):
        tokens("wikitext2", tokenizer, data=DataRoot(tmp_path))


def test_seed_can_be_chosen(data_root: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    data = DataRoot(data_root)
    drawn = [
        tokens("eep", tokenizer, sequences=4, length=32, seed=s, data=data).sha256
        for s in (None, 42, 7)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_c4_from_the_hub(
    data_root: Path, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str, str]] = []

    def download(repo: str, file: str, *, repo_type: str) -> str:
        asked.append((repo, file, repo_type))
        return str(data_root / repo / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    fetched = tokens("wanda", tokenizer, sequences=3, length=32, data=HUB)
    here = tokens("wanda", tokenizer, sequences=3, length=32, data=DataRoot(data_root))
    assert fetched.sha256 == here.sha256
    assert asked == [("allenai/c4", "en/c4-train.00000-of-01024.json.gz", "dataset")]


def test_no_hub(tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: str, repo_type: str) -> str:
        raise OSError(f"no route to {repo_type}s.\nA hint.")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    with pytest.raises(UserError, match=r"from the hub \(OSError\); name a data root"):
        tokens("eep", tokenizer, data=HUB)


def test_data_root_without_the_file(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(UserError, match=r"'c-moe' reads .*allenai/c4/en/.* does not exist"):
        tokens("c-moe", tokenizer, data=DataRoot(tmp_path))


def test_reference_rows_start_with_documents(
    tmp_path: Path,
    texts: list[str],
    tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines(tmp_path / "calibration.jsonl", *({"text": t} for t in texts))
    monkeypatch.setattr(reference, "DATA", tmp_path)
    ours = tokens("reference", tokenizer, sequences=20, length=64, data=HUB)
    assert ours.input_ids[:, 0].eq(tokenizer.bos_token_id).all()
    other = tokens("reference", tokenizer, sequences=20, length=64, seed=1, data=HUB)
    assert other.seed == 1
    assert other.sha256 != ours.sha256


def test_shipped_reference_corpus() -> None:
    folder = reference.MODELS["reference/mixtral"]
    if not folder.is_dir() or not (reference.DATA / "calibration.jsonl").is_file():
        pytest.skip("the reference models have not been made")
    shipped = PreTrainedTokenizerFast.from_pretrained(folder)
    ours = tokens("reference", shipped, data=HUB)
    default = CORPORA["reference"]
    assert ours.input_ids.shape == (default.sequences, default.length)
    assert int(ours.input_ids.max()) < len(shipped)


def test_text_file_is_one_document(
    tmp_path: Path, texts: list[str], tokenizer: PreTrainedTokenizerFast
) -> None:
    path = tmp_path / "book.txt"
    path.write_text("\n\n".join(texts))
    ours = tokens(str(path), tokenizer, sequences=50, length=32, data=HUB)
    ids = torch.tensor(tokenizer(path.read_text())["input_ids"])
    windows = {tuple(w.tolist()) for w in ids[: len(ids) // 32 * 32].view(-1, 32)}
    assert {tuple(row.tolist()) for row in ours.input_ids} <= windows
    assert (ours.input_ids == tokenizer.bos_token_id).sum() <= 1
    assert (ours.ref, ours.seed) == (str(path), 0)
    assert "field" not in ours.source


@pytest.mark.parametrize("kind", [".jsonl", ".json", "-list.json", ".jsonl.gz", ".parquet"])
def test_rows_and_fields(
    tmp_path: Path, kind: str, texts: list[str], tokenizer: PreTrainedTokenizerFast
) -> None:
    rows = [{"id": i, "body": text} for i, text in enumerate(texts)]
    path = tmp_path / f"mine{kind}"
    if kind == "-list.json":
        path.write_text(json.dumps(rows, indent=1))
    elif kind == ".parquet":
        from datasets import Dataset

        Dataset.from_list(rows).to_parquet(str(path))
    else:
        data = "\n\n".join(json.dumps(row) for row in rows).encode()
        path.write_bytes(gzip.compress(data) if kind.endswith("gz") else data)
    ours = tokens(f"{path}#body", tokenizer, sequences=11, length=32, seed=4, data=HUB)
    expected = SAMPLERS["joined"](texts, tokenizer, Draw(sequences=11, length=32, seed=4))
    assert torch.equal(ours.input_ids, expected)
    assert ours.ref == f"{path}#body"


def test_real_text(tokenizer: PreTrainedTokenizerFast, real_texts: Path) -> None:
    path = real_texts / "ptb.valid.txt"
    ours = tokens(str(path), tokenizer, sequences=128, length=256, data=HUB)
    text = path.read_text()
    assert all(str(tokenizer.decode(row)) in text for row in ours.input_ids[1:20])
    again = tokens(str(path), tokenizer, sequences=128, length=256, data=HUB)
    assert ours.sha256 == again.sha256


def test_token_file(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    path = tmp_path / "t.safetensors"
    ids = torch.arange(24).view(4, 6)
    mask = torch.arange(6) < torch.tensor([[6], [6], [2], [6]])  # [4, 6]
    Tokens(ids, mask, "eep", 42, "As it was.").save(path)
    whole = tokens(str(path), tokenizer, data=HUB)
    assert torch.equal(whole.input_ids, ids)
    assert (whole.ref, whole.seed, whole.source) == (str(path), 42, "As it was.")
    part = tokens(str(path), tokenizer, sequences=3, length=4, data=HUB)
    assert torch.equal(part.input_ids, ids[:3, :4])
    assert part.attention_mask is not None
    assert part.attention_mask.sum(dim=1).tolist() == [4, 4, 2]
    with pytest.raises(UserError, match="holds 4 sequences of 6 tokens and 5 of 6 were asked"):
        tokens(str(path), tokenizer, sequences=5, data=HUB)
    Tokens(ids + 1000, None, "", 0, "").save(path)
    with pytest.raises(UserError, match="row 0 holds the id 1000"):
        tokens(str(path), tokenizer, data=HUB)


@pytest.mark.parametrize("ref", ["eep", "absent-is-fine.txt/../x.txt"])
def test_none_wanted(ref: str, tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    if ref != "eep":
        (tmp_path / "x.txt").write_text("")
        ref = str(tmp_path / "x.txt")
    assert tokens(ref, tokenizer, sequences=0, length=16, data=HUB).input_ids.shape == (0, 16)


@pytest.mark.parametrize(
    ("ref", "sentence"),
    [
        ("wnada", r"unknown calibration 'wnada'. Did you mean 'wanda'\?.*file that exists"),
        ("c4", "Known: alpaca, alpaca-gpt4, c-moe, eep, m-smoe, math, "),
        ("absent.jsonl", "'absent.jsonl': there is no file 'absent.jsonl'"),
        ("some/where#body", "there is no file 'some/where'"),
        (__file__, "the file is none of .txt, "),
    ],
)
def test_unknown(ref: str, sentence: str, tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(UserError, match=sentence):
        tokens(ref, tokenizer, data=HUB)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.jsonl", b'{"text": "fine"}\n{"text": ', r"a.jsonl:2: it is not JSON"),
        ("a.jsonl", b'{"text": "fine"}\n{"txt": "x"}', r"row 2: no field 'text'. Did you mean 'tx"),
        ("a.jsonl", b'{"text": "fine"}\n["x"]', r"a.jsonl:2: it should hold a JSON object"),
        ("a.jsonl", b'{"text": 3}', r"row 1: the field 'text' is int, not text"),
        ("a.jsonl", b'{"text": "fine"}\n{"text": " "}', r"row 2: the document is empty"),
        ("a.jsonl", b"\n", r"a.jsonl: holds no document"),
        ("a.txt", b" \n", r"a.txt: the document is empty"),
        ("a.txt", b"caf\xe9", r"a.txt: it is not text in UTF-8"),
        ("a.txt", b"two of eight", r"gives 0 calibration sequences of 64 tokens and 2 were"),
        (
            "a.txt.gz",
            gzip.compress(b"two of eight" * 99, mtime=0)[:20],
            r"cannot be unpacked to its end",
        ),
        ("a.jsonl.gz", b"no gzip", r"cannot be read to its end"),
        ("a.safetensors", b"{}", r"not a whole safetensors file"),
    ],
)
def test_bad_files(
    tmp_path: Path, name: str, content: bytes, sentence: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence) as error:
        tokens(str(tmp_path / name), tokenizer, sequences=2, length=64, data=HUB)
    assert name in str(error.value)


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [({"sequences": -1}, "sequences is -1"), ({"length": 0}, "length is 0")],
)
def test_bad_sizes(
    sizes: dict[str, int], sentence: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(UserError, match=sentence):
        tokens("eep", tokenizer, data=HUB, **sizes)


def test_listing_loads_no_library() -> None:
    code = (
        "import sys, harness.calibration.corpora.draw as c; c.CORPORA; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'datasets', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
