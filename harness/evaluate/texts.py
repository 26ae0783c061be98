"""The texts that perplexity is measured on, as data: a new one is a new row."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PerplexityText:
    """A text, and the way in which it is joined and cut."""

    name: str
    hub_id: str
    config: str | None
    split: str
    field: str
    """The rows' key that holds the text."""
    join: str
    """Text put between rows, empty ones included."""
    length: int
    """Tokens per window; the model's limit where that is lower."""
    source: str
    """The paper or code that cuts the text this way."""
    files: str | None = None
    """A pattern of files to read instead of config and split."""
    documents: int | None = None
    """The first rows only."""
    windows: int | None = None
    """The first windows only."""
    split_special_tokens: bool = False
    """Read a special token that the text spells out ("<unk>") as the characters it is."""


_PTB = ("ptb-text-only/ptb_text_only", "penn_treebank")
_WIKITEXT = ("Salesforce/wikitext", "wikitext-2-raw-v1")

_ROWS = (
    PerplexityText(
        "wikitext2",
        *_WIKITEXT,
        split="test",
        field="text",
        join="\n\n",
        length=2048,
        source="GPTQ, SparseGPT, Wanda",
    ),
    PerplexityText(
        "wikitext2-128",
        *_WIKITEXT,
        split="test",
        field="text",
        join="\n\n",
        length=128,
        source="LLM-Pruner",
    ),
    PerplexityText(
        "wikitext2-words",
        "Salesforce/wikitext",
        "wikitext-2-v1",
        split="test",
        field="text",
        join="",
        length=2048,
        source="WikiText-2 as word tokens; <unk> read as text",
        split_special_tokens=True,
    ),
    PerplexityText(
        "ptb",
        *_PTB,
        split="test",
        field="sentence",
        join=" ",
        length=2048,
        source="GPTQ's ptb-new, OWQ, LightCompress; <unk> read as text",
        split_special_tokens=True,
    ),
    PerplexityText(
        "ptb-special",
        *_PTB,
        split="test",
        field="sentence",
        join=" ",
        length=2048,
        source="GPTQ's ptb-new; <unk> as the tokenizer takes it, a special token in some",
    ),
    PerplexityText(
        "ptb-validation",
        *_PTB,
        split="validation",
        field="sentence",
        join="\n\n",
        length=2048,
        source="GPTQ's ptb; <unk> read as text",
        split_special_tokens=True,
    ),
    PerplexityText(
        "ptb-svd-llm",
        *_PTB,
        split="test",
        field="sentence",
        join="\n\n",
        length=2048,
        source="SVD-LLM; <unk> read as text",
        split_special_tokens=True,
    ),
    PerplexityText(
        "ptb-128",
        *_PTB,
        split="validation",
        field="sentence",
        join="\n\n",
        length=128,
        source="LLM-Pruner; <unk> read as text",
        split_special_tokens=True,
    ),
    PerplexityText(
        "c4",
        "allenai/c4",
        "en",
        split="validation",
        field="text",
        join=" ",
        length=2048,
        source="GPTQ's c4-new, Wanda",
        files="en/c4-validation.00000-of-00008.json.gz",
        documents=1100,
        windows=256,
    ),
)

TEXTS: dict[str, PerplexityText] = {row.name: row for row in _ROWS}
