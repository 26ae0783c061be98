"""Every edit that a format cannot hold is named, before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.errors import Refused, UserError
from harness.export.writing import EXPORT_FORMATS, export
from harness.model.edits import (
    DropBlock,
    DropMoE,
    Edit,
    KeepExperts,
    LowRank,
    MergeExperts,
    QuantizeWeights,
    SkipExperts,
)
from harness.model.quantized.scheme import Quantized, Scheme
from harness.model.view import MoEModel

FOUR = Scheme(bits=4, group=32, symmetric=True)


def factors() -> Edit:
    return LowRank.of(2, {"experts.1.up": (torch.ones(12, 2), torch.ones(2, 16))})


REFUSALS: dict[str, tuple[Edit, str]] = {
    "dropped": (DropMoE(block=2), "drop_moe in block 2"),
    "low rank": (factors(), "low_rank in block 2"),
    "skipped": (SkipExperts(block=1, beta=0.3), "skip_experts in block 1"),
    "merged": (
        MergeExperts(block=3, groups=((0, 1, 2), (3, 4, 5)), weights=((1.0,) * 3,) * 2),
        "merge_experts in block 3",
    ),
    "mask": (KeepExperts(block=1, experts=(0, 1, 2), router="mask"), "keep_experts in block 1"),
    "preserve": (
        KeepExperts(block=1, experts=(0, 1, 2), router="preserve"),
        "keep_experts in block 1",
    ),
    "uneven": (
        KeepExperts(block=2, experts=(0, 1, 2, 3)),
        "keep_experts leaves 6 experts in block 0 and 4 in block 2",
    ),
}


def refused(model: MoEModel, to: str, folder: Path, **options: bool) -> str:
    """The one sentence; and nothing is there."""
    with pytest.raises(Refused) as caught:
        export(model, folder / "out", to, **options)
    assert not list(folder.iterdir())
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("to", EXPORT_FORMATS)
@pytest.mark.parametrize("case", REFUSALS)
def test_an_edit_in_the_way_is_named(
    case: str, to: str, tiny: Callable[..., MoEModel], tmp_path: Path
) -> None:
    edit, words = REFUSALS[case]
    model = tiny("qwen2_moe")
    model.apply(edit)
    sentence = refused(model, to, tmp_path)
    assert sentence.startswith(f"{to}: ")
    assert words in sentence


def test_an_edit_on_a_block_that_is_gone_is_not_in_the_way(
    tiny: Callable[..., MoEModel], tmp_path: Path
) -> None:
    model = tiny("qwen2_moe")
    model.apply(SkipExperts(block=1, beta=0.3))
    model.apply(DropBlock(block=1))
    export(model, tmp_path / "out", "hf")


def test_quantized_needs_a_word_for_plain(
    wide: Callable[..., MoEModel], quantize: Callable[..., None], tmp_path: Path
) -> None:
    model = wide("mixtral")
    quantize(model, FOUR, ("experts",))
    sentence = refused(model, "hf", tmp_path)
    assert "quantize_weights packs experts.0.gate of block 0" in sentence
    assert "or dequantise: " in sentence
    proof = export(model, tmp_path / "out", "hf", dequantise=True)
    assert (proof.quantized, proof.experts) == (0, 54)


@pytest.mark.parametrize("to", EXPORT_FORMATS[1:])
def test_nothing_quantized(
    to: str,
    wide: Callable[..., MoEModel],
    quantize: Callable[..., None],
    tmp_path: Path,
) -> None:
    model = wide("mixtral")
    assert "nothing is quantized" in refused(model, to, tmp_path)
    quantize(model, Scheme(bits=3, group=32), ("experts",))
    assert "quantize_weights with 3 bits is only simulated" in refused(model, to, tmp_path)


def some(*names: str) -> Callable[[int, str], bool]:
    return lambda block, name: name in names


@pytest.mark.parametrize(
    ("to", "scheme", "words"),
    [
        ("awq", Scheme(bits=8, group=32), "has bits = 8; the format takes 4"),
        ("awq", Scheme(bits=4, group=0), "has group = 0; the format takes 32, 64, 128"),
        ("gptq", Scheme(bits=4, group=16), "has group = 16"),
        ("compressed-tensors", Scheme(bits=4, group=64), "32 inputs are not whole groups of 64"),
    ],
)
def test_schemes_the_format_does_not_take(
    to: str,
    scheme: Scheme,
    words: str,
    wide: Callable[..., MoEModel],
    tmp_path: Path,
) -> None:
    model = wide("llama")
    groups = scheme.groups(32)
    matrix = Quantized.of(
        torch.zeros(64, 32, dtype=torch.uint8),
        torch.ones(64, groups, dtype=torch.bfloat16),
        torch.zeros(64, groups, dtype=torch.uint8),
        scheme,
    )
    model.apply(QuantizeWeights.of(0, {"dense.down": matrix}))
    sentence = refused(model, to, tmp_path)
    assert sentence.startswith(f"{to}: quantize_weights of dense.down in block 0")
    assert words in sentence


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("attention.q", "attention.v"), "has attention.q and not attention.k"),
        (("shared.up",), "has shared.up and not shared.gate"),
        (("experts.0.gate", "experts.0.up"), "has experts.0.gate and not experts.0.down"),
    ],
)
def test_half_of_what_readers_fuse(
    names: tuple[str, ...],
    words: str,
    wide: Callable[..., MoEModel],
    quantize: Callable[..., None],
    tmp_path: Path,
) -> None:
    model = wide("qwen2_moe")
    quantize(model, FOUR, only=some(*names))
    sentence = refused(model, "gptq", tmp_path)
    assert words in sentence


def test_two_schemes(
    wide: Callable[..., MoEModel], quantize: Callable[..., None], tmp_path: Path
) -> None:
    model = wide("mixtral")
    quantize(model, FOUR, ("experts",))
    quantize(model, Scheme(bits=8, group=64, symmetric=True), ("attention",))
    sentence = refused(model, "gptq", tmp_path)
    assert "experts.0.gate of block 0 at 4 bits, group 32, symmetric" in sentence
    assert export(model, tmp_path / "out", "compressed-tensors").quantized == 54 + 12


def test_two_schemes_in_one_part(
    wide: Callable[..., MoEModel], quantize: Callable[..., None], tmp_path: Path
) -> None:
    model = wide("llama")
    quantize(model, FOUR, only=lambda block, name: block == 0)
    other = Scheme(bits=8, group=32, symmetric=True)
    quantize(model, other, only=lambda block, name: block > 0)
    assert "one scheme for each part" in refused(model, "compressed-tensors", tmp_path)


def test_an_unknown_format_and_a_full_folder(tiny: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown format 'gguf'"):
        export(tiny("llama"), tmp_path / "out", "gguf")
    (tmp_path / "something").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        export(tiny("llama"), tmp_path, "hf")
    assert [path.name for path in tmp_path.iterdir()] == ["something"]
