"""Multiply-accumulates of one forward pass, counted by fvcore on a copy without weights.

Where fvcore is not installed the formula of `harness.measure.analytic` stands for the count.
"""

from __future__ import annotations

import importlib
import logging
import re
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.measure.analytic import analytic_macs
from harness.measure.meta import meta_copy
from harness.measure.moe_layers import loaded
from harness.measure.shares import computed_share
from harness.records.record import Flops

if TYPE_CHECKING:
    from fvcore.nn.jit_handles import Handle

    from harness.model.view import MoEModel

logger = logging.getLogger(__name__)

ROUTING = (
    "Every token is computed by exactly top-k experts of its block (by all of them where fewer "
    "are left), the experts of a block cost the same, and none is skipped."
)

BY_FORMULA = "By formula: fvcore, which counts operations one by one, is not installed."

SUSPECT = re.compile(
    r"(?<!cu)mm|matmul|attention|linear|conv|einsum|dot|^prim::(PythonOp|CallFunction)"
)
"""Names of operations that may multiply matrices. Those outside `aten` and `prim` always may."""


class UncountedOperationError(RuntimeError):
    """An operation that may multiply matrices and that nobody has said how to count."""


def _attention(inputs: list[Any], outputs: list[Any]) -> int:
    """Full L x L, causal or not: scores, then mixing of the values."""
    query, key, value = _shapes(inputs[:3])  # [B, H, L, D]
    return int(query[0] * query[1] * query[2] * key[2] * (query[3] + value[3]))


def _grouped(inputs: list[Any], outputs: list[Any]) -> int:
    """Every row meets one matrix of the stack, whichever."""
    rows, stack = _shapes(inputs[:2])  # [S, K], [G, K, N]
    return int(rows[0] * rows[1] * stack[2])


def _shapes(values: list[Any]) -> list[Any]:
    """Shapes of traced tensors."""
    from fvcore.nn.jit_handles import get_shape

    return [get_shape(value) for value in values]


OP_HANDLES: dict[str, Handle | None] = {
    "aten::scaled_dot_product_attention": _attention,
    "aten::_grouped_mm": _grouped,
    "aten::grouped_mm": _grouped,
    "transformers::grouped_mm_fallback": _grouped,
    # Only matrix products are counted; fvcore would add these for models that have them.
    "aten::layer_norm": None,
    "aten::group_norm": None,
    "aten::batch_norm": None,
}
"""Counts that fvcore lacks, by operation: inputs and outputs of a traced node to
multiply-accumulates.

A run-time module with an operation of its own adds its line here. None counts as nothing.
"""


def measure_flops(model: MoEModel | PreTrainedModel, tokens: int) -> Flops:
    """Count the multiply-accumulates of one forward pass of `model` over one sequence.

    Runs on a copy without weights, with batch 1, the LM head on every token and attention over
    the full square. The count is the same under every experts and attention implementation and
    in every dtype.

    Args:
        model: Loaded on any device; not touched.
        tokens: Length of the sequence.

    Raises:
        UncountedOperationError: the model runs an operation that `OP_HANDLES` does not know.
    """
    lm = loaded(model)
    expected = analytic_macs(lm, tokens).total()
    if not _can_count():
        routing = f"{_routing(lm)} {BY_FORMULA}"
        return Flops(macs=expected, analytic_macs=expected, tokens=tokens, routing=routing)
    macs = counted_macs(_countable(lm), tokens).total()
    if macs != expected:
        logger.warning("fvcore counts %d multiply-accumulates, the formula %d", macs, expected)
    return Flops(macs=macs, analytic_macs=expected, tokens=tokens, routing=_routing(lm))


def _can_count() -> bool:
    try:
        importlib.import_module("fvcore.nn")
    except ModuleNotFoundError:
        return False
    return True


def _routing(lm: PreTrainedModel) -> str:
    """The sentence about routing that belongs to the count: measured, or assumed."""
    share = computed_share(lm)
    if share is None:
        return ROUTING
    return (
        f"Of the routers' choices, {100 * share:.1f} % are computed, as measured per block on the "
        "evaluation's tokens (all of them where nothing was evaluated); the experts of a block "
        "are chosen equally often."
    )


def counted_macs(lm: PreTrainedModel, tokens: int) -> Counter[str]:
    """Multiply-accumulates by operation, as fvcore counts them on the device `lm` is on.

    Raises:
        UncountedOperationError: see `measure_flops`.
    """
    from fvcore.nn import FlopCountAnalysis

    ids = torch.zeros((1, tokens), dtype=torch.long, device=lm.device)  # [1, L]
    analysis = FlopCountAnalysis(_Logits(lm), (ids,))
    analysis.set_op_handle(**OP_HANDLES)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*torch.jit")
        warnings.filterwarnings("ignore", message=".*Python integer.*")
        macs = Counter(analysis.by_operator())
    _refuse_uncounted(analysis.unsupported_ops())
    # Some versions of transformers spell position x frequency as a matrix product.
    for name, module in lm.named_modules():
        if type(module).__name__.endswith("RotaryEmbedding"):
            macs.subtract(analysis.by_operator(f"lm.{name}"))
    return macs


class _Logits(nn.Module):
    """The tracer wants tensors in and out."""

    def __init__(self, lm: PreTrainedModel) -> None:
        super().__init__()
        self.lm = lm

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.lm(input_ids=ids, use_cache=False).logits
        return logits


def _countable(lm: PreTrainedModel) -> PreTrainedModel:
    """A copy on the meta device, with implementations that run there."""
    blank = meta_copy(lm)
    for module in blank.modules():
        config = getattr(module, "config", None)
        if config is None:
            continue
        if config._attn_implementation not in ("sdpa", "eager"):
            config._attn_implementation = "sdpa"
        # Eager experts read the routing, and grouped_mm has demands on strides; this has neither.
        config._experts_implementation = "batched_mm"
    return blank


def _refuse_uncounted(operations: Counter[str]) -> None:
    uncounted = sorted(
        name
        for name in operations
        if SUSPECT.search(name) or not name.startswith(("aten::", "prim::"))
    )
    if uncounted:
        raise UncountedOperationError(
            f"fvcore cannot count {', '.join(uncounted)}: add a handle for it to "
            "harness.measure.flops.OP_HANDLES"
        )
