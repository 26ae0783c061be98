from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.measure.speed import semi_structured as kernels
from harness.measure.speed.semi_structured import semi_structured, two_four
from harness.measure.speed.traffic import traffic
from harness.model.layers.experts import Experts
from harness.model.quantized import kernels as model_kernels

Build = Callable[..., PreTrainedModel]


def mask(weight: Tensor) -> None:
    """Every first and last of four inputs to zero."""
    weight.data.view(-1, 4)[:, [0, 3]] = 0


def test_masks_are_recognised() -> None:
    weight = torch.ones(130, 16)
    assert not two_four(weight)
    mask(weight)
    assert two_four(weight)
    weight[129, 0] = 1.0  # the fourth of four, in the last row
    assert not two_four(weight)
    assert not two_four(torch.zeros(8, 16))
    assert not two_four(torch.ones(8, 6))


def test_on_a_cpu_masks_run_dense_and_say_so(tiny: Build) -> None:
    lm = tiny("mixtral")
    with semi_structured(lm) as note:
        assert note is None
    mask(lm.model.layers[0].self_attn.q_proj.weight)
    with semi_structured(lm) as note:
        assert note == "masks in 2:4 run dense: semi-structured kernels are CUDA's."


def test_masked_experts_give_the_same_logits_and_are_put_back(
    tiny: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dense matrices in the place of compressed ones: routing, order and activation."""
    lm = tiny("mixtral")
    for layer in lm.model.layers:
        for stack in layer.mlp.experts.parameters():
            mask(stack)
    mask(lm.model.layers[0].self_attn.q_proj.weight)
    ids = torch.arange(24).view(2, 12)
    before = list(lm.modules())
    whole = traffic(lm, batch=1, context=0, cache_bytes=0).parts
    with torch.no_grad():
        expected = lm(ids).logits
        monkeypatch.setattr(kernels, "_compressed", lambda weight: weight.detach().clone())
        monkeypatch.setattr(PreTrainedModel, "device", torch.device("cuda"))
        with semi_structured(lm) as note:
            monkeypatch.setattr(PreTrainedModel, "device", torch.device("cpu"))
            assert note == "4 of 4 modules masked in 2:4 ran semi-structured."
            swapped = [m for m in lm.modules() if isinstance(m, kernels.SparseBank)]
            assert len(swapped) == 3
            assert traffic(lm, batch=1, context=0, cache_bytes=0).parts == whole
            # On CUDA few tokens reach other banks unsorted; these loop over offsets.
            monkeypatch.setattr(model_kernels, "runs_on", lambda x: True)
            torch.testing.assert_close(lm(ids).logits, expected, rtol=1e-4, atol=1e-4)
    assert list(lm.modules()) == before
    assert not any(isinstance(m, Experts) for m in lm.modules())


def test_what_the_kernels_refuse_runs_dense(tiny: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny("mixtral")
    linear = lm.model.layers[0].self_attn.q_proj
    mask(linear.weight)
    weight = linear.weight

    def refuse(dense: Tensor) -> Tensor:
        raise RuntimeError("rows must be a multiple of 64.\nmore")

    monkeypatch.setattr(kernels, "_compressed", refuse)
    monkeypatch.setattr(PreTrainedModel, "device", torch.device("cuda"))
    with semi_structured(lm) as note:
        assert note == (
            "0 of 1 modules masked in 2:4 ran semi-structured; the others dense: rows must be a "
            "multiple of 64."
        )
    assert isinstance(linear, nn.Linear)
    assert linear.weight is weight
