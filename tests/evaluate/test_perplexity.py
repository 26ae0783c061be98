from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from harness.data import DataRoot
from harness.errors import UserError
from harness.evaluate import perplexity as module
from harness.evaluate.perplexity import TEXTS, perplexity, token_ids, windows

WORDS = "ka to mi ru se lon dra pe <unk> N"
AddSplit = Callable[..., None]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory, add_split: AddSplit) -> DataRoot:
    root = tmp_path_factory.mktemp("texts")
    pages = [{"text": f" {WORDS} {number}\n" * (number % 4)} for number in range(90)]
    for split in ("validation", "test"):
        sentences = [{"sentence": f"{WORDS} {split} {number}"} for number in range(60)]
        add_split(root, "ptb-text-only/ptb_text_only", "penn_treebank", split, sentences)
    add_split(root, "Salesforce/wikitext", "wikitext-2-raw-v1", "test", pages)
    add_split(root, "allenai/c4", "en", "train", [{"text": "never read"}])
    shard = root / "allenai/c4" / "en" / "c4-validation.00000-of-00008.json"
    lines = [json.dumps({"text": f"page {number} {WORDS}"}) for number in range(1200)]
    shard.with_suffix(".json.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    return DataRoot(root)


def _straight(lm: PreTrainedModel, ids: list[int], length: int, most: int | None = None) -> float:
    """One window and one position at a time, softmax in double precision."""
    means = []
    for start in range(0, len(ids) - length + 1, length)[:most]:
        window = torch.tensor([ids[start : start + length]])
        with torch.no_grad():
            logp = lm(input_ids=window).logits[0].double().log_softmax(-1)
        picked = [logp[place, window[0, place + 1]].item() for place in range(length - 1)]
        means.append(-sum(picked) / len(picked))
    return math.exp(sum(means) / len(means))


@pytest.mark.parametrize("family", ["mixtral", "qwen2_moe", "deepseek_v2"])
def test_perplexity_is_that_of_a_straightforward_loop(
    family: str,
    build: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerFast,
    texts: DataRoot,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lm = build(family)
    monkeypatch.setattr(module, "CHUNK", 100)  # upcast in pieces
    result = perplexity(lm, tokenizer, "wikitext2", data=texts, batch_size=3)
    rows = texts.rows("Salesforce/wikitext", "wikitext-2-raw-v1", "test")
    ids = tokenizer("\n\n".join(row["text"] for row in rows))["input_ids"]
    assert result.value == pytest.approx(_straight(lm, ids, 512), rel=1e-5)
    assert (result.length, result.windows) == (512, len(ids) // 512)
    assert result.tokens == result.windows * 511
    assert result.note == "windows of 512 tokens, the model's limit, not 2048"
    assert result.data.startswith("Salesforce/wikitext wikitext-2-raw-v1 test sha256:")


def test_a_shorter_protocol_keeps_its_length(
    mixtral: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: DataRoot
) -> None:
    result = perplexity(mixtral, tokenizer, "ptb-128", data=texts)
    ids = token_ids(TEXTS["ptb-128"], tokenizer, texts).tolist()
    assert (result.length, result.note) == (128, None)
    assert result.value == pytest.approx(_straight(mixtral, ids, 128), rel=1e-5)


def test_the_first_windows_are_said_to_be_the_first(
    mixtral: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: DataRoot
) -> None:
    whole = perplexity(mixtral, tokenizer, "ptb-128", data=texts)
    few = perplexity(mixtral, tokenizer, "ptb-128", data=texts, first=2)
    ids = token_ids(TEXTS["ptb-128"], tokenizer, texts).tolist()
    assert few.value == pytest.approx(_straight(mixtral, ids, 128, most=2), rel=1e-5)
    assert (few.windows, few.tokens) == (2, 2 * 127)
    assert few.note == f"only the first 2 of {whole.windows} windows"
    assert few.data != whole.data
    every = perplexity(mixtral, tokenizer, "ptb-128", data=texts, first=whole.windows)
    assert (every.value, every.note, every.data) == (whole.value, None, whole.data)
    short = perplexity(mixtral, tokenizer, "ptb", data=texts, first=1)
    assert short.note is not None
    assert short.note.startswith("windows of 512 tokens, the model's limit, not 2048; only the ")


def test_the_batch_changes_nothing(
    mixtral: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    texts: DataRoot,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = perplexity(mixtral, tokenizer, "ptb-128", data=texts, batch_size=1)
    many = perplexity(mixtral, tokenizer, "ptb-128", data=texts, batch_size=64)
    assert many.value == pytest.approx(one.value, rel=1e-6)
    assert many.data == one.data
    told: list[tuple[str, int, int]] = []
    monkeypatch.setattr(module, "LOGITS_BYTES", 1)  # not even one window fits
    perplexity(mixtral, tokenizer, "ptb-128", data=texts, progress=lambda *step: told.append(step))
    assert told == [("ptb-128", n + 1, one.windows) for n in range(one.windows)]


@pytest.mark.parametrize(
    ("name", "split", "join"),
    [
        ("ptb-special", "test", " "),
        ("ptb", "test", " "),
        ("ptb-svd-llm", "test", "\n\n"),
        ("ptb-validation", "validation", "\n\n"),
        ("ptb-128", "validation", "\n\n"),
    ],
)
def test_protocols_differ_in_split_join_and_unk(
    name: str, split: str, join: str, tokenizer: PreTrainedTokenizerFast, texts: DataRoot
) -> None:
    ids = token_ids(TEXTS[name], tokenizer, texts)
    text = join.join(f"{WORDS} {split} {number}" for number in range(60))
    assert tokenizer.decode(ids) == text
    # "<unk>" is a special token of this tokenizer: one id, or the five characters.
    unknown = (ids == tokenizer.unk_token_id).sum().item()
    assert unknown == (60 if name == "ptb-special" else 0)
    assert tokenizer("<unk>")["input_ids"] == [tokenizer.unk_token_id]  # left as it was


def test_c4_reads_the_first_documents_of_one_shard(
    tokenizer: PreTrainedTokenizerFast, texts: DataRoot
) -> None:
    protocol = TEXTS["c4"]
    ids = token_ids(protocol, tokenizer, texts)
    text = str(tokenizer.decode(ids))
    assert text.startswith("page 0 ka to")
    assert text.count("page") == 1100
    assert windows(ids, 16, protocol).shape == (256, 16)


def test_a_beginning_of_sequence_token_stands_once(
    tokenizer: PreTrainedTokenizerFast, texts: DataRoot, tmp_path: Path
) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer.save_pretrained(tmp_path)
    begins = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    begins.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", begins.bos_token_id)]
    )
    ids = token_ids(TEXTS["ptb"], begins, texts)
    assert ids[0] == begins.bos_token_id
    assert (ids == begins.bos_token_id).sum() == 1
    assert torch.equal(ids[1:], token_ids(TEXTS["ptb"], tokenizer, texts))


def test_too_little_text_is_an_error(
    mixtral: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    add_split: AddSplit,
) -> None:
    rows = [{"sentence": "ka to mi"}]
    add_split(tmp_path, "ptb-text-only/ptb_text_only", "penn_treebank", "test", rows)
    with pytest.raises(UserError, match=r"ptb: the test split .* less than one window of 512"):
        perplexity(mixtral, tokenizer, "ptb", data=DataRoot(tmp_path))


def test_rows_without_the_text_are_an_error(
    mixtral: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    add_split: AddSplit,
) -> None:
    rows = [{"sentence": "ka"}, {"text": "to"}]
    add_split(tmp_path, "ptb-text-only/ptb_text_only", "penn_treebank", "test", rows)
    with pytest.raises(UserError, match="row 2 of ptb-text-only/ptb_text_only, split test, has no"):
        perplexity(mixtral, tokenizer, "ptb", data=DataRoot(tmp_path))


def test_an_unknown_protocol_names_the_nearest(
    mixtral: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: DataRoot
) -> None:
    with pytest.raises(UserError, match=r"'wikitex2'. Did you mean 'wikitext2'\?"):
        perplexity(mixtral, tokenizer, "wikitex2", data=texts)


def test_a_loss_that_is_not_finite_is_an_error(
    build: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerFast, texts: DataRoot
) -> None:
    broken = build("mixtral")
    with torch.no_grad():
        broken.lm_head.weight.fill_(float("inf"))
    with pytest.raises(UserError, match=r"ptb-128: the loss of window 1 of \d+ is nan"):
        perplexity(broken, tokenizer, "ptb-128", data=texts)


def test_a_perplexity_that_no_number_holds_is_an_error(
    build: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerFast, texts: DataRoot
) -> None:
    broken = build("mixtral")
    with torch.no_grad():
        broken.lm_head.weight.mul_(1e6)
    with pytest.raises(UserError, match=r"ptb-128: the mean loss is \d+, whose exponential no"):
        perplexity(broken, tokenizer, "ptb-128", data=texts)


def test_windows_of_the_real_penn_treebank(
    real_texts: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, add_split: AddSplit
) -> None:
    lines = [line.strip() for line in (real_texts / "ptb.test.txt").read_text().splitlines()]
    rows = [{"sentence": line} for line in lines]
    add_split(tmp_path, "ptb-text-only/ptb_text_only", "penn_treebank", "test", rows)
    protocol = TEXTS["ptb"]
    ids = token_ids(protocol, tokenizer, DataRoot(tmp_path))
    assert tokenizer.decode(ids) == " ".join(lines)
    special = token_ids(TEXTS["ptb-special"], tokenizer, DataRoot(tmp_path))
    assert (special == tokenizer.unk_token_id).sum() == 4794
    assert len(ids) > len(special) + 2 * 4794
    cut = windows(ids, 2048, protocol)
    assert cut.shape == (len(ids) // 2048, 2048)
    assert torch.equal(cut.flatten(), ids[: cut.numel()])
    first = windows(ids, 2048, replace(protocol, windows=5))
    assert torch.equal(first, cut[:5])
