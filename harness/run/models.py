"""The models and the data of a cell, opened as its protocol runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.plan.cell import Cell
from harness.run.job import Job

if TYPE_CHECKING:
    from harness.data import DataRoot
    from harness.model.view import MoEModel


def open_base(cell: Cell, *, streaming: bool = False) -> MoEModel:
    """The base model as the protocol runs it."""
    import torch

    from harness.model.files.opening import open_model

    protocol = cell.protocol
    return open_model(
        cell.model.ref,
        dtype=getattr(torch, protocol.dtype),
        device=device(),
        experts=protocol.experts_implementation,
        attention=protocol.attention_implementation,
        streaming=streaming,
    )


def open_on_meta(cell: Cell) -> MoEModel:
    """The base model on the meta device, as the protocol would run it."""
    from harness.model.files.opening import open_meta

    return open_meta(
        cell.model.ref,
        experts=cell.protocol.experts_implementation,
        attention=cell.protocol.attention_implementation,
    )


def device() -> str:
    """Where cells run: the GPU when there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def data_of(job: Job) -> DataRoot:
    """Where the cell's data sets come from."""
    from harness.data import DataRoot

    return DataRoot(job.data_root)
