"""Real text, a tokenizer trained on it, and checkpoints that transformers itself wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    DeepseekV2Config,
    MixtralConfig,
    OlmoeConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2MoeConfig,
    Qwen3MoeConfig,
)

TEXT = Path(__file__).parents[3] / "shared" / "data"
VOCABULARY = 512
_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 128,
    "num_experts_per_tok": 2,
}
_SMALL: dict[str, Any] = {"intermediate_size": 48, "moe_intermediate_size": 24, "num_experts": 6}
CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "mixtral": lambda: MixtralConfig(**_SHAPE, intermediate_size=48, num_local_experts=6),
    "qwen2_moe": lambda: Qwen2MoeConfig(
        **_SHAPE, **_SMALL, shared_expert_intermediate_size=40, tie_word_embeddings=True
    ),
    "qwen3_moe": lambda: Qwen3MoeConfig(**_SHAPE, **_SMALL, norm_topk_prob=True),
    "olmoe": lambda: OlmoeConfig(**_SHAPE, intermediate_size=24, num_experts=6),
    "deepseek_v2": lambda: DeepseekV2Config(
        **_SHAPE,
        intermediate_size=48,
        moe_intermediate_size=24,
        n_routed_experts=6,
        n_shared_experts=1,
        first_k_dense_replace=1,
        topk_method="greedy",
        n_group=1,
        topk_group=1,
        kv_lora_rank=16,
        q_lora_rank=None,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=8,
    ),
}


def _lines(name: str) -> list[str]:
    path = TEXT / name
    if not path.is_file():
        pytest.skip(f"the real text {name} is not beside this checkout")
    return path.read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="session")
def real_text() -> list[str]:
    return _lines("ptb.valid.txt")


@pytest.fixture(scope="session")
def tokenizer(real_text: list[str]) -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(real_text, trainer)
    made: Any = PreTrainedTokenizerFast  # its constructor has no annotations
    result: PreTrainedTokenizerFast = made(
        tokenizer_object=bpe, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    return result


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real WikiText-2 and PTB, laid out as their hub repositories."""
    root = tmp_path_factory.mktemp("data")
    for repository, config, field, source in (
        ("Salesforce/wikitext", "wikitext-2-raw-v1", "text", "wikitext2-tokenised.test.txt"),
        ("ptb-text-only/ptb_text_only", "penn_treebank", "sentence", "ptb.test.txt"),
    ):
        folder = root / repository
        (folder / config).mkdir(parents=True)
        rows = [json.dumps({field: line}) for line in _lines(source)[:600]]
        (folder / config / "test.jsonl").write_text("\n".join(rows) + "\n")
        (folder / "README.md").write_text(
            "---\nconfigs:\n"
            f"- config_name: {config}\n  data_files:\n"
            f"  - split: test\n    path: {config}/test.jsonl\n---\n"
        )
    return root


@pytest.fixture
def foreign(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Callable[[str], Path]:
    """A small random sharded checkpoint of a family, as transformers saves it."""

    def write(family: str) -> Path:
        folder = tmp_path / family
        torch.manual_seed(0)
        auto: Any = AutoModelForCausalLM  # its methods have no annotations
        lm = auto.from_config(CONFIGS[family]())
        lm.save_pretrained(folder, max_shard_size="100KB")
        tokenizer.save_pretrained(folder)
        return folder

    return write


@pytest.fixture
def calibration_text(tmp_path: Path, real_text: list[str]) -> Path:
    path = tmp_path / "calibration.txt"
    path.write_text("\n".join(real_text[:800]), encoding="utf-8")
    return path
