"""GPTQModel, as a method: its GPTQ and its AWQ."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from harness.method import Method
from harness.peers.peer import GPTQMODEL, Peer
from harness.peers.peer_method import PeerMethod


class GPTQModel(PeerMethod, Method):
    """GPTQModel (ModelCloud) in an interpreter of its own, on its own defaults.

    GPTQ orders columns within groups (`act_group_aware`), damps with 0.05 and rounds what fewer
    than 0.5 % of the tokens reached. AWQ searches scales and clips.
    """

    name: ClassVar[str] = "gptqmodel"
    reference: ClassVar[str] = "GPTQModel 7.6.0, https://github.com/ModelCloud/GPTQModel"
    peer: ClassVar[Peer] = GPTQMODEL
    modules: ClassVar[tuple[str, ...]] = GPTQMODEL.modules
    families: ClassVar[dict[str, frozenset[str]]] = {
        "gptq": frozenset({"mixtral", "qwen2_moe", "deepseek_v2", "olmoe", "llama"}),
        "awq": frozenset({"mixtral", "qwen2_moe"}),
    }

    version: str = GPTQMODEL.version
    """Version of the library; another one is refused, for it may give other results."""
    act_group_aware: bool = True
    """Order GPTQ's columns so that groups stay whole; without groups there is nothing to keep."""
    act_order: bool = False
    """Take GPTQ's columns by descending diagonal of H, with grids of the weights as they were
    (`static_groups`); in place of `act_group_aware`."""
    damping: float | None = Field(default=None, gt=0, lt=1)
    """Damping that GPTQ adds to H's diagonal, as a fraction of its mean; None for the library's."""
    all_experts: bool = False
    """Show every expert all tokens, not only those routed to it."""

    @model_validator(mode="after")
    def _one_order(self) -> Self:
        if self.act_order and self.act_group_aware and "act_group_aware" in self.model_fields_set:
            raise ValueError("act_order and act_group_aware exclude each other")
        return self

    def own_options(self) -> dict[str, Any]:
        """Return the fields of the library's QuantizeConfig."""
        config: dict[str, Any] = {}
        if self.algorithm == "gptq":
            config |= {
                "desc_act": self.act_order,
                "static_groups": self.act_order,
                "act_group_aware": self.act_group_aware and not self.act_order and self.group > 0,
            }
            if self.damping is not None:
                config["damp_percent"] = self.damping
        return {"config": config, "all_experts": self.all_experts}
