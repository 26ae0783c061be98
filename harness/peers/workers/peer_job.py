"""A job and its answer, as both workers read and write them.

The job's folder holds `model/`, a plain transformers checkpoint; `calibration.safetensors` with
`input_ids`, and `attention_mask` where there is padding; and `job.json`. The answer is one
`block-N.safetensors` per decoder layer and `report.json`; or one sentence in `refusal.txt`, or an
error in `failure.txt`.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

LAYERS = "model.layers."
REFUSES = 3
"""Exit code of a worker that has written why into `REFUSAL`."""
REFUSAL = "refusal.txt"
FAILURE = "failure.txt"


class Unable(Exception):
    """Raised for what the peer cannot do, with one sentence for the user."""


class PeerJob:
    """The job that a peer is given.

    Attributes:
        folder: Where everything is.
        algorithm: "gptq" or "awq".
        bits: Of the codes.
        group: Inputs per scale; 0 for all of a row.
        symmetric: Is the grid's zero in its middle?
        options: The adapter's own.
        batch_size: Sequences at once.
        modules: Full paths of the linear layers to quantize.
        left: Full paths of the others.
        weights: Hash of every weight of a block that has a name, by full path.
        dtype: In which they were hashed.
    """

    def __init__(self, folder: Path) -> None:
        told: dict[str, Any] = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        self.folder = folder
        self.algorithm: str = told["algorithm"]
        self.bits: int = told["bits"]
        self.group: int = told["group"]
        self.symmetric: bool = told["symmetric"]
        self.options: dict[str, Any] = told["options"]
        self.batch_size: int = told["batch_size"]
        self.modules: list[str] = told["modules"]
        self.left: list[str] = told["left"]
        self.weights: dict[str, str] = told["weights"]
        self.dtype: torch.dtype = getattr(torch, told["dtype"])

    @property
    def model(self) -> str:
        """The checkpoint's folder."""
        return str(self.folder / "model")

    def rows(self) -> list[Tensor]:
        """Token ids of each sequence, int64 [length], padding cut off; the peers' defaults differ.

        Raises:
            Unable: there are none.
        """
        tensors = load_file(self.folder / "calibration.safetensors")
        ids, mask = tensors["input_ids"], tensors.get("attention_mask")
        if not len(ids):
            raise Unable("it needs calibration tokens, and there are none.")
        return [row if mask is None else row[mask[place].bool()] for place, row in enumerate(ids)]

    def size(self, inputs: int) -> int:
        """Inputs per scale in a row of so many; a row shorter than a group is one group.

        Raises:
            Unable: groups do not divide the row.
        """
        size = min(self.group or inputs, inputs)
        if inputs % size:
            raise Unable(f"groups of {size} do not divide a row of {inputs}; set another group.")
        return size


def check_loaded(job: PeerJob, state: Mapping[str, Tensor]) -> None:
    """Is what the peer has in memory what it was given, to the bit?

    Checkpoints whose names a library does not know load with random experts and a mere warning.
    One that works in 16 bits must lose nothing by it.

    Raises:
        Unable: a weight is missing or another one.
    """
    wrong = []
    for name, expected in job.weights.items():
        tensor = state.get(name)
        if tensor is None or digest(tensor.detach().to(job.dtype)) != expected:
            wrong.append(name)
    if wrong:
        raise Unable(
            f"it loaded {len(wrong)} of {len(job.weights)} weights with other values than the "
            f"checkpoint holds in {str(job.dtype).removeprefix('torch.')}, the first is "
            f"{wrong[0]}; nothing was quantized."
        )


def digests(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Hashes of all tensors, by name."""
    return {name: digest(tensor) for name, tensor in state.items()}


def digest(tensor: Tensor) -> str:
    """SHA-256 of a tensor's bytes; nothing for one without values."""
    if tensor.is_meta:
        return ""
    held = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
    return hashlib.sha256(held.numpy().data).hexdigest()


def write_blocks(
    job: PeerJob,
    state: Mapping[str, Tensor],
    before: Mapping[str, str],
    unpack: Callable[[str], dict[str, Tensor]],
) -> None:
    """Write the codes of every module, and what else the peer has changed, block by block.

    Args:
        job: Names the modules.
        state: Parameters after, by full name; those of quantized modules do not matter.
        before: Hashes of all parameters as they were.
        unpack: Gives "codes" uint8 [outputs, inputs], "scales" [outputs, groups] and, unless
            symmetric, "zeros" uint8 [outputs, groups] of a module.

    Raises:
        Unable: something outside the blocks was changed, or is gone.
    """
    changed = dict(_changed(job, state, before))
    outside = [name for name in changed if not name.startswith(LAYERS)]
    if outside:
        raise Unable(f"it changed {outside[0]}, which is outside the blocks.")
    places = sorted({_place(name) for name in (*job.modules, *changed)})
    for place in places:
        prefix = f"{LAYERS}{place}."
        tensors: dict[str, Tensor] = {}
        for module in (name for name in job.modules if name.startswith(prefix)):
            for part, tensor in unpack(module).items():
                tensors[f"{module.removeprefix(prefix)}.{part}"] = tensor
        for name in (name for name in changed if name.startswith(prefix)):
            tensors[name.removeprefix(prefix)] = changed[name].detach()
        whole = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        save_file(whole, job.folder / f"block-{place}.safetensors")


def _changed(
    job: PeerJob, state: Mapping[str, Tensor], before: Mapping[str, str]
) -> Iterator[tuple[str, Tensor]]:
    quantized = set(job.modules)
    for name, expected in before.items():
        module, _, parameter = name.rpartition(".")
        if module in quantized and parameter == "weight":
            continue
        tensor = state.get(name)
        if tensor is None:
            raise Unable(f"{name} is gone from the model.")
        if digest(tensor) != expected:
            yield name, tensor


def _place(name: str) -> int:
    return int(name.removeprefix(LAYERS).partition(".")[0])


def same(ours: Tensor, theirs: Tensor, name: str, *, tolerance: float = 0.0) -> None:
    """Do our codes mean what the peer's own dequantised weight says?

    Args:
        ours: (code - zero) * scale, of any shape and dtype.
        theirs: The peer's, of the same shape.
        name: Of the module.
        tolerance: Of a difference, relative to the largest weight.

    Raises:
        Unable: they differ, or are not finite.
    """
    left, right = ours.float(), theirs.detach().float()
    most = float((left - right).abs().max()) if left.shape == right.shape else float("inf")
    if not most <= tolerance * float(right.abs().max()):
        raise Unable(f"the codes of {name} are not those of its own weights (off by {most:.3g}).")


def linear(model: nn.Module, name: str) -> nn.Module:
    """A module by its path.

    Raises:
        Unable: it is not there.
    """
    try:
        return model.get_submodule(name)
    except AttributeError:
        raise Unable(f"it has no module {name}; it cannot quantize this family.") from None


def main(package: str, quantize: Callable[[PeerJob], dict[str, Any]]) -> None:
    """Do the job in the folder that the command line names.

    Args:
        package: The peer's distribution.
        quantize: Does it and writes the blocks; gives what else is to be reported.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    folder = Path(sys.argv[1])
    try:
        report = quantize(PeerJob(folder))
    except Exception as error:  # whatever a library raises is for the user to read
        traceback.print_exc()
        unable = _unable(error)
        if unable is not None:
            (folder / REFUSAL).write_text(str(unable), encoding="utf-8")
            _leave(REFUSES)
        (folder / FAILURE).write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
        _leave(1)
    names = (package, "torch", "transformers")
    versions = {name: importlib.metadata.version(name) for name in names}
    report = {"versions": versions, "python": platform.python_version(), **report}
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    _leave(0)


def _unable(error: BaseException | None) -> Unable | None:
    """The `Unable` that a library may have wrapped in errors of its own."""
    while error is not None and not isinstance(error, Unable):
        error = error.__cause__ or error.__context__
    return error


def _leave(code: int) -> NoReturn:
    # Threads that a library leaves behind would abort an interpreter that shuts down.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _end_with_parent() -> None:
    # Whoever started the worker holds the other end, and never writes.
    os.read(0, 1)  # sys.stdin's lock would be held when the interpreter shuts down
    os._exit(1)
