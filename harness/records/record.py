"""A record: all that is known of one cell. It never changes once written."""

from __future__ import annotations

from statistics import median
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.records.basis import Basis

FORMAT: Final = 1


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TaskResult(_Data):
    """One task of lm-eval on one model."""

    task: str
    version: str
    items: int
    shots: int
    metrics: dict[str, float]
    """lm-eval's metric name to value, fractions in 0..1 ("acc", "acc_norm", "exact_match,..."). """
    stderr: dict[str, float] = Field(default_factory=dict)
    chance: float | None = None
    """Expected accuracy of a uniform guess over the choices; None for generation."""
    majority: float | None = None
    """Accuracy of always answering the commonest choice position; None for generation."""
    data: str
    """Hub id and config, and the sha256 of the evaluated items."""
    seconds: float


class Item(_Data):
    """The outcome of one item of one task, kept so that two models can be compared in pairs."""

    task: str
    """The task, or the subtask of a group ("mmlu_anatomy")."""
    item: str
    """lm-eval's doc hash."""
    prompt: str
    """lm-eval's prompt hash."""
    loglikelihoods: list[float] | None = None
    """Natural log-likelihood of each choice; None for generation."""
    greedy: list[bool] | None = None
    answer: str | None = None
    """Generated text after filtering; None for likelihood tasks."""
    metrics: dict[str, float]


class PerplexityResult(_Data):
    """Perplexity on one named text."""

    text: str
    """Name of the text with its rules for cutting and scoring, as `moebench list` spells it."""
    value: float
    tokens: int
    """Predicted tokens."""
    windows: int
    length: int
    """Tokens per window: the text's, or the model's limit where that is lower."""
    data: str
    """Hub id, config, split, and the sha256 of the token ids."""
    seconds: float
    note: str | None = None


class Size(_Data):
    """Parameters and bytes of the reloaded artifact."""

    parameters: int
    expert_parameters: int
    active_parameters: int
    """Parameters one token multiplies: all but the routed experts not chosen."""
    nonzero_parameters: int | None
    """Parameters that are not zero; None for a model without values (a dry run)."""
    resident_bytes: int
    """Bytes of the unique tensor storages of the loaded model."""
    artifact_bytes: int | None
    """Bytes of the safetensors files on disk, of random weights those that their tensors would
    take there; None where there are none."""


class Flops(_Data):
    """Multiply-accumulates of one forward pass, counted by fvcore on the meta device.

    `routing` says so where fvcore was not installed and both are the formula's.
    """

    macs: int
    analytic_macs: int
    tokens: int
    """Length of the one sequence."""
    routing: str
    """The assumption on routing that the count rests on."""


class Memory(_Data):
    """Peak memory in bytes; what could not be measured is None."""

    rss_peak: int | None = None
    """Largest resident set of the process since the reset (CPU)."""
    rss_before: int | None = None
    """Resident set at the reset."""
    torch_peak: int | None = None
    """torch.cuda.max_memory_allocated, summed over devices."""
    nvml_peak: int | None = None
    """Memory used on the devices as NVML sees it: CUDA context and allocator cache included."""


class Gain(_Data):
    """The speed-up of one thing over another, from repetitions in which both took turns."""

    speedup: float
    """Ratio of the median times, the other thing's over this one's."""
    low: float
    high: float
    """Bounds of the 95 % bootstrap interval of the speedup over paired repetitions."""


class Timing(_Data):
    """Repetitions of one quantity, for the compressed model and the baseline in turn."""

    seconds: list[float]
    """Time of each repetition (decode: the median over the tokens of that repetition)."""
    cpu_seconds: list[float]
    baseline_seconds: list[float]
    baseline_cpu_seconds: list[float]
    speedup: float
    """Ratio of medians, baseline over compressed."""
    low: float
    high: float
    """Bounds of the 95 % bootstrap interval of the speedup over paired repetitions."""
    joules: list[float] | None = None
    """Energy of the accelerators in each repetition (decode: the mean over its tokens); None
    where nothing measures it."""
    baseline_joules: list[float] | None = None


class Stock(_Data):
    """The same tokens through one of transformers' own ways, both models in turn."""

    path: str
    """"expert loop" or "generate()"; see `docs/measurement.md`."""
    cache: str
    experts_implementation: str
    prefill: Timing
    decode: Timing
    over_prefill: Gain
    """Gains of the compressed model in our runtime over the baseline in this path."""
    over_decode: Gain


class Roofline(_Data):
    """The shortest time a decoding step can take: the bytes it must move over the bandwidth."""

    bytes_per_step: int
    """Bytes that a step moves; it decodes one token of each sequence of the batch."""
    parts: dict[str, int]
    """Bytes per step by part of the model."""
    context: int
    """Tokens in the cache, per sequence: in the middle of what was decoded."""
    bandwidth: float
    """Bytes per second of a copy on the same device with the same threads, measured; read and
    written bytes both count."""
    reached: float
    """The shortest time over the median of the measured ones."""
    note: str
    """The number of experts that a step was taken to read, in words."""


class Speed(_Data):
    """Prefill and decode, repetitions interleaved with the baseline's."""

    length: int
    """Prefill tokens; the protocol's 2048, or lower where the model's limit is lower."""
    new_tokens: int
    batch: int
    prefill: Timing
    decode: Timing
    """Times per generated token."""
    cache: str
    threads: int
    experts_implementation: str
    attention_implementation: str
    dtype: str
    device: str
    note: str | None = None
    runtime: Literal["eager", "graph"] = "eager"
    """`graph` where a decoding step of both models was replayed as a CUDA graph."""
    stock: list[Stock] = Field(default_factory=list)
    roofline: Roofline | None = None

    @property
    def fastest_stock(self) -> Stock | None:
        """The stock path in which the baseline decodes fastest."""
        paths = [path for path in self.stock if path.decode.baseline_seconds]
        return min(paths, key=lambda p: median(p.decode.baseline_seconds), default=None)


class Throughput(_Data):
    """Answers to instructions by `generate()`, one prompt at a time, prefill included (EEP's)."""

    prompts: int
    prompt_tokens: int
    """Tokens of all prompts together; the reference answers are part of them."""
    new_tokens: int
    """New tokens per prompt, exactly: EOS is banned."""
    tokens_per_second: float
    """New tokens of all prompts over the time of all."""
    baseline_tokens_per_second: float
    speedup: float
    low: float
    high: float
    """Bounds of the 95 % bootstrap interval of the ratio, prompts resampled in pairs."""
    seconds: list[float]
    """Time of each prompt."""
    baseline_seconds: list[float]
    joules_per_token: float | None = None
    baseline_joules_per_token: float | None = None
    data: str
    """The corpus, and the sha256 of the prompts' token ids."""
    note: str | None = None


DECISIVE: Final = ("torch", "transformers", "lm-eval")
"""Libraries whose version changes numbers."""


class Environment(_Data):
    """The machine and the libraries that the numbers were measured with."""

    python: str
    platform: str
    processor: str
    cores: int
    threads: int
    memory_bytes: int
    device: str
    """"cpu", or the GPU's name."""
    driver: str | None = None
    versions: dict[str, str]
    commit: str | None = None
    """Commit of moebench's own checkout; None for an installed wheel."""
    dirty: bool | None = None

    def apart(self, other: Environment) -> dict[str, tuple[str, str]]:
        """Return what differs and changes numbers or times: name to this value and the other's."""
        mine, theirs = self._decisive(), other._decisive()
        return {name: (mine[name], theirs[name]) for name in mine if mine[name] != theirs[name]}

    def _decisive(self) -> dict[str, str]:
        versions = {name: self.versions.get(name, "none") for name in DECISIVE}
        return {**versions, "device": self.device, "processor": self.processor}


class ModelInfo(_Data):
    """The base model of a cell."""

    ref: str
    family: str
    sha256: str
    """Hash of weights and configuration; where weights are random, of the configuration alone."""
    label: str
    """Name in tables; it says so where a model is a reference model or has random weights."""
    weights: Literal["stored", "random"] = "stored"
    """`random` where weights were drawn on the device: memory and speed without accuracy."""


class CalibrationInfo(_Data):
    """The tokens one step looked at."""

    ref: str
    sha256: str
    sequences: int
    length: int
    batch_size: int
    seed: int
    tokens_per_expert: dict[int, dict[int, int]] = Field(default_factory=dict)
    """Tokens routed to each expert of the base model, by block and expert."""


class StepInfo(_Data):
    """One step of the recipe, with every option resolved."""

    method: str
    options: dict[str, Any]
    calibration: CalibrationInfo | None = None
    seconds: float | None = None


class Record(_Data):
    """One cell's result."""

    format: Literal[1] = FORMAT
    cell: str
    """The cell id: a hash of everything that determines the result."""
    suite: str
    row: str
    """The name of the recipe as the suite spells it."""
    status: Literal["ok", "failed", "refused"]
    reason: str | None = None
    """One sentence for a refusal, the traceback for a failure."""
    model: ModelInfo
    recipe: list[StepInfo]
    """Steps in their order; none for the baseline."""
    seed: int
    protocol: str
    """The protocol's hash."""
    edits: list[dict[str, Any]] = Field(default_factory=list)
    notes: list[dict[str, Any]] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    audit: dict[str, Any] | None = None
    tasks: dict[str, TaskResult] = Field(default_factory=dict)
    perplexity: dict[str, PerplexityResult] = Field(default_factory=dict)
    size: Size | None = None
    flops: Flops | None = None
    memory_running: Memory | None = None
    memory_compressing: Memory | None = None
    speed: Speed | None = None
    """Speed at the protocol's first batch, in the faster runtime of the device."""
    speeds: list[Speed] = Field(default_factory=list)
    """Speeds in the other runtimes and at the other batches."""
    throughput: Throughput | None = None
    compression_seconds: float | None = None
    compression_cpu_seconds: float | None = None
    environment: Environment | None = None
    basis: Basis | None = None
    """Code and data that the numbers rest on; None in a record of a moebench that kept none."""
    items_sha256: str | None = None
    """Hash of the outcomes of the items; None where there are none."""
    created: str
    """ISO 8601, UTC."""
    seconds: float
