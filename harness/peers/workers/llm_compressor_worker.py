"""llm-compressor's worker. Run by its own interpreter: `python llm_compressor_worker.py FOLDER`."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from compressed_tensors.quantization import (
    QuantizationArgs,
    QuantizationScheme,
    QuantizationStrategy,
)
from compressed_tensors.quantization.lifecycle.forward import dequantize, quantize
from llmcompressor import oneshot
from llmcompressor.modeling.moe.linearize import linearize_moe
from llmcompressor.modifiers.gptq import GPTQModifier
from llmcompressor.modifiers.quantization import QuantizationModifier
from llmcompressor.modifiers.transform.awq import AWQModifier
from peer_job import PeerJob, Unable, check_loaded, digests, linear, main, same, write_blocks
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, PreTrainedModel


def run(job: PeerJob) -> dict[str, Any]:
    """Load, quantize, write."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        job.model, dtype="auto", trust_remote_code=False
    )
    if torch.cuda.is_available():
        model.to("cuda")  # type: ignore[arg-type]  # transformers wraps it
    linearize_moe(model)
    parameters = dict(model.named_parameters())
    check_loaded(job, parameters)
    before = digests(parameters)
    start = time.perf_counter()
    with without_pinning():
        oneshot(
            model=model,
            dataset=batches(job),
            recipe=recipe(job, model),
            num_calibration_samples=len(job.rows()),
            moe_calibrate_all_experts=job.options["all_experts"],
        )
    seconds = time.perf_counter() - start
    write_blocks(job, dict(model.named_parameters()), before, lambda name: unpack(job, model, name))
    return {"seconds": seconds}


def batches(job: PeerJob) -> DataLoader[dict[str, Tensor]]:
    """Sequences one at a time, which is the peer's own default: none then needs padding."""
    rows = [{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in job.rows()]
    return DataLoader(rows, batch_size=1, shuffle=False)  # type: ignore[arg-type]  # any sequence


def recipe(job: PeerJob, model: PreTrainedModel) -> list[Any]:
    """The peer's modifiers; rows shorter than a group are one group, quantized by channel."""
    groups: dict[str, QuantizationScheme] = {}
    for name, whole in (("grouped", False), ("rows", True)):
        targets = [module for module in job.modules if _is_row(job, model, module) == whole]
        if targets:
            groups[name] = QuantizationScheme(targets=targets, weights=_grid(job, whole))
    if job.algorithm == "awq":
        return [AWQModifier(**job.options["awq"]), QuantizationModifier(config_groups=groups)]
    return [GPTQModifier(config_groups=groups, **job.options["gptq"])]


def _is_row(job: PeerJob, model: PreTrainedModel, name: str) -> bool:
    inputs = int(linear(model, name).in_features)
    return bool(job.size(inputs) == inputs)


def _grid(job: PeerJob, whole: bool) -> QuantizationArgs:
    grid = {"num_bits": job.bits, "type": "int", "symmetric": job.symmetric}
    if whole:
        return QuantizationArgs(**grid, strategy=QuantizationStrategy.CHANNEL)
    return QuantizationArgs(**grid, strategy=QuantizationStrategy.GROUP, group_size=job.group)


def unpack(job: PeerJob, model: PreTrainedModel, name: str) -> dict[str, Tensor]:
    """Codes as the peer's own compressor computes them, moved from signed to unsigned."""
    module: Any = linear(model, name)
    scheme = getattr(module, "quantization_scheme", None)
    if scheme is None or getattr(module, "weight_scale", None) is None:
        raise Unable(f"it left {name} as it was.")
    if getattr(module, "weight_g_idx", None) is not None:
        raise Unable(f"it mixed the groups of {name}; use another order.")
    args, scale, weight = scheme.weights, module.weight_scale, module.weight.detach()
    zero = None if job.symmetric else module.weight_zero_point
    codes = quantize(x=weight, scale=scale, zero_point=zero, args=args, dtype=torch.int8)
    theirs = dequantize(x_q=codes, scale=scale, zero_point=zero, args=args)
    half = 2 ** (job.bits - 1)
    scales = scale.detach().reshape(len(weight), -1)  # [outputs, groups]
    tensors = {"codes": (codes.int() + half).to(torch.uint8), "scales": scales}
    ours = codes.float()
    if zero is not None:
        zeros = zero.detach().reshape(scales.shape)
        ours = ours - _spread(zeros.float(), weight)
        tensors["zeros"] = (zeros.int() + half).to(torch.uint8)
    ours = (ours * _spread(scales.float(), weight)).to(theirs.dtype)
    same(ours, theirs, name)
    if job.algorithm == "gptq":  # which leaves weights on the grid; rounding moved none of them
        same(ours, weight, name)
    return tensors


def _spread(values: Tensor, weight: Tensor) -> Tensor:
    """[outputs, groups] to [outputs, inputs]."""
    return values.repeat_interleave(weight.shape[1] // values.shape[1], 1)


@contextlib.contextmanager
def without_pinning() -> Iterator[None]:
    """Pinned memory needs an accelerator; without one AWQ's cache would ask for it all the same."""
    if torch.cuda.is_available():
        yield
        return
    pin = Tensor.pin_memory
    Tensor.pin_memory = lambda self, *_, **__: self  # type: ignore[method-assign]
    try:
        yield
    finally:
        Tensor.pin_memory = pin  # type: ignore[method-assign]


if __name__ == "__main__":
    main("llmcompressor", run)
