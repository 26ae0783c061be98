"""DeepSeek-MoE-16B's family: a checkpoint as it is published, small, made by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from harness import reference as reference_data
from harness.calibration.walk import Calibration
from harness.data import DataRoot
from harness.errors import UserError
from harness.evaluate.tasks import evaluate_tasks
from harness.measure.flops import measure_flops
from harness.measure.size import measure_size
from harness.method.recipe import BoundStep, compress
from harness.method.registry import build
from harness.model.edits import DropBlock
from harness.model.files.artifact import load, save
from harness.model.files.audit import audit
from harness.model.files.identity import describe, read_config
from harness.model.files.opening import open_meta, open_model
from tests.model.decoding import check_cached, logits

HIDDEN, HEADS, FFN, EXPERT, EXPERTS, SHARED, BLOCKS, VOCABULARY = 16, 2, 24, 12, 6, 2, 4, 53
CONFIG: dict[str, Any] = {
    "architectures": ["DeepseekForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "auto_map": {
        "AutoConfig": "configuration_deepseek.DeepseekConfig",
        "AutoModel": "modeling_deepseek.DeepseekModel",
        "AutoModelForCausalLM": "modeling_deepseek.DeepseekForCausalLM",
    },
    "aux_loss_alpha": 0.001,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "first_k_dense_replace": 1,
    "hidden_act": "silu",
    "hidden_size": HIDDEN,
    "initializer_range": 0.02,
    "intermediate_size": FFN,
    "max_position_embeddings": 64,
    "model_type": "deepseek",
    "moe_intermediate_size": EXPERT,
    "moe_layer_freq": 1,
    "n_routed_experts": EXPERTS,
    "n_shared_experts": SHARED,
    "norm_topk_prob": False,
    "num_attention_heads": HEADS,
    "num_experts_per_tok": 3,
    "num_hidden_layers": BLOCKS,
    "num_key_value_heads": HEADS,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-6,
    "rope_scaling": None,
    "rope_theta": 10000,
    "scoring_func": "softmax",
    "seq_aux": True,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "transformers_version": "4.36.0",
    "use_cache": True,
    "vocab_size": VOCABULARY,
}


def published(seed: int = 0) -> dict[str, Tensor]:
    """Random tensors under the published names."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        scale, offset = (0.3, 0.0) if len(shape) > 1 else (0.1, 1.0)
        return torch.randn(shape, generator=generator) * scale + offset

    def mlp(prefix: str, ffn: int) -> dict[str, Tensor]:
        shapes = {"gate": (ffn, HIDDEN), "up": (ffn, HIDDEN), "down": (HIDDEN, ffn)}
        return {f"{prefix}.{name}_proj.weight": draw(*shape) for name, shape in shapes.items()}

    tensors = {
        "model.embed_tokens.weight": draw(VOCABULARY, HIDDEN),
        "model.norm.weight": draw(HIDDEN),
        "lm_head.weight": draw(VOCABULARY, HIDDEN),
    }
    for block in range(BLOCKS):
        at = f"model.layers.{block}"
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{at}.{name}.weight"] = draw(HIDDEN)
        for name in "qkvo":
            tensors[f"{at}.self_attn.{name}_proj.weight"] = draw(HIDDEN, HIDDEN)
        if block == 0:
            tensors |= mlp(f"{at}.mlp", FFN)
            continue
        tensors[f"{at}.mlp.gate.weight"] = draw(EXPERTS, HIDDEN)
        tensors |= mlp(f"{at}.mlp.shared_experts", EXPERT * SHARED)
        for expert in range(EXPERTS):
            tensors |= mlp(f"{at}.mlp.experts.{expert}", EXPERT)
    return tensors


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "deepseek")


def write(folder: Path, **changes: Any) -> Path:
    """A checkpoint with code of its own that must never run."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    save_file(published(), folder / "model.safetensors", metadata={"format": "pt"})
    for name in ("configuration_deepseek.py", "modeling_deepseek.py"):
        (folder / name).write_text("raise SystemExit('remote code was run')\n")
    return folder


def reference(tensors: dict[str, Tensor], ids: Tensor, *, renormalise: bool) -> Tensor:
    """Logits of one sequence, float64, written down from the paper: [length, vocabulary]."""
    weights = {name: tensor.double() for name, tensor in tensors.items()}
    x = weights["model.embed_tokens.weight"][ids]
    for block in range(BLOCKS):
        at = f"model.layers.{block}"
        x = x + attention(weights, at, norm(x, weights[f"{at}.input_layernorm.weight"]))
        inner = norm(x, weights[f"{at}.post_attention_layernorm.weight"])
        if block == 0:
            x = x + mlp(weights, f"{at}.mlp", inner)
            continue
        out = mlp(weights, f"{at}.mlp.shared_experts", inner)
        probs = torch.softmax(inner @ weights[f"{at}.mlp.gate.weight"].T, -1)
        for token in range(len(ids)):
            chosen = probs[token].argsort(descending=True)[:3]
            total = probs[token, chosen].sum() if renormalise else 1.0
            for expert in chosen.tolist():
                one = mlp(weights, f"{at}.mlp.experts.{expert}", inner[token])
                out[token] += probs[token, expert] / total * one
        x = x + out
    return norm(x, weights["model.norm.weight"]) @ weights["lm_head.weight"].T


def norm(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * weight


def mlp(weights: dict[str, Tensor], at: str, x: Tensor) -> Tensor:
    gate, up, down = (weights[f"{at}.{name}_proj.weight"] for name in ("gate", "up", "down"))
    return (F.silu(x @ gate.T) * (x @ up.T)) @ down.T


def attention(weights: dict[str, Tensor], at: str, x: Tensor) -> Tensor:
    length, size = len(x), HIDDEN // HEADS
    angles = torch.arange(length)[:, None] / 10000 ** (torch.arange(0, size, 2) / size)
    turn = torch.polar(torch.ones_like(angles), angles).to(torch.complex128)  # [length, size / 2]
    out = torch.zeros_like(x)
    q, k, v = (x @ weights[f"{at}.self_attn.{name}_proj.weight"].T for name in "qkv")
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        turned = [
            torch.complex(one[:, part][:, : size // 2], one[:, part][:, size // 2 :]) * turn
            for one in (q, k)
        ]
        scores = (turned[0] @ turned[1].conj().T).real / size**0.5
        scores = scores.masked_fill(torch.ones(length, length).triu(1).bool(), -torch.inf)
        out[:, part] = scores.softmax(-1) @ v[:, part]
    return out @ weights[f"{at}.self_attn.o_proj.weight"].T


@pytest.mark.parametrize("renormalise", [False, True])
@pytest.mark.parametrize("experts", ["grouped_mm", "eager"])
def test_a_published_checkpoint_is_what_the_paper_says(
    renormalise: bool, experts: str, ids: Tensor, tmp_path: Path
) -> None:
    folder = write(tmp_path / "deepseek", norm_topk_prob=renormalise)
    model = open_model(str(folder), experts=experts)
    assert type(model.frame).__module__ == "harness.model.families.deepseek"
    wanted = [reference(published(), one, renormalise=renormalise) for one in ids]
    outputs = logits(model, ids).double()
    torch.testing.assert_close(outputs, torch.stack(wanted), atol=1e-4, rtol=0)


def test_it_describes_itself_and_is_saved_under_the_published_names(
    folder: Path, tmp_path: Path
) -> None:
    assert describe(str(folder)).family == "deepseek"
    model = open_model(str(folder))
    assert [len(block.experts) for block in model.blocks] == [0, 6, 6, 6]
    assert (model.experts, model.moe_blocks()[0].top_k) == (EXPERTS, 3)
    assert not model.family.renormalises(model.config)
    parts = {matrix.name for matrix in model.blocks[1].matrices()}
    assert {"experts.5.down", "shared.up", "router", "attention.q"} <= parts
    assert "router.shared" not in parts
    assert {matrix.part for matrix in model.blocks[0].matrices()} == {"dense", "attention"}
    model.lm.save_pretrained(tmp_path / "again")
    with safe_open(tmp_path / "again" / "model.safetensors", framework="pt") as file:
        assert set(file.keys()) == set(published())
        for name, tensor in published().items():
            assert torch.equal(file.get_tensor(name), tensor)


@pytest.mark.parametrize("drop", [(), (0,), (2,)])
def test_cached_generation_equals_uncached(
    drop: tuple[int, ...], folder: Path, ids: Tensor
) -> None:
    model = open_model(str(folder))
    for block in drop:
        model.apply(DropBlock(block=block))
    check_cached(model, ids)
    generate: Any = model.lm.generate
    generated = generate(ids, max_new_tokens=4, min_new_tokens=4, do_sample=False, pad_token_id=0)
    assert generated.shape == (2, 28)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("random", {"keep": 4}),
        ("eep", {"keep": 4}),
        ("expert-drop", {"ratio": 0.5, "scope": "global"}),
        ("layer-drop", {"drop": 1}),
        ("block-drop", {"drop": 2}),
    ],
)
def test_compressed_saved_reloaded(
    name: str,
    options: dict[str, Any],
    folder: Path,
    ids: Tensor,
    calibration: Callable[..., Calibration],
    tmp_path: Path,
) -> None:
    model = open_model(str(folder))
    compress(model, [BoundStep(build(name, options), calibration())])
    before = logits(model, ids)
    assert not torch.equal(before, logits(open_model(str(folder)), ids))
    save(model, tmp_path / "artifact")
    again = load(tmp_path / "artifact")
    assert torch.equal(logits(again, ids), before)
    assert audit(again, tmp_path / "artifact")["blocks"] == len(model.numbers)
    dry = open_meta(str(folder))
    compress(dry, [BoundStep(build(name, options), calibration(sequences=0))])
    if name in ("random", "eep"):  # the others choose by what they measure
        assert measure_size(dry, None).parameters == measure_size(again, None).parameters


def test_its_work_is_counted_as_the_formula_says(folder: Path) -> None:
    flops = measure_flops(open_model(str(folder)), 11)
    assert flops.macs == flops.analytic_macs
    shared = 3 * HIDDEN * EXPERT * SHARED
    per_token = BLOCKS * 4 * HIDDEN**2 + 3 * HIDDEN * FFN + VOCABULARY * HIDDEN
    per_token += (BLOCKS - 1) * (HIDDEN * EXPERTS + 3 * 3 * HIDDEN * EXPERT + shared)
    assert flops.macs == 11 * per_token + BLOCKS * 11 * 11 * 2 * HIDDEN


def test_prompts_are_scored_together_as_they_are_apart(tmp_path: Path) -> None:
    tokenizer = open_meta("reference/mixtral").tokenizer
    write(tmp_path / "deepseek", vocab_size=len(tokenizer), max_position_embeddings=256)
    config = read_config(str(tmp_path / "deepseek"))
    torch.manual_seed(0)
    lm = AutoModelForCausalLM.from_config(config).eval()  # type: ignore[no-untyped-call]
    together, apart = (
        evaluate_tasks(
            lm, tokenizer, ("boolq",), data=DataRoot(reference_data.DATA), limit=3, shared=shared
        )[1]
        for shared in (True, False)
    )
    for one, other in zip(together, apart, strict=True):
        assert one.loglikelihoods == pytest.approx(other.loglikelihoods, abs=1e-4)


def test_another_router_than_the_published_one_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "deepseek", scoring_func="sigmoid")
    with pytest.raises(UserError, match="'sigmoid'"):
        open_model(str(folder))
