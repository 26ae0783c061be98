"""Expert importance against one full forward per expert.

A full forward per expert runs all L blocks and the head; here the blocks up to the expert's own run
once, so that per expert (L - 1) / 2 blocks on average and the head are left. The operations of both
give the ceiling of what can be gained; recorded are the gain in CPU time and its share of that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, MixtralConfig, PretrainedConfig, Qwen2MoeConfig

from harness.calibration.passes.importance import Importance, leave_one_out
from harness.calibration.tokens import Tokens
from harness.calibration.walk import Calibration
from harness.model.edits import KeepExperts
from harness.model.shell import shell
from harness.model.view import MoEModel
from tests.benchmarks.pairs import Pairs, seconds

BLOCKS, HIDDEN, EXPERTS, TOP_K, FFN, VOCABULARY = 12, 256, 16, 4, 128, 512
SEQUENCES, LENGTH = 1, 96
ROUNDS = 3
_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "num_experts_per_tok": TOP_K,
    "max_position_embeddings": LENGTH,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "mixtral": lambda: MixtralConfig(**_SHAPE, intermediate_size=FFN, num_local_experts=EXPERTS),
    "qwen2_moe": lambda: Qwen2MoeConfig(  # without renormalising every removal reaches all tokens
        **_SHAPE,
        moe_intermediate_size=FFN,
        shared_expert_intermediate_size=FFN,
        num_experts=EXPERTS,
        norm_topk_prob=False,
    ),
}


def ceiling(family: str, run: dict[int, int]) -> float:
    """Operations of one forward per expert, divided by those of what is left to run.

    Args:
        family: A key of `CONFIGS`.
        run: Per block the experts whose absence changes any token. Where weights are renormalised,
            those that no token chose are not run: a gain that the data, not the method, decides.
    """
    shared = 3 * HIDDEN * FFN + HIDDEN if family == "qwen2_moe" else 0
    attention = 4 * HIDDEN**2 + 2 * LENGTH * HIDDEN
    block = attention + HIDDEN * EXPERTS + TOP_K * 3 * HIDDEN * FFN + shared
    head = HIDDEN * VOCABULARY
    left = sum(count * ((BLOCKS - 1 - index) * block + head) for index, count in run.items())
    return BLOCKS * EXPERTS * (BLOCKS * block + head) / left


def touched(family: str, calibration: Calibration) -> dict[int, int]:
    """Per block the experts whose absence changes any token."""
    if family != "mixtral":
        return dict.fromkeys(range(BLOCKS), EXPERTS)
    return {index: int((one.count > 0).sum()) for index, one in calibration.coverage.items()}


def full_forwards(model: MoEModel, calibration: Calibration) -> dict[int, dict[int, float]]:
    """The loss of the whole model without each expert, one forward each."""
    lm, collected = model.lm, {}
    for index, block in enumerate(model.blocks):
        losses: dict[int, float] = {}
        for expert in block.experts:
            others = tuple(other for other in block.experts if other != expert)
            edit = KeepExperts(block=index, experts=others)
            lm.model.layers[index] = edit.apply(shell(block.layer), model.family)
            [batch] = calibration.batches()
            logits = lm(batch["input_ids"], use_cache=False).logits[:, :-1].flatten(0, 1)
            losses[expert] = float(F.cross_entropy(logits, batch["labels"][:, 1:].flatten()))
        lm.model.layers[index] = block.layer
        collected[index] = losses
    return collected


@pytest.mark.parametrize("family", CONFIGS)
def test_leave_one_out(benchmark: Any, family: str, report: Any) -> None:
    """Equal losses; one call in turn with one forward per expert, so that both meet the same."""
    torch.manual_seed(0)
    auto: Any = AutoModelForCausalLM  # its methods have no annotations
    lm = auto.from_config(CONFIGS[family](), dtype=torch.float32)
    lm.set_experts_implementation("grouped_mm")
    model = MoEModel(lm, ref=family, sha256=family)
    ids = torch.randint(0, VOCABULARY, (SEQUENCES, LENGTH))
    calibration = Calibration(Tokens(ids, None, "random", 0, "random"), batch_size=SEQUENCES)
    pairs = Pairs()
    collected: list[Importance] = []
    wanted: list[dict[int, dict[int, float]]] = []

    def theirs() -> None:
        work = seconds(lambda: wanted.append(full_forwards(model, calibration)))
        pairs.baseline.append(work)

    def ours() -> None:
        work = seconds(lambda: collected.append(leave_one_out(model, calibration)))
        pairs.ours.append(work)

    benchmark.pedantic(ours, setup=theirs, rounds=ROUNDS)
    pairs.ceiling = ceiling(family, touched(family, calibration))
    report(f"importance-{family}", pairs)
    assert list(collected[0].losses) == list(wanted[0])
    for index, losses in wanted[0].items():
        assert collected[0].losses[index] == pytest.approx(losses, rel=1e-6)
