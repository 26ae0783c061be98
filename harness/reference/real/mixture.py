"""A Mixture-of-Experts model out of a dense one, without training.

Every MLP's neurons are divided among experts by balanced clustering of when they are active; the
router is a ridge regression from the MLP's input to what each expert would contribute. In the
Qwen2-MoE form the neurons that are most active make a shared expert.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from harness.reference.real.clustering import balanced
from harness.reference.real.dense import NAME, Real

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from transformers import PretrainedConfig

SHARED = 512
"""Neurons of the shared expert of a Qwen2-MoE form."""
FEATURES = 1024
"""Tokens whose activations a neuron is clustered by."""
RIDGE = 1e-2
"""The penalty of the router's regression, as a share of the inputs' mean square."""
SOFT = 0.02
"""The router's scale: its softmax is almost even, so that top-k experts add up to the MLP."""
LARGEST = 8.0
"""The contribution of an expert, over the mean, at which it is cut off."""


@dataclass(frozen=True)
class Form:
    """An architecture that the dense model is made into."""

    family: Literal["mixtral", "qwen2-moe"]
    experts: int
    top_k: int

    @property
    def name(self) -> str:
        """Name of the model's folder."""
        return f"{NAME}-{self.family}-{self.experts}-top-{self.top_k}"

    @property
    def shared(self) -> int:
        """Neurons that every token meets."""
        return SHARED if self.family == "qwen2-moe" else 0

    @property
    def scale(self) -> int:
        """The factor on an expert's output that undoes its routing weight."""
        return self.top_k if self.family == "mixtral" else self.experts


FORMS = (Form("mixtral", 8, 6), Form("mixtral", 16, 8), Form("qwen2-moe", 16, 8))


@dataclass(frozen=True)
class _MLP:
    """The matrices of a dense MLP."""

    gate: Tensor  # [neurons, hidden]
    up: Tensor  # [neurons, hidden]
    down: Tensor  # [hidden, neurons]

    def neurons(self, inputs: Tensor) -> Tensor:
        """What the neurons give on some inputs, [tokens, neurons]."""
        from torch.nn.functional import silu

        return silu(inputs @ self.gate.T) * (inputs @ self.up.T)


def mixture(dense: Real, form: Form, inputs: list[Tensor], seed: int = 0) -> Real:
    """Make a dense model a mixture.

    Args:
        dense: The model; a Llama.
        form: The architecture.
        inputs: The inputs of every block's MLP, as `seen.mlp_inputs` gives them.
        seed: Of the draw of the clusters' first centres.
    """
    import torch
    from transformers import AutoModelForCausalLM

    generator = torch.Generator().manual_seed(seed)
    weights = dense.lm.state_dict()
    made: dict[str, Tensor] = {}
    for number, rows in enumerate(inputs):
        prefix = f"model.layers.{number}.mlp."
        mlp = _MLP(*(weights[f"{prefix}{part}_proj.weight"] for part in ("gate", "up", "down")))
        made |= {f"{prefix}{name}": tensor for name, tensor in _layer(mlp, form, rows, generator)}
    auto: Any = AutoModelForCausalLM  # its methods have no annotations
    lm = auto.from_config(_config(dense.lm.config, form, weights), dtype=torch.float32).eval()
    wanted = lm.state_dict()
    kept = {name: tensor for name, tensor in weights.items() if name in wanted}
    biases = {name: torch.zeros_like(wanted[name]) for name in wanted if name.endswith(".bias")}
    lm.load_state_dict({**biases, **kept, **made}, strict=True)
    lm.generation_config = dense.lm.generation_config
    return Real(lm, dense.tokenizer)


def _config(dense: Any, form: Form, weights: dict[str, Tensor]) -> PretrainedConfig:
    from transformers import MixtralConfig, Qwen2MoeConfig

    common = {
        field: getattr(dense, field)
        for field in (
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "max_position_embeddings",
            "rms_norm_eps",
            "rope_parameters",
            "tie_word_embeddings",
            "bos_token_id",
            "eos_token_id",
            "pad_token_id",
        )
    }
    neurons = len(weights["model.layers.0.mlp.gate_proj.weight"])
    width = (neurons - form.shared) // form.experts
    common |= {"num_experts_per_tok": form.top_k}
    if form.family == "mixtral":
        return MixtralConfig(**common, intermediate_size=width, num_local_experts=form.experts)
    return Qwen2MoeConfig(
        **common,
        intermediate_size=neurons,
        moe_intermediate_size=width,
        shared_expert_intermediate_size=form.shared,
        num_experts=form.experts,
        norm_topk_prob=False,
    )


def _layer(mlp: _MLP, form: Form, inputs: Tensor, generator: Generator) -> list[tuple[str, Tensor]]:
    """The tensors of one MoE layer, by their names in it."""
    import torch
    from torch.nn.functional import normalize

    outputs = mlp.neurons(inputs)  # [tokens, neurons]
    strength = (outputs * mlp.down.norm(dim=0)).abs()
    order = strength.mean(0).argsort(descending=True, stable=True)
    busy, rest = order[: form.shared], order[form.shared :].sort().values
    points = normalize(strength[:FEATURES, rest].T.sqrt(), dim=1)
    members = rest[balanced(points, form.experts, generator)]  # [experts, width]
    down = mlp.down.T[members]  # [experts, width, hidden]
    parts = [outputs[:, group] @ rows for group, rows in zip(members, down, strict=True)]
    contributions = torch.stack([part.norm(dim=1) for part in parts], 1)  # [tokens, experts]
    tensors = [
        ("gate.weight", SOFT * _router(inputs, contributions)),
        ("experts.gate_up_proj", torch.cat([mlp.gate[members], mlp.up[members]], dim=1)),
        ("experts.down_proj", form.scale * down.transpose(1, 2)),
    ]
    if form.shared:
        tensors += [
            ("shared_expert.gate_proj.weight", mlp.gate[busy]),
            ("shared_expert.up_proj.weight", mlp.up[busy]),
            # Its own gate has no weights: the sigmoid of zero halves the output.
            ("shared_expert.down_proj.weight", 2 * mlp.down[:, busy]),
            ("shared_expert_gate.weight", torch.zeros(1, inputs.shape[1])),
        ]
    return tensors


def _router(inputs: Tensor, contributions: Tensor) -> Tensor:
    """The ridge regression from inputs to the experts' contributions, [experts, hidden]."""
    import torch

    wanted = (contributions / contributions.mean()).clamp(max=LARGEST).sqrt()
    square = inputs.T @ inputs
    penalty = RIDGE * square.diagonal().mean() * torch.eye(len(square))
    solved: Tensor = torch.linalg.solve(square + penalty, inputs.T @ wanted)
    return solved.T
