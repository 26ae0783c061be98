"""Each sampler against a second writing of the procedure it names."""

from __future__ import annotations

import random
from itertools import chain
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from harness.calibration.corpora.cutting import Draw
from harness.calibration.corpora.joined_samplers import m_smoe, pile, svd_llm, windows
from harness.calibration.corpora.samplers import SAMPLERS, c_moe, document_rows, eep, joined, wanda
from harness.errors import UserError

Ids = list[list[int]]


def blocks(tokens: Dataset, length: int, *, keep_short: bool) -> Ids:
    """Blocks as Hugging Face's language-modelling scripts group a tokenised data set."""

    def group(batch: dict[str, Any]) -> dict[str, Any]:
        ids = list(chain(*batch["input_ids"]))
        end = len(ids)
        if end >= length or not keep_short:
            end = end // length * length
        return {"input_ids": [ids[i : i + length] for i in range(0, end, length)]}

    grouped = tokens.select_columns(["input_ids"]).map(group, batched=True)
    return [list(row) for row in grouped["input_ids"]]


def tokenised(texts: list[str], tokenizer: PreTrainedTokenizerFast, **options: Any) -> Dataset:
    corpus = Dataset.from_dict({"text": texts})
    return corpus.map(
        lambda batch: tokenizer(batch["text"], **options), batched=True, remove_columns=["text"]
    )


def eep_by_datasets(
    texts: list[str], tokenizer: PreTrainedTokenizerFast, n: int, length: int, seed: int
) -> Ids:
    shuffled = Dataset.from_dict({"text": texts}).shuffle(seed=seed)
    chosen = shuffled.select(range(min(16 * n, len(texts))))["text"]
    return blocks(tokenised(list(chosen), tokenizer), length, keep_short=True)[:n]


def wanda_by_loop(
    texts: list[str], tokenizer: PreTrainedTokenizerFast, n: int, length: int, seed: int
) -> Ids:
    random.seed(seed)
    rows = []
    for _ in range(n):
        while True:
            document = random.randint(0, len(texts) - 1)
            ids = tokenizer(texts[document], return_tensors="pt").input_ids
            if ids.shape[1] > length:
                break
        start = random.randint(0, ids.shape[1] - length - 1)
        rows.append(ids[0, start : start + length].tolist())
    return rows


@pytest.mark.parametrize(("sequences", "length", "seed"), [(80, 24, 42), (5, 64, 42), (80, 24, 1)])
def test_eep(
    texts: list[str], tokenizer: PreTrainedTokenizerFast, sequences: int, length: int, seed: int
) -> None:
    # 80 sequences take 1,280 documents, hence two map batches; rows reach the second at 24.
    ours = eep(texts, tokenizer, Draw(sequences=sequences, length=length, seed=seed))
    assert ours.tolist() == eep_by_datasets(texts, tokenizer, sequences, length, seed)


def test_eep_drops_the_rest_of_every_map_batch(tokenizer: PreTrainedTokenizerFast) -> None:
    texts = ["two"] * 1280
    per_batch = 1000 * len(tokenizer("two")["input_ids"])
    length = next(n for n in range(per_batch // 70, per_batch) if per_batch % n)
    sequences = per_batch // length + 3
    # Only a text as short as this makes rows of the second batch be reached.
    ours = eep(texts, tokenizer, Draw(sequences=sequences, length=length, seed=42))
    assert ours.tolist() == eep_by_datasets(texts, tokenizer, sequences, length, 42)
    assert ours[-3].tolist() == ours[0].tolist(), "the second batch starts with a document"


def test_eep_has_a_bos_per_document(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> None:
    ours = eep(texts, tokenizer, Draw(sequences=40, length=64, seed=42))
    assert (ours == tokenizer.bos_token_id).sum() > 40
    assert not (ours == tokenizer.eos_token_id).any()


def test_eep_takes_sixteen_documents_per_sequence(tokenizer: PreTrainedTokenizerFast) -> None:
    length = 16 * len(tokenizer("two")["input_ids"])
    assert eep(["two"] * 100, tokenizer, Draw(sequences=3, length=length, seed=42)).shape == (
        3,
        length,
    )
    with pytest.raises(UserError, match="gives 2 calibration sequences"):
        eep(["two"] * 100, tokenizer, Draw(sequences=3, length=length + 1, seed=42))


def test_eep_stops_at_a_batch_without_a_row(tokenizer: PreTrainedTokenizerFast) -> None:
    # 1,000 documents that are no row, then one that is more than enough: the authors' rows
    # would begin with a short one.
    order = Dataset.from_dict({"i": list(range(1100))}).shuffle(seed=42)["i"]
    texts = ["a"] * 1100
    length = 1000 * len(tokenizer("a")["input_ids"]) + 1
    texts[order[1004]] = " 7" * 64 * length
    assert len(eep_by_datasets(texts, tokenizer, 63, length, 42)[0]) < length
    with pytest.raises(UserError, match="gives 0 calibration sequences"):
        eep(texts, tokenizer, Draw(sequences=63, length=length, seed=42))


def test_eep_uses_no_short_batch(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(UserError, match="C4 gives 0 calibration sequences of 500 tokens and 2"):
        eep(["a token"] * 32, tokenizer, Draw(sequences=2, length=500, seed=42, name="C4"))


@pytest.mark.parametrize(("sequences", "length"), [(3, 64), (900, 32)])
def test_c_moe(
    texts: list[str], tokenizer: PreTrainedTokenizerFast, sequences: int, length: int
) -> None:
    ended = [text + "</s>" for text in texts]
    theirs = tokenised(ended, tokenizer, add_special_tokens=False)
    rows = blocks(theirs, length, keep_short=False)
    ours = c_moe(texts, tokenizer, Draw(sequences=sequences, length=length))
    assert ours.tolist() == rows[:sequences]
    assert not (ours == tokenizer.bos_token_id).any()
    assert (ours == tokenizer.eos_token_id).any()


def test_c_moe_crosses_a_map_batch(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> None:
    first = c_moe(texts[:1000], tokenizer, Draw(sequences=1, length=32))
    ids = tokenizer([t + "</s>" for t in texts[:1000]], add_special_tokens=False)["input_ids"]
    cut = sum(map(len, ids)) // 32
    rows = c_moe(texts, tokenizer, Draw(sequences=cut + 1, length=32))
    assert rows[0].tolist() == first[0].tolist()
    second = c_moe(texts[1000:], tokenizer, Draw(sequences=1, length=32))
    assert rows[-1].tolist() == second[0].tolist()


def test_c_moe_reads_no_more_than_it_needs(tokenizer: PreTrainedTokenizerFast) -> None:
    def endless() -> Any:
        while True:
            yield "a small expert"

    assert c_moe(endless(), tokenizer, Draw(sequences=2, length=16)).shape == (2, 16)


def test_c_moe_without_eos(texts: list[str], without_eos: PreTrainedTokenizerFast) -> None:
    with pytest.raises(UserError, match="the EOS token and the tokenizer has none"):
        c_moe(texts, without_eos, Draw(sequences=1, length=8))


@pytest.mark.parametrize("seed", [0, 3])
def test_wanda(texts: list[str], tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
    ours = wanda(texts, tokenizer, Draw(sequences=12, length=100, seed=seed))
    assert ours.tolist() == wanda_by_loop(texts, tokenizer, 12, 100, seed)


def test_wanda_leaves_the_global_generator_alone(
    texts: list[str], tokenizer: PreTrainedTokenizerFast
) -> None:
    random.seed(5)
    before = random.getstate()
    wanda(texts, tokenizer, Draw(sequences=2, length=50, seed=0))
    assert random.getstate() == before


def test_wanda_needs_one_token_more_than_the_window(tokenizer: PreTrainedTokenizerFast) -> None:
    text = "the expert reads a token"
    length = len(tokenizer(text)["input_ids"])
    rows = wanda([text, "it"], tokenizer, Draw(sequences=4, length=length - 1, seed=0))
    assert rows[:, 0].eq(tokenizer.bos_token_id).all(), "only the start 0 is ever drawn"
    with pytest.raises(UserError, match=f"no document of it has more than {length} tokens"):
        wanda([text, "it"], tokenizer, Draw(sequences=1, length=length, seed=0, name="it"))
    with pytest.raises(UserError, match="no document"):
        wanda([], tokenizer, Draw(sequences=1, length=4, seed=0))


def test_joined(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> None:
    ids = [i for text in texts for i in tokenizer(text)["input_ids"]]
    rows = torch.tensor(ids[: len(ids) // 32 * 32]).view(-1, 32)  # [windows, length]
    total = len(rows)
    assert torch.equal(joined(texts, tokenizer, Draw(sequences=total, length=32)), rows)

    drawn = joined(texts, tokenizer, Draw(sequences=total, length=32, seed=0))
    assert sorted(drawn.tolist()) == sorted(rows.tolist()), "without replacement"
    assert not torch.equal(drawn, rows)
    fewer = joined(texts, tokenizer, Draw(sequences=9, length=32, seed=0))
    assert torch.equal(fewer, drawn[:9])
    other = joined(texts, tokenizer, Draw(sequences=9, length=32, seed=1))
    assert not torch.equal(fewer, other)

    with pytest.raises(UserError, match=f"gives {total} calibration sequences of 32 tokens and"):
        joined(texts, tokenizer, Draw(sequences=total + 1, length=32, seed=0))


def test_document_rows(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> None:
    documents = [tokenizer(text)["input_ids"] for text in texts]
    rows, at = [], 0
    while at < len(documents):
        row: list[int] = []
        while len(row) < 90 and at < len(documents):
            row, at = row + documents[at], at + 1
        if len(row) >= 90:
            rows.append(row[:90])
    ours = document_rows(texts, tokenizer, Draw(sequences=len(rows), length=90))
    assert ours.tolist() == rows
    assert ours[:, 0].eq(tokenizer.bos_token_id).all()
    drawn = document_rows(texts, tokenizer, Draw(sequences=len(rows), length=90, seed=2))
    assert drawn.tolist() != rows
    assert sorted(drawn.tolist()) == sorted(rows)


@pytest.mark.parametrize("seed", [0, 4])
def test_windows(texts: list[str], tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
    documents = ["", *texts[:60], ""]
    ids = tokenizer(" ".join(documents), return_tensors="pt").input_ids
    random.seed(seed)
    rows = []
    for _ in range(9):
        start = random.randint(0, ids.shape[1] - 50 - 1)
        rows.append(ids[0, start : start + 50].tolist())
    ours = windows(iter(documents), tokenizer, Draw(sequences=9, length=50, seed=seed))
    assert ours.tolist() == rows


def test_windows_need_one_token_more(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = tokenizer("it reads")["input_ids"]
    ours = windows(["it", "reads"], tokenizer, Draw(sequences=2, length=len(ids) - 1, seed=0))
    assert ours.tolist() == [ids[:-1]] * 2
    with pytest.raises(UserError, match=f"PTB has {len(ids)} tokens; windows of {len(ids)} need"):
        windows(["it", "reads"], tokenizer, Draw(sequences=2, length=len(ids), seed=0, name="PTB"))


def test_svd_llm(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> None:
    documents = ["", *texts[:200]]
    joined = "\n\n".join(documents)
    draw = random.Random(3)
    rows: Ids = []
    while len(rows) < 30:
        start = draw.randint(0, len(joined) - 40 - 1)
        ids = tokenizer(joined[start : start + 400])["input_ids"][:40]
        rows += [ids] if len(ids) == 40 else []
    assert svd_llm(documents, tokenizer, Draw(sequences=30, length=40, seed=3)).tolist() == rows
    assert all(row[0] == tokenizer.bos_token_id for row in rows)


def test_svd_llm_draws_again_at_the_end_of_the_text(tokenizer: PreTrainedTokenizerFast) -> None:
    text = "the expert reads a token and sends it to networks " * 3
    length = len(tokenizer(text)["input_ids"]) - 6
    ours = svd_llm([text], tokenizer, Draw(sequences=5, length=length, seed=3))
    assert ours.shape == (5, length)
    for hopeless in ("", text[:length]):
        with pytest.raises(UserError, match="no stretches of"):
            svd_llm([hopeless], tokenizer, Draw(sequences=5, length=length, seed=3))
    with pytest.raises(UserError, match="no stretches of"):
        svd_llm(["the the the"], tokenizer, Draw(sequences=1, length=10, seed=3))


def test_pile(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> None:
    long = " ".join(texts[:100])
    assert len(tokenizer(long)["input_ids"]) > 512
    documents = [long, *(f"  {text}\n" for text in texts[:300]), long]
    shuffled = Dataset.from_dict({"text": documents}).shuffle(seed=42)
    ids: list[int] = []
    for row in shuffled:
        line = tokenizer.encode(row["text"].strip())
        if len(line) <= 512:
            ids += line
    ours = pile(documents, tokenizer, Draw(sequences=len(ids) // 64, length=64, seed=42))
    assert ours.flatten().tolist() == ids[: len(ids) // 64 * 64]
    with pytest.raises(UserError, match="calibration sequences of 64 tokens"):
        pile(documents, tokenizer, Draw(sequences=len(ids) // 64 + 1, length=64, seed=42))


@pytest.mark.parametrize("count", [100, 5])
def test_m_smoe(texts: list[str], tokenizer: PreTrainedTokenizerFast, count: int) -> None:
    corpus = Dataset.from_dict({"text": texts[:count]})
    rows: Ids = []
    for part in range(8):
        if part < count:
            shard = corpus.shard(num_shards=min(8, count), index=part, contiguous=True)
            rows += blocks(tokenised(list(shard["text"]), tokenizer), 16, keep_short=False)
    every = m_smoe(texts[:count], tokenizer, Draw(sequences=len(rows), length=16, seed=0))
    assert sorted(every.tolist()) == sorted(rows)
    assert every.tolist() != rows
    tenth = m_smoe(texts[:count], tokenizer, Draw(sequences=None, length=16, seed=0))
    assert torch.equal(tenth, every[: len(rows) // 10])
    other = m_smoe(texts[:count], tokenizer, Draw(sequences=len(rows), length=16, seed=1))
    assert other.tolist() != every.tolist()


@pytest.mark.parametrize("name", SAMPLERS)
def test_same_seed_same_rows(
    name: str, texts: list[str], tokenizer: PreTrainedTokenizerFast
) -> None:
    sampler = SAMPLERS[name]
    torch.manual_seed(1)
    first = sampler(iter(texts), tokenizer, Draw(sequences=7, length=40, seed=3))
    torch.manual_seed(2)
    assert torch.equal(first, sampler(texts, tokenizer, Draw(sequences=7, length=40, seed=3)))
    assert first.dtype == torch.int64
    assert first.shape == (7, 40)
