"""Tables of the benchmarks' records: exact algorithms, packed decoding, quantization errors."""

from __future__ import annotations

import json
from typing import Any

from tests.documents.markdown import MISSING, between, table
from tests.documents.pages import ROOT

FOLDER = ROOT / "results" / "benchmarks"

EXACT = {
    "eep-r4": "EEP, 8 experts, all 70 subsets of 4",
    "eep-r6-r4": "EEP, sizes 6 and 4 from one pass, 98 subsets",
    "genetic-fitness": "genetic search, 60 experts, 15 pruned, per distinct candidate, "
    "preparation included",
    "importance-qwen2_moe": "leave-one-out importance, 12 layers of 16 experts, "
    "Qwen2-MoE's routing",
    "importance-mixtral": "the same, Mixtral's routing",
}
"""The subject of each record of `make bench`."""


def exact() -> str:
    """Exact algorithms against one forward per candidate."""
    records = {name: _record(name) for name in EXACT}
    rows = [
        [EXACT[name], _times(record["ratio"], record["low"], record["high"]), _ceiling(record)]
        for name, record in records.items()
    ]
    machines = dict.fromkeys(_machine(record["machine"]) for record in records.values())
    header = ["benchmark", "times faster", "ceiling by expert products"]
    return f"Measured on: {'; '.join(machines)}.\n\n{table(header, rows)}"


def decoding() -> str:
    """Packed weights against bfloat16 on a processor."""
    record = _record("cpu-decoding")
    over = "packed over baseline"
    rows = [
        ["decoding", _gain(record["decode"][over])],
        [
            "decoding, one of four blocks dropped, over packed alone",
            _gain(record["decode"]["block dropped, packed over packed"]),
        ],
        [
            "prefill (this processor multiplies no bfloat16; packed experts are multiplied in "
            "float32 there)",
            _gain(record["prefill"][over], digits=1),
        ],
    ]
    setting = (
        f"Mixtral's shape with {record['parameters'] / 1e6:.0f} M parameters in "
        f"{record['blocks']} blocks, batch 1, {record['context']:,} tokens of context; "
        f"{_machine(record['machine'])}."
    )
    return f"{setting}\n\n{table(['stage', 'times faster'], rows)}"


def quantization() -> str:
    """Errors of the quantizing methods on the reference models."""
    record = _record("quantization-error")
    rows = [
        [f"`{model}`", f"`{method}`", *_errors(errors)]
        for model, methods in record["models"].items()
        for method, errors in methods.items()
    ]
    setting = (
        f"{record['options']['bits']} bits, groups of {record['options']['group']}, routed and "
        f"shared experts, {record['dtype']}; calibrated on {record['sequences']} sequences of "
        f"{record['length']} tokens, held out on {record['sequences']} others."
    )
    header = [
        "model",
        "method",
        "objective / rounding's",
        "blocks below rounding's objective",
        "held-out layer error",
        "matrices quantized",
        "rounded for want of tokens",
    ]
    return f"{setting}\n\n{table(header, rows, left=(0, 1))}"


def _errors(errors: dict[str, Any]) -> list[str]:
    return [
        f"{errors['objective'] / errors['objective_of_rounding']:.2f}",
        errors["blocks_below_rounding"],
        f"{errors['held_out_layer_error']:.4f}",
        errors["quantized"],
        str(errors["rounded_for_want_of_tokens"] or MISSING),
    ]


def _record(name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return record


def _machine(machine: dict[str, Any]) -> str:
    threads = machine["threads"]
    used = f"{threads} of {machine['cores']} cores"
    return f"{machine['cpu']}, {used}, torch {machine['torch']}"


def _times(ratio: float, low: float, high: float) -> str:
    digits = 0 if ratio >= 100 else 1 if ratio >= 10 else 2
    return f"{ratio:.{digits}f} ({between(low, high, digits)})"


def _gain(gain: dict[str, dict[str, float]], digits: int = 2) -> str:
    wall = gain["wall"]
    return f"{wall['speedup']:.{digits}f} ({between(wall['low'], wall['high'], digits)})"


def _ceiling(record: dict[str, Any]) -> str:
    if "ceiling" not in record:
        return MISSING
    return f"{record['ceiling']:.{1 if record['ceiling'] >= 10 else 2}f}"
