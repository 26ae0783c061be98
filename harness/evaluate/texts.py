"""The perplexity protocols, as data: a new one is a new row."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PerplexityProtocol:
    """One way to make a number of a text."""

    name: str
    hub_id: str
    config: str | None
    split: str
    field: str
    """The rows' key that holds the text."""
    join: str
    """Between rows, empty ones included."""
    length: int
    """Tokens per window; the model's limit where that is lower."""
    source: str
    """Where the protocol comes from."""
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
    PerplexityProtocol(
        "wikitext2",
        *_WIKITEXT,
        split="test",
        field="text",
        join="\n\n",
        length=2048,
        source="GPTQ, SparseGPT, Wanda",
    ),
    PerplexityProtocol(
        "wikitext2-128",
        *_WIKITEXT,
        split="test",
        field="text",
        join="\n\n",
        length=128,
        source="LLM-Pruner",
    ),
    PerplexityProtocol(
        "ptb",
        *_PTB,
        split="test",
        field="sentence",
        join=" ",
        length=2048,
        source="GPTQ's ptb-new, OWQ, LightCompress; <unk> read as text",
        split_special_tokens=True,
    ),
    PerplexityProtocol(
        "ptb-special",
        *_PTB,
        split="test",
        field="sentence",
        join=" ",
        length=2048,
        source="GPTQ's ptb-new; <unk> as the tokenizer takes it, a special token in some",
    ),
    PerplexityProtocol(
        "ptb-validation",
        *_PTB,
        split="validation",
        field="sentence",
        join="\n\n",
        length=2048,
        source="GPTQ's ptb; <unk> read as text",
        split_special_tokens=True,
    ),
    PerplexityProtocol(
        "ptb-svd-llm",
        *_PTB,
        split="test",
        field="sentence",
        join="\n\n",
        length=2048,
        source="SVD-LLM; <unk> read as text",
        split_special_tokens=True,
    ),
    PerplexityProtocol(
        "ptb-128",
        *_PTB,
        split="validation",
        field="sentence",
        join="\n\n",
        length=128,
        source="LLM-Pruner; <unk> read as text",
        split_special_tokens=True,
    ),
    PerplexityProtocol(
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

PROTOCOLS: dict[str, PerplexityProtocol] = {row.name: row for row in _ROWS}
