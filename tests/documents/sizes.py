"""Numbers that follow from shapes alone: no weights, no run."""

from __future__ import annotations

from harness.measure.analytic import analytic_macs
from harness.measure.size import measure_size
from harness.model.files.opening import open_meta
from harness.plan.suite import Suite
from harness.run.room import BESIDE, GIB, weight_bytes
from tests.documents.markdown import table

FULL_SIZE = (
    "mistralai/Mixtral-8x7B-v0.1",
    "Qwen/Qwen1.5-MoE-A2.7B",
    "deepseek-ai/DeepSeek-V2-Lite",
)
TOKENS = 2048
EFFICIENCY = ("efficiency-mixtral", "efficiency-qwen", "efficiency-deepseek")


def macs() -> str:
    """Multiply-accumulates of full-size models."""
    rows = []
    for ref in FULL_SIZE:
        model = open_meta(ref)
        parts = analytic_macs(model.lm, TOKENS)
        total, head = sum(parts.values()), parts["head"]
        count = measure_size(model, None).parameters
        cells = [
            f"{count / 1e9:.3f} B",
            str(TOKENS),
            f"{total / 1e12:.4f}",
            f"{100 * head / total:.1f} %",
        ]
        rows.append([ref.partition("/")[2], *cells])
    return table(["model", "parameters", "tokens", "TMACs", "of these in the LM head"], rows)


def gpu_memory() -> str:
    """The memory that the efficiency suites ask for."""
    rows = []
    for name in EFFICIENCY:
        suite = Suite.load(name)
        needed = max(weight_bytes(ref, suite.protocol.dtype) for ref in suite.models) + BESIDE
        rows.append([f"`{name}`", f"at least {-(-needed // GIB)} GiB"])
    return table(["suite", "memory of the GPU"], rows, left=(0, 1))
