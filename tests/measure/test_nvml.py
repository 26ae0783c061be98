"""NVML's handles of the visible devices, under every spelling of CUDA_VISIBLE_DEVICES."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import pytest
import torch

from harness.measure.nvml import handles, total_memory

GIB = 2**30
UUIDS = ("GPU-aaaa-1111", "GPU-aabb-2222", "GPU-cccc-3333")
INSTANCE = "MIG-dddd-4444"
"""A MIG instance, of 10 GiB; the devices have 80, 81 and 82."""
Fake = Callable[..., ModuleType]


class NVMLError(Exception):
    """As pynvml's."""


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Put a pynvml of three devices and a MIG instance in place of the real one."""

    def install(names: tuple[str, ...] = ("H100", "H100", "H100")) -> ModuleType:
        sizes = {uuid: (80 + number) * GIB for number, uuid in enumerate(UUIDS)}
        sizes[INSTANCE] = 10 * GIB

        def by_uuid(uuid: str) -> str:
            if uuid not in sizes:
                raise NVMLError("not found")
            return uuid

        module = ModuleType("pynvml")
        vars(module).update(
            NVMLError=NVMLError,
            nvmlInit=lambda: None,
            nvmlDeviceGetCount=lambda: len(UUIDS),
            nvmlDeviceGetHandleByIndex=lambda index: UUIDS[index],
            nvmlDeviceGetHandleByUUID=by_uuid,
            nvmlDeviceGetUUID=lambda handle: handle,
            nvmlDeviceGetName=lambda handle: names[UUIDS.index(handle)],
            nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(total=sizes[handle]),
        )
        monkeypatch.setitem(sys.modules, "pynvml", module)
        return module

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return install


@pytest.mark.parametrize(
    ("visible", "devices", "gib"),
    [
        (None, list(UUIDS), 80),
        ("1", [UUIDS[1]], 81),
        ("2, 0", [UUIDS[2], UUIDS[0]], 82),
        ("GPU-cccc-3333,0", [UUIDS[2], UUIDS[0]], 82),
        ("GPU-aab", [UUIDS[1]], 81),
        (f"{INSTANCE},1", [INSTANCE, UUIDS[1]], 10),
        # CUDA stops at what it does not know.
        ("1,-1,0", [UUIDS[1]], 81),
        ("1,7,0", [UUIDS[1]], 81),
        ("GPU-aa,1", [], None),
        ("", [], None),
        ("MIG-none", None, None),
    ],
)
def test_the_visible_devices_are_cuda_s(
    visible: str | None,
    devices: list[str] | None,
    gib: int | None,
    fake: Fake,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake()
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert handles() == devices
    assert total_memory() == (None if gib is None else gib * GIB)


def test_numbers_of_unlike_devices_are_told_apart_by_their_order_alone(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(("T4", "H100", "H100"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert handles() is None
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert handles() == [UUIDS[0]]
    monkeypatch.delenv("CUDA_DEVICE_ORDER")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", UUIDS[1])
    assert handles() == [UUIDS[1]]


def test_where_cuda_is_in_use_its_own_uuids_count(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(("T4", "H100", "H100"))
    used = ("cccc-3333", "dddd-4444")
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(used))
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=used[index])
    )
    assert handles() == [UUIDS[2], INSTANCE]


def test_without_nvml_there_is_no_handle(fake: Fake) -> None:
    def refuse() -> None:
        raise NVMLError("no driver")

    vars(fake())["nvmlInit"] = refuse
    assert handles() is None
    assert total_memory() is None
