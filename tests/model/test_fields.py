"""A configuration that asks for another model than would run is refused, by the field's name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.model.families.family import FAMILIES
from harness.model.families.shipped import CONFIGS, known
from harness.model.files.identity import read_config
from harness.model.files.opening import open_meta
from tests.models import tiny_config

NO_WINDOW = sorted(set(FAMILIES) - {"mixtral", "mistral", "qwen2", "qwen2_moe", "qwen3_moe"})
REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("deepseek_v2", {"norm_topk_prob": True}),
    ("deepseek_v2", {"scoring_func": "sigmoid"}),
    ("deepseek_v2", {"topk_method": "noaux_tc"}),
    ("deepseek_v2", {"moe_layer_freq": 2}),
    ("deepseek_v2", {"num_key_value_heads": 1}),
    ("deepseek_v2", {"n_group": 4, "topk_method": "group_limited_greedy", "topk_group": 1}),
    ("deepseek_v2", {"topk_group": None, "topk_method": "group_limited_greedy", "n_group": 2}),
    ("deepseek_v2", {"topk_group": 3, "topk_method": "group_limited_greedy", "n_group": 2}),
    ("deepseek_v2", {"n_shared_experts": None}),
    ("deepseek_v2", {"n_shared_experts": 0}),
    ("deepseek", {"n_shared_experts": None}),
    ("deepseek", {"scoring_func": "sigmoid"}),
    ("deepseek", {"routed_scaling_factor": 2.5}),
    ("deepseek", {"topk_method": "noaux_tc"}),
    ("mixtral", {"norm_topk_prob": False}),
    ("mixtral", {"layer_types": ["full_attention", "sliding_attention"] * 2}),
    ("qwen3_moe", {"max_window_layers": 2, "use_sliding_window": True, "sliding_window": 8}),
    ("qwen2_moe", {"layer_types": ["full_attention"] * 3}),
    ("qwen2", {"layer_types": ["chunked_attention"] * 4}),
    *[(name, {"sliding_window": 8}) for name in NO_WINDOW],
    *[(name, {"clip_qkv": 8.0}) for name in sorted(set(FAMILIES) - {"olmoe"})],
    *[
        (name, values)
        for name in sorted(FAMILIES)
        for values in (
            {"scoring_func": "sigmoid"},
            {"logit_scale": 0.25},
            {"embedding_multiplier": 12.0},
            {"attn_logit_softcapping": 30.0},
            {"partial_rotary_factor": 0.5},
            {"is_causal": False},
            {"per_layer_config": {"1": {"hidden_act": "gelu"}}},
            {"rope_scaling": {"type": "banana", "factor": 2.0}},
            {"auto_map": {"AutoModelForCausalLM": "modeling_mine.MyForCausalLM"}},
            {"architectures": ["MyForSequenceClassification"]},
            {"num_key_value_heads": 3},
            {"pad_token_id": 32000},
            {"pad_token_id": -7},
            {"quantization": {"bits": 4, "group_size": 64}},
            {"compression_config": {"format": "pack-quantized"}},
        )
    ],
    *[
        (name, {"num_experts_per_tok": chosen})
        for name in sorted(n for n, family in FAMILIES.items() if not family.dense)
        for chosen in (7, 0)
    ],
]
TAKEN: dict[str, Any] = {
    "architectures": None,
    "attn_logit_softcapping": None,
    "bos_token_id": 32000,
    "clip_qkv": None,
    "eos_token_id": [2, 32000],
    "is_causal": True,
    "logit_scale": 1.0,
    "n_group": 1,
    "pad_token_id": -1,
    "partial_rotary_factor": 1.0,
    "per_layer_config": {},
    "routed_scaling_factor": 1.0,
    "scoring_func": "softmax",
    "sliding_window": None,
    "topk_group": 1,
    "topk_method": "greedy",
}
"""Values as published configurations have them, beside others that change nothing."""


def write(folder: Path, name: str, values: dict[str, Any]) -> Path:
    config = tiny_config(name).to_dict()
    config.pop("layer_types", None)
    (folder / "config.json").write_text(json.dumps({**config, **values}))
    return folder


@pytest.mark.parametrize(
    ("name", "values"), REFUSED, ids=[f"{name}-{next(iter(v))}" for name, v in REFUSED]
)
def test_a_field_that_would_be_left_out_is_named(
    name: str, values: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(UserError) as refused:
        open_meta(str(write(tmp_path, name, values)))
    sentence = str(refused.value)
    assert next(iter(values)) in sentence
    assert str(tmp_path) in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_values_that_change_nothing_are_taken(name: str, tmp_path: Path) -> None:
    open_meta(str(write(tmp_path, name, TAKEN)))


@pytest.mark.parametrize("ref", known())
def test_published_configurations_are_taken(ref: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((CONFIGS / f"{ref}.json").read_text())
    read_config(str(tmp_path))


def test_a_window_as_long_as_the_model_is_none(tmp_path: Path) -> None:
    open_meta(str(write(tmp_path, "llama", {"sliding_window": 64})))


def test_a_checkpoint_whose_code_has_our_class_is_taken(tmp_path: Path) -> None:
    code = {"AutoModelForCausalLM": "modeling_deepseek.DeepseekV2ForCausalLM"}
    open_meta(str(write(tmp_path, "deepseek_v2", {"auto_map": code})))


@pytest.mark.parametrize("name", ["hf_quant_config.json", "quantize_config.json"])
def test_settings_of_a_quantizer_beside_the_configuration_are_seen(
    name: str, tmp_path: Path
) -> None:
    (write(tmp_path, "mixtral", {}) / name).write_text("{}")
    with pytest.raises(UserError, match=f"quantized already .it has {name}"):
        open_meta(str(tmp_path))
