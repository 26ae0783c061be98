"""LoRA on any matrices of a model: attached with PEFT, merged into new parameters.

PEFT's own merge adds to the base's tensors in place, which the originals share; here W + delta
becomes a parameter of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from harness.method.training.checkout import checkout, slots
from harness.model.shell import put

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from harness.model.view import MoEModel

_NAME = "default"


class Adapters:
    """A checked-out model with LoRA on some of its matrices; only the adapters are trainable.

    W + alpha / rank * B A, with A drawn from torch's global generator and B zero, both fp32. Fused
    experts get factors of their own per expert; a fused gate and up share A. Dropout works on what
    enters linear layers, not on fused parameters, where PEFT has none.

    Args:
        model: The model that is adapted; it stays as it is.
        chosen: Names of matrices by block.
        rank: Number of rows of A.
        alpha: Scale of B A, as in the formula.
        dropout: Probability that an adapter's input is zeroed.
    """

    def __init__(
        self,
        model: MoEModel,
        chosen: Mapping[int, Sequence[str]],
        *,
        rank: int,
        alpha: float,
        dropout: float = 0.0,
    ) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        self.model = model
        self.lm: PreTrainedModel = checkout(model)
        linear, stacked = self._targets(chosen)
        # Each parameter by its full name: PEFT would match a shorter one in every block. Into the
        # layers, which have no configuration: of some model types PEFT takes linear layers with
        # an expert's names for fused experts.
        config = LoraConfig(
            r=rank,
            lora_alpha=alpha,  # type: ignore[arg-type]  # any number will do
            target_modules=linear,
            target_parameters=stacked,
        )
        inject_adapter_in_model(config, self.lm.model.layers, adapter_name=_NAME)
        for parameter in self.trained():
            parameter.data = parameter.data.float()
        for _, layer in self._layers():
            if dropout and not hasattr(layer, "parameter_name"):
                layer.lora_dropout[_NAME] = nn.Dropout(dropout)

    def trained(self) -> list[nn.Parameter]:
        """Return the adapters' parameters."""
        return [parameter for parameter in self.lm.parameters() if parameter.requires_grad]

    def merged(self) -> PreTrainedModel:
        """Return the model checked out anew, with W + delta where there is an adapter."""
        merged = checkout(self.model)
        for path, layer in self._layers():
            parameter = getattr(layer, "parameter_name", "weight")
            weight: Tensor = getattr(layer.get_base_layer(), parameter)
            delta = layer.get_delta_weight(_NAME).view_as(weight)
            put(
                merged.model.layers.get_submodule(path),
                parameter,
                (weight.float() + delta.float()).to(weight),
            )
        return merged

    def _layers(self) -> Iterator[tuple[str, Any]]:
        """Yield PEFT's layers, each after the path of the module it wraps."""
        from peft.tuners.lora import LoraLayer

        for path, module in self.lm.model.layers.named_modules():
            if isinstance(module, LoraLayer):
                # Several parameters of one module are wrapped one in the other.
                yield path.replace(".base_layer", ""), module

    def _targets(self, chosen: Mapping[int, Sequence[str]]) -> tuple[list[str], list[str]]:
        """Paths, counted from the layers, of linear modules and of all other parameters."""
        places: dict[tuple[int, str], None] = {}
        for block in self.model.blocks:
            by_name = slots(self.model, self.lm, block)
            for name in chosen.get(block.index, ()):
                places[id(by_name[name].module), by_name[name].parameter] = None
        linear, stacked = [], []
        for path, module in self.lm.model.layers.named_modules():
            for parameter in module._parameters:
                if (id(module), parameter) not in places:
                    continue
                if isinstance(module, nn.Linear):
                    linear.append(path)
                else:
                    stacked.append(f"{path}.{parameter}")
        return linear, stacked
