"""Packed 4-bit experts against bfloat16 on a CPU: `python -m tests.benchmarks.cpu_decoding`.

A Mixtral-shaped model with random weights, batch 1. Every repetition runs all models, one right
after the other, their order reversed every time; decoding goes on from the same 2,048 tokens of
context each time. The baseline is whichever way of running bfloat16 is the faster one.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, MixtralConfig, PreTrainedModel

from harness.intervals import speedup
from harness.measure.exclusive import exclusive
from harness.measure.size import resident_bytes
from harness.measure.speed.roofline import roofline
from harness.measure.speed.runtime import Generation
from harness.method.quantization.grid import rounded
from harness.model.editing.surgery import own
from harness.model.edits import DropBlock, QuantizeWeights
from harness.model.layers.packed import settle
from harness.model.quantized import native
from harness.model.quantized.scheme import Scheme
from harness.model.view import MoEModel
from tests.benchmarks.conftest import machine

CONTEXT, FEW = 2048, 64
SCHEME = Scheme(bits=4, group=128)
BASELINES = ("expert loop", "grouped_mm", "experts module")
PACKED, DROPPED = "packed", "block dropped, packed"
DROP = 1
Sample = tuple[float, float]
"""Wall and CPU seconds."""


def config(blocks: int) -> MixtralConfig:
    """Mixtral's shape with a quarter of its width."""
    return MixtralConfig(
        vocab_size=8192,
        hidden_size=1024,
        intermediate_size=3584,
        num_hidden_layers=blocks,
        num_attention_heads=16,
        num_key_value_heads=4,
        num_local_experts=8,
        num_experts_per_tok=2,
        max_position_embeddings=4096,
    )


def model(blocks: int, experts: str = "grouped_mm") -> MoEModel:
    """The same random weights every time."""
    torch.manual_seed(0)
    auto: Any = AutoModelForCausalLM
    lm = auto.from_config(config(blocks), dtype=torch.bfloat16, experts_implementation=experts)
    return MoEModel(lm.eval(), ref="benchmark", sha256="benchmark")


def packed(whole: MoEModel, *, drop: int | None = None) -> PreTrainedModel:
    """Experts and attention rounded to 4 bits; without block `drop`."""
    if drop is not None:
        whole.apply(DropBlock(block=drop))
    for block in whole.blocks:
        chosen = block.matrices("experts", "attention")
        codes = {matrix.name: rounded(block.weight(matrix), SCHEME) for matrix in chosen}
        whole.apply(QuantizeWeights.of(block.index, codes))
    settle(whole.lm)
    return whole.lm


def adopted(whole: MoEModel) -> PreTrainedModel:
    """In bfloat16, the experts in the module that compressed experts run in."""
    for layer in whole.lm.model.layers:
        own(layer.mlp)
    return whole.lm


def models(blocks: int) -> dict[str, PreTrainedModel]:
    """Everything that is timed, by name."""
    return {
        "expert loop": model(blocks, "eager").lm,
        "grouped_mm": model(blocks).lm,
        "experts module": adopted(model(blocks)),
        PACKED: packed(model(blocks)),
        DROPPED: packed(model(blocks), drop=DROP),
    }


class Decoding:
    """Goes on from the same context again and again."""

    def __init__(self, generation: Generation) -> None:
        self.generation = generation

    def rewind(self) -> None:
        """Forget what was decoded."""
        layers: list[Any] = self.generation.cache.layers
        for layer in layers:
            layer.cumulative_length.fill_(self.generation.length)

    def prefill(self) -> Sample:
        """All of the context at once."""
        return timed(lambda: next(self.generation.logits()))

    def warm(self) -> None:
        """A few tokens at once, which no number is of."""
        self.generation.lm(input_ids=self.generation.ids[:, :FEW])

    def decode(self) -> Sample:
        """A token after the context, the median."""
        self.rewind()
        ids, collected = self.generation.ids, []
        for place in range(self.generation.length, ids.shape[1]):
            collected.append(timed(partial(self._step, ids[:, place : place + 1])))
        return middle(collected)

    def _step(self, token: Tensor) -> None:
        self.generation.lm(
            input_ids=token, past_key_values=self.generation.cache, use_cache=True, logits_to_keep=1
        )


def timed(work: Callable[[], Any]) -> Sample:
    """Wall and CPU seconds of all threads."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def in_turn(work: dict[str, Callable[[], Sample]], repetitions: int) -> dict[str, list[Sample]]:
    """So many repetitions of everything."""
    collected: dict[str, list[Sample]] = {name: [] for name in work}
    for repetition in range(repetitions):
        for name in list(work) if repetition % 2 else reversed(work):
            collected[name].append(work[name]())
    return collected


def middle(samples: Sequence[Sample]) -> Sample:
    """Medians."""
    return median(wall for wall, _ in samples), median(cpu for _, cpu in samples)


def ratio(ours: Sequence[Sample], baseline: Sequence[Sample]) -> dict[str, Any]:
    """How much faster, with the interval, by both clocks."""
    collected = {}
    for place, clock in enumerate(("wall", "cpu")):
        one = speedup([s[place] for s in ours], [s[place] for s in baseline])
        collected[clock] = {"speedup": one.ratio, "low": one.low, "high": one.high}
    return collected


def stage(samples: dict[str, list[Sample]]) -> dict[str, Any]:
    """What one stage has shown."""
    seconds = {name: [wall for wall, _ in computed] for name, computed in samples.items()}
    cpu = {name: [cpu for _, cpu in computed] for name, computed in samples.items()}
    # The one whose CPU seconds are fewest: wall seconds are also the neighbours'.
    fastest = min(BASELINES, key=lambda name: median(cpu[name]))
    return {
        "baseline": fastest,
        "packed over baseline": ratio(samples[PACKED], samples[fastest]),
        "packed over each": {name: ratio(samples[PACKED], samples[name]) for name in BASELINES},
        "block dropped, packed over packed": ratio(samples[DROPPED], samples[PACKED]),
        "block dropped, packed over baseline": ratio(samples[DROPPED], samples[fastest]),
        "seconds": seconds,
        "cpu_seconds": cpu,
    }


def measure(blocks: int, tokens: int, decodes: int, prefills: int) -> dict[str, Any]:
    """Everything that is printed and recorded."""
    lms = models(blocks)
    ids = torch.randint(8192, (1, CONTEXT + tokens), generator=torch.Generator().manual_seed(0))
    runs = {name: Decoding(Generation(lm, ids, CONTEXT)) for name, lm in lms.items()}
    with exclusive(), torch.no_grad():
        for run in runs.values():
            run.warm()
        prefill = in_turn({name: run.prefill for name, run in runs.items()}, prefills)
        decode = in_turn({name: run.decode for name, run in runs.items()}, decodes)
        ceilings = {
            name: roofline(lms[name], runs[name].generation, [s[0] for s in decode[name]])
            for name in lms
        }
    return {
        "parameters": sum(p.numel() for p in lms["grouped_mm"].parameters()),
        "blocks": blocks,
        "4-bit product": "harness/model/quantized/int4.c" if native.product() else "torch's kernel",
        "context": CONTEXT,
        "tokens per repetition": tokens,
        "resident_bytes": {name: resident_bytes(lm) for name, lm in lms.items()},
        "decode": stage(decode),
        "prefill": stage(prefill),
        "roofline": {
            name: {
                "bytes_per_step": one.bytes_per_step,
                "bandwidth": one.bandwidth,
                "reached": one.reached,
            }
            for name, one in ceilings.items()
        },
    }


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--decodes", type=int, default=21)
    parser.add_argument("--prefills", type=int, default=5)
    parser.add_argument("--threads", type=int, help="torch's own choice without")
    parser.add_argument("--record", type=Path, metavar="FILE")
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    before = machine()
    samples = measure(asked.blocks, asked.tokens, asked.decodes, asked.prefills)
    data = {**samples, "machine": {**before, "load after": machine()["load"]}}
    brief = copy.deepcopy(data)
    for name in ("decode", "prefill"):
        brief[name] = {k: v for k, v in data[name].items() if "seconds" not in k}
        brief[name]["median cpu"] = {k: median(v) for k, v in data[name]["cpu_seconds"].items()}
    print(json.dumps(brief, indent=1))  # noqa: T201 - what a benchmark is for
    if asked.record:
        asked.record.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
