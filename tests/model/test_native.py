from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from harness.cache import keeping
from harness.method.quantization.grid import rounded
from harness.model.layers.packed import Packed
from harness.model.quantized import int4, native
from harness.model.quantized.scheme import Scheme
from tests.cache import damage
from tests.cache.conftest import warnings
from tests.cache.damage import Damage


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


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of compiled code, where our product runs on this processor."""
    flags = Path("/proc/cpuinfo")
    if shutil.which("cc") is None or not flags.exists() or " avx2 " not in flags.read_text():
        pytest.skip("needs AVX2 and a C compiler")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setenv("MOEBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(keeping, "_warned", False)
    return tmp_path / "cache" / "kernels"


def multiplies() -> bool:
    """True if our product is there and right."""
    own = native.product()
    if own is None:
        return False
    codes = torch.randint(0, 16, (32, 32), generator=torch.Generator().manual_seed(0))
    grid = torch.tensor([1.0, 0.0]).expand(1, 32, 2).bfloat16().contiguous()
    ordered = int4.interleave(codes.to(torch.uint8), native.ROWS)
    sums = own(torch.ones(1, 32).bfloat16(), ordered, grid, 32)
    return torch.equal(sums[0], (codes - int4.MIDDLE).sum(1).bfloat16())


@pytest.mark.parametrize("harm", damage.ALL)
def test_damaged_code_is_compiled_again_with_one_warning(
    harm: Damage, kernels: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        # Not yet loaded: a file that a process runs must never be written in place.
        patch.setattr(ctypes, "CDLL", lambda path: None)
        native._library()
    [file] = kernels.iterdir()
    whole = file.read_bytes()
    harm(file)
    assert multiplies()
    assert file.read_bytes() == whole
    [warning] = warnings(caplog)
    assert warning.startswith(f"{file}: ")
    native.product.cache_clear()
    monkeypatch.setattr(native, "_compiled", None)
    assert multiplies()
    assert len(warnings(caplog)) == 1


def test_code_that_was_cut_ends_no_process(kernels: Path) -> None:
    script = (
        "import torch; torch.backends.cpu.get_cpu_capability = lambda: 'AVX2'\n"
        "from harness.model.quantized import native; assert native.product() is not None"
    )
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
        assert done.returncode == 0, done.stderr
        [file] = kernels.parent.rglob("*.so")
        damage.cut(file)


def test_code_that_cannot_be_kept_runs_all_the_same(
    kernels: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kernels.parent.write_text("no folder")
    assert multiplies()
    [warning] = warnings(caplog)
    assert str(kernels) in warning
