"""Our own 4-bit product for AVX2, compiled when it is first needed.

torch's kernel takes a block's scales and shifts to every single weight, which on AVX2 costs more
than half of the time. `int4.c` multiplies codes as they are and takes the grid once per group: with
one row 2.4 times as fast, with four or more equal. Without a C compiler torch's kernel runs.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from harness.cache import sealed
from harness.disk import scratch
from harness.errors import UserError
from harness.places import cache_folder

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("int4.c")
FLAGS = ("-O3", "-mavx2", "-mfma", "-fPIC")
ROWS = 32
"""Outputs of a block, as the source has it."""
SECONDS = 60

Product = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""Rows bfloat16 [rows, inputs], codes, grid and group as `int4.linear` has them."""


@functools.cache
def product() -> Product | None:
    """The product on this machine; None where torch's own is to run."""
    if torch.backends.cpu.get_cpu_capability() != "AVX2":
        return None
    try:
        function = _library().int4_rows
    except (OSError, UserError, subprocess.SubprocessError) as error:
        logger.info("4-bit products run in torch's kernel: %s", error)
        return None
    function.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_long] * 4 + [ctypes.c_int]
    function.restype = None

    def multiply(x: Tensor, codes: Tensor, grid: Tensor, group: int) -> Tensor:
        rows, inputs = x.shape
        outputs = len(codes)
        held = (codes.contiguous(), grid.contiguous(), x.float().contiguous())
        out = torch.empty(rows, outputs)
        pointers = [tensor.data_ptr() for tensor in (*held, out)]
        function(*pointers, rows, outputs, inputs, group, torch.get_num_threads())
        return out.to(x.dtype)

    return multiply


def _library() -> ctypes.CDLL:
    """The compiled source, kept for the next process; what is kept is checked before it is loaded.

    Raises:
        OSError: there is no compiler, or what it made cannot be loaded.
        UserError: there is no temporary folder.
        subprocess.SubprocessError: it does not compile.
    """
    key = hashlib.sha256(SOURCE.read_bytes() + " ".join(FLAGS).encode()).hexdigest()[:16]
    path = cache_folder() / "kernels" / f"int4-{key}.so"
    # Code that was cut would end the process when it is loaded, or worse, later.
    if sealed.read_bytes(path) is None:
        with scratch.folder(what="kernel") as folder:
            made = _compiled(folder)
            if not sealed.write_bytes(path, made.read_bytes()):
                return ctypes.CDLL(str(made))
    return ctypes.CDLL(str(path))


def _compiled(folder: Path) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        raise FileNotFoundError("there is no C compiler (cc)")
    code, linked = folder / "int4.o", folder / "int4.so"
    _run(compiler, *FLAGS, "-fopenmp", "-c", str(SOURCE), "-o", str(code))
    # Not linked with OpenMP: torch has loaded one, whose threads and their number are shared.
    _run(compiler, "-shared", str(code), "-o", str(linked))
    return linked


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
