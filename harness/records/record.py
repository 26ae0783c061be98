"""A record: all that is known of one cell. It never changes once written."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from harness.records.basis import Basis

FORMAT: Final = 2
UNKNOWN: Final = ""
"""Digest of items that were written by a moebench that took none."""

FRACTIONS = ("acc", "acc_all", "acc_bytes", "acc_mutual_info", "acc_norm", "exact_match")
"""lm-eval's metrics that lie in 0..1 in every task; f1 and others are percent in some."""
LONGEST = 200
"""Bytes of a cell's id: names of files have at most 255."""
PERPLEXITIES = ("perplexity", "word_perplexity", "byte_perplexity")
"""lm-eval's metrics that are at least 1; of a single item it keeps their logarithms instead."""


def _fractions(metrics: Mapping[str, float]) -> Mapping[str, float]:
    for name, value in metrics.items():
        if name.partition(",")[0] in FRACTIONS and not 0 <= value <= 1:
            raise ValueError(f"{name} should be 0 to 1, not {value}")
    return metrics


def _metrics(metrics: Mapping[str, float]) -> Mapping[str, float]:
    for name, value in metrics.items():
        if name.partition(",")[0] in PERPLEXITIES and not value >= 1:
            raise ValueError(f"{name} should be at least 1, not {value}")
    return _fractions(metrics)


Count = Annotated[int, Field(ge=0)]
NonNegative = Annotated[float, Field(ge=0)]
"""A time in seconds, a standard error, an energy, a ratio."""
Fraction = Annotated[float, Field(ge=0, le=1)]
LogLikelihood = Annotated[float, Field(le=0)]


def _file_name(cell: str) -> str:
    if not cell or cell.startswith(".") or set(cell) & {"/", "\0"} or len(cell.encode()) > LONGEST:
        raise ValueError("no file can be called like that")
    return cell


CellId = Annotated[str, AfterValidator(_file_name)]
"""Id of a cell; files and folders are named after it."""


class _Data(BaseModel):
    """Data whose numbers are all finite, and in the range of what they count or measure."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TaskResult(_Data):
    """One task of lm-eval on one model."""

    task: str
    version: str
    items: Count
    shots: Count
    metrics: Annotated[dict[str, float], AfterValidator(_metrics)]
    """lm-eval's metric name to value, fractions in 0..1 ("acc", "acc_norm", "exact_match,..."). """
    stderr: dict[str, NonNegative] = Field(default_factory=dict)
    chance: Fraction | None = None
    """Expected accuracy of a uniform guess over the choices; None for generation."""
    majority: Fraction | None = None
    """Accuracy of always answering the commonest choice position; None for generation."""
    data: str
    """Hub id and config, and the sha256 of the evaluated items."""
    seconds: NonNegative


class Item(_Data):
    """The outcome of one item of one task, kept so that two models can be compared in pairs."""

    task: str
    """The task, or the subtask of a group ("mmlu_anatomy")."""
    item: str
    """lm-eval's doc hash."""
    prompt: str
    """lm-eval's prompt hash."""
    loglikelihoods: list[LogLikelihood] | None = None
    """Natural log-likelihood of each choice; None for generation."""
    greedy: list[bool] | None = None
    answer: str | None = None
    """Generated text after filtering; None for likelihood tasks."""
    metrics: Annotated[dict[str, float], AfterValidator(_fractions)]


class PerplexityResult(_Data):
    """Perplexity on one named text."""

    text: str
    """Name of the text with its rules for cutting and scoring, as `moebench list` spells it."""
    value: float = Field(ge=1)
    tokens: Count
    """Predicted tokens."""
    windows: Count
    length: Count
    """Tokens per window: the text's, or the model's limit where that is lower."""
    data: str
    """Hub id, config, split, and the sha256 of the token ids."""
    seconds: NonNegative
    note: str | None = None


class Size(_Data):
    """Parameters and bytes of the reloaded artifact."""

    parameters: Count
    expert_parameters: Count
    active_parameters: Count
    """Parameters one token multiplies: all but the routed experts not chosen."""
    nonzero_parameters: Count | None
    """Parameters that are not zero; None for a model without values (a dry run)."""
    resident_bytes: Count
    """Bytes of the unique tensor storages of the loaded model."""
    artifact_bytes: Count | None
    """Bytes of the safetensors files on disk, of random weights those that their tensors would
    take there; None where there are none."""


class Flops(_Data):
    """Multiply-accumulates of one forward pass, counted by fvcore on the meta device.

    `routing` says so where fvcore was not installed and both are the formula's.
    """

    macs: Count
    analytic_macs: Count
    tokens: Count
    """Length of the one sequence."""
    routing: str
    """The assumption on routing that the count rests on."""


class Memory(_Data):
    """Peak memory in bytes; what could not be measured is None."""

    rss_peak: Count | None = None
    """Largest resident set of the process since the reset (CPU)."""
    rss_before: Count | None = None
    """Resident set at the reset."""
    torch_peak: Count | None = None
    """torch.cuda.max_memory_allocated, summed over devices."""
    nvml_peak: Count | None = None
    """Memory used on the devices as NVML sees it: CUDA context and allocator cache included."""


class Gain(_Data):
    """The speed-up of one thing over another, from repetitions in which both took turns."""

    speedup: NonNegative
    """Ratio of the median times, the other thing's over this one's."""
    low: NonNegative
    high: NonNegative
    """Bounds of the 95 % bootstrap interval of the speedup over paired repetitions."""


class Timing(_Data):
    """Repetitions of one quantity, for the compressed model and the baseline in turn."""

    seconds: list[NonNegative]
    """Time of each repetition (decode: the median over the tokens of that repetition)."""
    cpu_seconds: list[NonNegative]
    baseline_seconds: list[NonNegative]
    baseline_cpu_seconds: list[NonNegative]
    speedup: NonNegative
    """Ratio of medians, baseline over compressed."""
    low: NonNegative
    high: NonNegative
    """Bounds of the 95 % bootstrap interval of the speedup over paired repetitions."""
    joules: list[NonNegative] | None = None
    """Energy of the accelerators in each repetition (decode: the mean over its tokens); None
    where nothing measures it."""
    baseline_joules: list[NonNegative] | None = None


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

    bytes_per_step: Count
    """Bytes that a step moves; it decodes one token of each sequence of the batch."""
    parts: dict[str, Count]
    """Bytes per step by part of the model."""
    context: Count
    """Tokens in the cache, per sequence: in the middle of what was decoded."""
    bandwidth: NonNegative
    """Bytes per second of a copy on the same device with the same threads, measured; read and
    written bytes both count."""
    reached: NonNegative
    """The shortest time over the median of the measured ones."""
    note: str
    """The number of experts that a step was taken to read, in words."""


class Speed(_Data):
    """Prefill and decode, repetitions interleaved with the baseline's."""

    length: Count
    """Prefill tokens; the protocol's 2048, or lower where the model's limit is lower."""
    new_tokens: Count
    batch: Count
    prefill: Timing
    decode: Timing
    """Times per generated token."""
    cache: str
    threads: Count
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

    prompts: Count
    prompt_tokens: Count
    """Tokens of all prompts together; the reference answers are part of them."""
    new_tokens: Count
    """New tokens per prompt, exactly: EOS is banned."""
    tokens_per_second: NonNegative
    """New tokens of all prompts over the time of all."""
    baseline_tokens_per_second: NonNegative
    speedup: NonNegative
    low: NonNegative
    high: NonNegative
    """Bounds of the 95 % bootstrap interval of the ratio, prompts resampled in pairs."""
    seconds: list[NonNegative]
    """Time of each prompt."""
    baseline_seconds: list[NonNegative]
    joules_per_token: NonNegative | None = None
    baseline_joules_per_token: NonNegative | None = None
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
    cores: Count
    threads: Count
    memory_bytes: Count
    device: str
    """"cpu", or the GPU's name."""
    driver: str | None = None
    versions: dict[str, str]
    commit: str | None = None
    """Commit of moebench's own checkout; None for an installed wheel."""
    dirty: bool | None = None

    @property
    def decisive(self) -> dict[str, str]:
        """The versions and the devices that change numbers or times, by name."""
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
    sequences: Count
    length: Count
    batch_size: Count
    seed: int
    tokens_per_expert: dict[int, dict[int, Count]] = Field(default_factory=dict)
    """Tokens routed to each expert of the base model, by block and expert."""


class StepInfo(_Data):
    """One step of the recipe, with every option resolved."""

    method: str
    options: dict[str, Any]
    calibration: CalibrationInfo | None = None
    seconds: NonNegative | None = None


class Record(_Data):
    """One cell's result."""

    format: Literal[2] = FORMAT
    cell: CellId
    """The cell id: a hash of all that the cell asks for; `basis` has what answered."""
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
    compression_seconds: NonNegative | None = None
    compression_cpu_seconds: NonNegative | None = None
    environment: Environment | None = None
    basis: Basis | None = None
    """Code and data that the numbers rest on; None in a record of a moebench that kept none."""
    items_sha256: str | None = Field(default=None, pattern="^([0-9a-f]{64})?$")
    """Hash of the outcomes of the items, a line each; None where there are none, `UNKNOWN` of
    older formats."""
    created: str
    """ISO 8601, UTC."""
    seconds: NonNegative
