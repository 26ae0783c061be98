"""Models opened as a protocol runs them, from their files or without weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.model.view import MoEModel
    from harness.records.protocol import Protocol


def open_stored(
    ref: str, protocol: Protocol, *, streaming: bool = False, verify: bool = True
) -> MoEModel:
    """Open a model from its files, as the protocol runs it.

    Args:
        ref: Reference name, folder, artifact or hub id.
        protocol: Names the number format and the implementations.
        streaming: Hold only a few blocks in memory; the weights are the same to the bit.
        verify: Refuse an artifact with a file that is not the one that was saved.

    Raises:
        UserError: the model is not there, not whole, or not of a known family.
    """
    import torch

    from harness.model.files.opening import open_model

    return open_model(
        ref,
        dtype=getattr(torch, protocol.dtype),
        device=device(),
        experts=protocol.experts_implementation,
        attention=protocol.attention_implementation,
        streaming=streaming,
        verify=verify,
    )


def open_on_meta(ref: str, protocol: Protocol) -> MoEModel:
    """Open a model on the meta device, without weights, as the protocol would run it.

    Raises:
        UserError: the configuration cannot be had, or is not of a known family.
    """
    from harness.model.files.opening import open_meta

    return open_meta(
        ref,
        experts=protocol.experts_implementation,
        attention=protocol.attention_implementation,
    )


def device() -> str:
    """Return where models run: the GPU when there is one, else the CPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
