"""The calibration corpora, as data: a new one is a new row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A text, and the procedure that cuts sequences from it."""

    name: str
    sampler: str
    """Key of `sampling.SAMPLERS`, or of `instructions.ANSWERED` where answers are told apart."""
    hub_id: str | None = None
    """Data set on the hub; None for what ships with the package and for users' files."""
    file: str = ""
    """Path within the hub repository or the package's data root; empty to go by the split."""
    config: str | None = None
    """The data set's configuration, where no file is named."""
    split: str = "train"
    files: str | None = None
    """A pattern of files to read instead of configuration and split."""
    field: str = "text"
    then: str = ""
    """A second field, which follows the first after a space."""
    sequences: int | None = 128
    """None for all rows, or for the share of them the authors take."""
    length: int = 2048
    """Tokens per sequence."""
    seed: int = 0
    paper: str = ""
    """The paper whose calibration it is."""

    @property
    def size(self) -> str:
        """Sequences and their length, to be read."""
        many = {"m-smoe": "a tenth"}.get(self.sampler, "all")
        return f"{self.sequences or many} x {self.length}"


INSTRUCTIONS, OWN_INSTRUCTIONS = "alpaca", "reference-instructions"
"""Corpora whose instructions throughput is measured with; the second is the reference models'."""

_C4: dict[str, Any] = {"hub_id": "allenai/c4", "file": "en/c4-train.00000-of-01024.json.gz"}
_WIKITEXT: dict[str, Any] = {"hub_id": "Salesforce/wikitext", "config": "wikitext-2-raw-v1"}
_PTB: dict[str, Any] = {
    "hub_id": "ptb-text-only/ptb_text_only",
    "config": "penn_treebank",
    "field": "sentence",
}
_EEP = "Lu et al. 2024, arXiv 2402.14800"
_SPARSEGPT = "Frantar and Alistarh 2023, arXiv 2301.00774"

_ROWS = (
    Corpus(name="eep", sampler="eep", **_C4, seed=42, paper=_EEP),
    Corpus(
        name="math",
        sampler="math",
        hub_id="EleutherAI/hendrycks_math",
        files="*/train-*",
        field="problem",
        then="solution",
        seed=42,
        paper=_EEP,
    ),
    Corpus(
        name="moe-i2", sampler="eep", **_C4, seed=42, paper="Yang et al. 2024, arXiv 2411.01016"
    ),
    Corpus(name="c-moe", sampler="c-moe", **_C4, paper="He et al. 2024, arXiv 2406.02500"),
    Corpus(name="wanda", sampler="wanda", **_C4, paper="Sun et al. 2023, arXiv 2306.11695"),
    Corpus(name="wikitext2", sampler="windows", **_WIKITEXT, paper=_SPARSEGPT),
    Corpus(name="ptb", sampler="windows", **_PTB, paper=_SPARSEGPT),
    Corpus(
        name="svd-llm",
        sampler="svd-llm",
        **_WIKITEXT,
        sequences=256,
        seed=3,
        paper="Wang et al. 2024, arXiv 2403.07378",
    ),
    Corpus(
        name="pile",
        sampler="pile",
        hub_id="mit-han-lab/pile-val-backup",
        split="validation",
        files="val.jsonl*",
        length=512,
        seed=42,
        paper="Lin et al. 2023, arXiv 2306.00978",
    ),
    Corpus(
        name="m-smoe",
        sampler="m-smoe",
        hub_id="JeanKaddour/minipile",
        split="validation",
        files="data/validation-*",
        sequences=None,
        length=512,
        paper="Li et al. 2024, arXiv 2310.01334",
    ),
    Corpus(
        name="reap",
        sampler="reap",
        hub_id="theblackcat102/evol-codealpaca-v1",
        sequences=1024,
        seed=42,
        paper="Lasby et al. 2025, arXiv 2510.13999",
    ),
    Corpus(
        name="alpaca",
        sampler="alpaca",
        hub_id="yahma/alpaca-cleaned",
        sequences=2048,
        length=256,
        paper="Yang et al. 2024, arXiv 2411.01016",
    ),
    Corpus(
        name="alpaca-gpt4",
        sampler="alpaca",
        hub_id="llamafactory/alpaca_gpt4_en",
        sequences=2048,
        length=1024,
        paper="He et al. 2024, arXiv 2406.02500",
    ),
    Corpus(
        name="metamathqa",
        sampler="alpaca",
        hub_id="meta-math/MetaMathQA",
        sequences=2048,
        length=512,
        paper="Yu et al. 2023, arXiv 2309.12284",
    ),
    Corpus(name="reference", sampler="documents", file="calibration.jsonl", length=256),
    Corpus(
        name="reference-instructions",
        sampler="questions",
        file="instructions.jsonl",
        sequences=None,
        length=64,
    ),
)

CORPORA: Mapping[str, Corpus] = {corpus.name: corpus for corpus in _ROWS}
"""The corpora that `calibration` in a suite may name beside a file."""
