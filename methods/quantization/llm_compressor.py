"""llm-compressor, as a method: its GPTQ and its AWQ."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from harness.method import Method
from harness.peers.peer import LLM_COMPRESSOR, Peer
from harness.peers.peer_method import PeerMethod


class LLMCompressor(PeerMethod, Method):
    """llm-compressor (vLLM) in an interpreter of its own, on its own defaults.

    Every expert sees all tokens. GPTQ takes columns by descending diagonal of H with the grids of
    the weights as they were ("static"), and damps with 0.01. AWQ searches scales by the mappings
    that the library has for the family, and does not clip.
    """

    name: ClassVar[str] = "llm-compressor"
    reference: ClassVar[str] = (
        "llm-compressor 0.14.0.1, https://github.com/vllm-project/llm-compressor"
    )
    peer: ClassVar[Peer] = LLM_COMPRESSOR
    modules: ClassVar[tuple[str, ...]] = LLM_COMPRESSOR.modules
    families: ClassVar[dict[str, frozenset[str]]] = {
        "gptq": frozenset({"mixtral", "qwen2_moe", "deepseek_v2", "qwen3_moe", "olmoe", "llama"}),
        "awq": frozenset({"mixtral", "qwen2_moe", "deepseek_v2"}),
    }

    version: str = LLM_COMPRESSOR.version
    """Version of the library; another one is refused, for it may give other results."""
    act_order: bool = True
    """Take GPTQ's columns by descending diagonal of H, with grids of the weights as they were."""
    damping: float | None = Field(default=None, gt=0, lt=1)
    """Damping that GPTQ adds to H's diagonal, as a fraction of its mean; None for the library's."""
    all_experts: bool = True
    """Show every expert all tokens, not only those routed to it."""

    def own_options(self) -> dict[str, Any]:
        """Return the arguments of the library's modifiers."""
        gptq: dict[str, Any] = {"actorder": "static" if self.act_order else None}
        if self.damping is not None:
            gptq["dampening_frac"] = self.damping
        return {"gptq": gptq, "awq": {}, "all_experts": self.all_experts}
