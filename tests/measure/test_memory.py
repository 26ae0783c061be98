from __future__ import annotations

import mmap
from pathlib import Path

import pytest

from harness.measure import memory
from harness.measure.memory import PeakMemory

MIB = 1 << 20

measurable = pytest.mark.skipif(
    memory.reset_rss_peak() is None, reason="the system does not let the memory peak be reset"
)


def touch(mib: int) -> None:
    # From the system itself: an allocator may have freed pages at hand, still resident.
    with mmap.mmap(-1, mib * MIB) as pages:
        for start in range(0, mib * MIB, mmap.PAGESIZE):
            pages[start] = 1


@measurable
def test_a_transient_is_seen() -> None:
    with PeakMemory() as peak:
        touch(200)
    seen = peak.memory
    assert seen.rss_peak is not None
    assert seen.rss_before is not None
    assert seen.rss_peak - seen.rss_before == pytest.approx(200 * MIB, abs=16 * MIB)
    assert seen.torch_peak is None
    assert seen.nvml_peak is None


@measurable
def test_what_was_before_the_reset_is_not_seen() -> None:
    touch(300)
    with PeakMemory() as peak:
        touch(20)
    assert peak.memory.rss_peak is not None
    assert peak.memory.rss_before is not None
    assert peak.memory.rss_peak - peak.memory.rss_before < 100 * MIB


@measurable
def test_the_peak_is_known_after_an_error() -> None:
    peak = PeakMemory()
    with pytest.raises(FileNotFoundError), peak:
        Path("no such file").read_text()
    assert peak.memory.rss_peak is not None


def test_no_result_before_the_end_and_no_nesting() -> None:
    with PeakMemory() as peak:
        with pytest.raises(RuntimeError, match="ended"):
            _ = peak.memory
        with pytest.raises(RuntimeError, match="nested"), PeakMemory():
            pass
    with PeakMemory():
        pass


def test_a_peak_that_cannot_be_reset_is_absent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory, "CLEAR_REFS", tmp_path / "no such folder" / "clear_refs")
    with PeakMemory() as peak:
        pass
    assert peak.memory.rss_peak is None
    assert peak.memory.rss_before is None


def test_a_reset_that_did_nothing_is_found_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmHWM:\t  900000 kB\nVmRSS:\t  100000 kB\n")
    monkeypatch.setattr(memory, "STATUS", status)
    monkeypatch.setattr(memory, "CLEAR_REFS", tmp_path / "clear_refs")
    assert memory.reset_rss_peak() is None
    status.write_text("VmHWM:\t  100040 kB\nVmRSS:\t  100000 kB\n")
    assert memory.reset_rss_peak() == 100000 * 1024
