from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from harness.method.quantization.grid import rounded
from harness.model.layers.packed import Packed
from harness.model.quantized import int4, native
from harness.model.quantized.scheme import Scheme


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    native.product.cache_clear()
    yield
    native.product.cache_clear()


def packed(outputs: int, inputs: int, scheme: Scheme) -> Packed:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(outputs, inputs, generator=generator).bfloat16()
    quantized = Packed(rounded(weight, scheme)[None])
    quantized.settle()
    return quantized


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("group", [32, 128])
@pytest.mark.parametrize("rows", [1, 3, 16])
def test_the_product_is_that_of_the_dequantised_matrix(
    rows: int, group: int, symmetric: bool
) -> None:
    own = native.product()
    if own is None or int4.block_rows() != native.ROWS:
        pytest.skip("needs AVX2 and a C compiler")
    weight = packed(96, 256, Scheme(group=group, symmetric=symmetric))
    assert weight.settled
    x = torch.randn(rows, 256, generator=torch.Generator().manual_seed(1)).bfloat16()
    outputs = own(x, weight.codes[0], weight.scales[0], group)
    exact = x.double() @ weight.dequantise(0, torch.float32).double().T
    assert outputs.dtype == torch.bfloat16
    # bfloat16 has rounded the result and, in a settled matrix, what zeros shift by.
    assert (outputs - exact).abs().max() < 0.02 * exact.abs().max()
    kernel = torch.ops.aten._weight_int4pack_mm_for_cpu
    theirs = kernel(x, weight.codes[0], group, weight.scales[0])
    assert (outputs - theirs).abs().max() <= 2**-7 * exact.abs().max()
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(own(x, weight.codes[0], weight.scales[0], group), outputs)
    finally:
        torch.set_num_threads(threads)


def test_without_a_compiler_torchs_kernel_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOEBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert native.product() is None
    weight = packed(64, 128, Scheme(group=32))
    if weight.settled:
        x = torch.ones(1, 128, dtype=torch.bfloat16)
        kernel = torch.ops.aten._weight_int4pack_mm_for_cpu
        theirs = kernel(x, weight.codes[0], 32, weight.scales[0])
        assert torch.equal(weight.linear(x), theirs)


def test_what_does_not_compile_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOEBENCH_CACHE", str(tmp_path / "cache"))
    broken = tmp_path / "int4.c"
    broken.write_text("no C at all")
    monkeypatch.setattr(native, "SOURCE", broken)
    assert native.product() is None
    assert not list(tmp_path.rglob("*.so"))
