"""The protocol: everything that is frozen for every cell of a suite."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.fields import FieldInfo

EIGHT = (
    "arc_challenge",
    "boolq",
    "hellaswag",
    "mmlu",
    "openbookqa",
    "piqa",
    "rte",
    "winogrande",
)
"""The eight zero-shot tasks of the default average, as lm-eval spells them."""

LATER = ("windows", "batches", "instructions", "instruction_tokens")
"""Fields that the protocols of the first records did not have. Every new one goes here, and has
today's behaviour for its default: else all cells of all suites would be new ones."""


LARGEST_SEED = 2**32 - 1
"""The largest seed that NumPy takes."""
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
_MOST = 2**31 - 1
"""The largest count that any library here takes."""


class Protocol(BaseModel):
    """Everything about evaluation and measurement that a suite freezes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: tuple[str, ...] = EIGHT
    average: tuple[str, ...] = EIGHT
    """The tasks whose acc is averaged; the average is absent when one is missing."""
    shots: int | None = Field(default=0, ge=0, le=_MOST)
    """Few-shot examples for every task; None ("own" in a suite) leaves each task its default."""
    limit: int | None = Field(default=None, ge=1, le=_MOST)
    """Items per (sub)task; None for all."""
    perplexity: tuple[str, ...] = ("wikitext2", "ptb")
    """Names of the texts on which perplexity is taken."""
    windows: int | None = Field(default=None, ge=1, le=_MOST)
    """First windows of each text; None for all."""
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    batch_size: int = Field(default=16, ge=1, le=_MOST)
    experts_implementation: str = "grouped_mm"
    attention_implementation: str = "sdpa"
    measure: tuple[Literal["size", "flops", "memory", "speed", "stock", "instructions"], ...] = (
        "size",
        "flops",
        "memory",
        "speed",
    )
    sequence_length: int = Field(default=2048, ge=1, le=_MOST)
    """Tokens of the sequence that FLOPs, peak memory and the prefill are measured on."""
    new_tokens: int = Field(default=32, ge=1, le=_MOST)
    """Tokens decoded one by one after the prefill."""
    batches: tuple[Annotated[int, Field(le=_MOST)], ...] = Field(default=(1,), min_length=1)
    """Sequences decoded at once, one measurement each; tables show the first."""
    instructions: int = Field(default=50, ge=2, le=_MOST)
    """Number of prompts of EEP's throughput, where "instructions" is measured."""
    instruction_tokens: int = Field(default=512, ge=1, le=_MOST)
    """New tokens per prompt of EEP's throughput."""
    repetitions: int = Field(default=5, ge=5, le=_MOST)
    """Timed pairs of runs; with fewer than 5 the interval of a speedup holds less than it says."""
    threads: int | None = Field(default=None, ge=1, le=_MOST)
    """Number of CPU threads; None for torch's own choice."""

    @field_validator("shots", mode="before")
    @classmethod
    def _own_shots(cls, value: object) -> object:
        """Read "own", which is how a suite spells None: TOML has no word for it."""
        return None if value == "own" else value

    def limited(self, limit: int | None) -> Self:
        """The protocol for a first look: so many items per task, so many windows per text.

        Args:
            limit: None for the protocol itself.
        """
        if limit is None:
            return self
        return self.model_copy(update={"limit": limit, "windows": limit})

    @property
    def sha256(self) -> str:
        """Hash of the canonical JSON, without later fields at their default: old records stay."""
        fields = type(self).model_fields
        silent = {name for name in LATER if getattr(self, name) == _default(fields[name])}
        return hashlib.sha256(self.model_dump_json(exclude=silent).encode()).hexdigest()


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True, validated_data={})
