"""DeepSeek-MoE-16B, which transformers does not have, made of transformers' own parts.

Published checkpoints (`model_type` "deepseek") bring their architecture as code of their own; that
code is never run. Plain attention and norms are Llama's, router and fused experts Qwen2-MoE's.

Source: Dai et al., "DeepSeekMoE: Towards Ultimate Expert Specialization in Mixture-of-Experts
Language Models", 2024, equations (9) to (11): h + sum over shared experts + sum over top-k experts
of softmax affinity x expert. The affinities chosen are not renormalised unless `norm_topk_prob`.

Deviations from the published code: the router's softmax is taken in fp32 and its weights are then
rounded to the model's dtype (there: all in the model's dtype); no auxiliary loss in training.
"""

# transformers' classes have hardly any annotations.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaModel
from transformers import initialization as init
from transformers.conversion_mapping import (
    get_checkpoint_conversion_mapping,
    register_checkpoint_conversion_mapping,
)
from transformers.models.llama.modeling_llama import LlamaForCausalLM, LlamaPreTrainedModel
from transformers.models.qwen2_moe.modeling_qwen2_moe import (
    Qwen2MoeExperts,
    Qwen2MoeMLP,
    Qwen2MoeTopKRouter,
)

MODEL_TYPE = "deepseek"


class DeepseekConfig(LlamaConfig):
    """The fields of the published configuration; defaults are those of DeepSeek-MoE-16B."""

    model_type = MODEL_TYPE
    attribute_map = {"num_experts": "n_routed_experts"}  # noqa: RUF012 - as transformers has it

    vocab_size: int = 102400
    hidden_size: int = 2048
    intermediate_size: int = 10944
    moe_intermediate_size: int = 1408
    num_hidden_layers: int = 28
    num_attention_heads: int = 16
    max_position_embeddings: int = 4096
    n_routed_experts: int = 64
    n_shared_experts: int = 2
    num_experts_per_tok: int = 6
    first_k_dense_replace: int = 1
    moe_layer_freq: int = 1
    norm_topk_prob: bool = False
    scoring_func: str = "softmax"
    aux_loss_alpha: float = 0.001
    seq_aux: bool = True

    def __post_init__(self, **kwargs: object) -> None:
        if self.scoring_func != "softmax":
            raise ValueError(f"scoring_func {self.scoring_func!r} of a deepseek model is not known")
        super().__post_init__(**kwargs)

    def has_experts(self, block: int) -> bool:
        """True if a block has an MoE layer: the first ones are dense, and maybe some between."""
        return block >= self.first_k_dense_replace and block % self.moe_layer_freq == 0


class DeepseekMoE(nn.Module):
    """An MoE layer: top-k routed experts, and shared experts as one ungated MLP."""

    def __init__(self, config: DeepseekConfig) -> None:
        super().__init__()
        self.gate = Qwen2MoeTopKRouter(config)
        self.experts = Qwen2MoeExperts(config)
        shared = config.moe_intermediate_size * config.n_shared_experts
        self.shared_experts = Qwen2MoeMLP(config, intermediate_size=shared)

    def forward(self, hidden: Tensor) -> Tensor:
        """The sublayer's output, [batch, length, hidden] like its input."""
        tokens = hidden.reshape(-1, hidden.shape[-1])  # [batch x length, hidden]
        _, weights, index = self.gate(tokens)  # [batch x length, top-k] each
        routed: Tensor = self.experts(tokens, index, weights)  # [batch x length, hidden]
        shared: Tensor = self.shared_experts(hidden)  # [batch, length, hidden]
        return routed.view_as(hidden) + shared


class DeepseekPreTrainedModel(LlamaPreTrainedModel):
    """The base of the two models below."""

    config_class = DeepseekConfig

    @classmethod
    def _can_set_experts_implementation(cls) -> bool:
        # transformers looks for the decorator in the class's own file; here it is on a part.
        return True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, (Qwen2MoeExperts, Qwen2MoeTopKRouter)):
            for parameter in module.parameters(recurse=False):
                init.normal_(parameter, mean=0.0, std=self.config.initializer_range)


class DeepseekModel(DeepseekPreTrainedModel, LlamaModel):
    """Llama's decoder with MoE layers in the place of most MLPs."""

    def __init__(self, config: DeepseekConfig) -> None:
        super().__init__(config)
        for index, layer in enumerate(self.layers):
            if config.has_experts(index):
                layer.mlp = DeepseekMoE(config)
        self.post_init()


class DeepseekForCausalLM(DeepseekPreTrainedModel, LlamaForCausalLM):
    """The decoder with its language-model head."""

    def __init__(self, config: DeepseekConfig) -> None:
        # Not LlamaForCausalLM's own, which would build a Llama first.
        LlamaPreTrainedModel.__init__(self, config)
        self.model = DeepseekModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()


def register() -> None:
    """Make transformers' Auto classes know the family; may be called again.

    A checkpoint whose configuration names code of its own (`auto_map`) then loads as this class.
    Its tensors, one matrix an expert, become fused ones when loaded and are split when saved.
    """
    AutoConfig.register(MODEL_TYPE, DeepseekConfig, exist_ok=True)
    AutoModelForCausalLM.register(DeepseekConfig, DeepseekForCausalLM, exist_ok=True)
    names = get_checkpoint_conversion_mapping("qwen2_moe")  # experts.N.gate_proj and so on
    register_checkpoint_conversion_mapping(MODEL_TYPE, names, overwrite=True)
