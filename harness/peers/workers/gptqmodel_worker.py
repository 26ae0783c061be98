"""GPTQModel's worker. Run by its own interpreter: `python gptqmodel_worker.py FOLDER`."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import gptqmodel.looper.awq_processor as awq_processor
import gptqmodel.looper.gptq_processor as gptq_processor
import torch
from bit_stream import natural, unpacked
from gptqmodel import BACKEND, GPTQModel, QuantizeConfig
from gptqmodel.quantization import FORMAT, METHOD
from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm
from gptqmodel.quantization.config import ExpertsRoutingBypass, MoEConfig
from peer_job import PeerJob, Unable, check_loaded, digests, linear, main, same, write_blocks
from torch import Tensor, nn

BACKENDS = {"gptq": BACKEND.GPTQ_TORCH, "awq": BACKEND.AWQ_TORCH}
"""The kernels in plain torch; the others repack what is to be read here."""
CLIPPED = 64
"""Rows that AWQ's search for clips takes at once."""
_proven: set[str] = set()


def run(job: PeerJob) -> dict[str, Any]:
    """Load, quantize, write."""
    backend = BACKENDS[job.algorithm]
    prove_packing(gptq_processor, job)
    prove_packing(awq_processor, job)
    wrapped = GPTQModel.load(job.model, config(job), backend=backend, trust_remote_code=False)
    model: nn.Module = wrapped.model
    check_shapes(job, model)
    parameters = dict(model.named_parameters())
    check_loaded(job, parameters)
    before = digests(parameters)
    biases = {name: tensor.detach().clone() for name, tensor in _biases(model).items()}
    start = time.perf_counter()
    rows = [{"input_ids": row.tolist(), "attention_mask": [1] * len(row)} for row in job.rows()]
    wrapped.quantize(
        rows,
        batch_size=job.batch_size,
        calibration_sort=None,
        calibration_data_min_length=1,
        backend=backend,
    )
    seconds = time.perf_counter() - start
    missing = set(job.modules) - _proven
    if missing:
        raise Unable(f"it left {len(missing)} matrices as they were, {min(missing)} for one.")
    state = {**dict(model.named_parameters()), **_kept(_biases(model), biases)}
    write_blocks(job, state, before, lambda name: unpack(job, model, name))
    return {"seconds": seconds}


def config(job: PeerJob) -> QuantizeConfig:
    """The peer's configuration; everything stays in memory, where it can be compared.

    The older format of GPTQ stores every zero less 1, which its own kernel does not add again.
    """
    settings: dict[str, Any] = {"format": FORMAT.GPTQ_V2, **job.options["config"]}
    if job.algorithm == "awq":
        settings |= {"method": METHOD.AWQ, "format": FORMAT.GEMM}
    if job.options["all_experts"]:
        settings["moe"] = MoEConfig(routing=ExpertsRoutingBypass())
    return QuantizeConfig(
        bits=job.bits,
        group_size=job.group or -1,
        sym=job.symmetric,
        offload_to_disk=False,
        dynamic={f"-:^{re.escape(name)}$": {} for name in job.left} or None,
        **settings,
    )


def check_shapes(job: PeerJob, model: nn.Module) -> None:
    """AWQ's groups must divide every row, and the rows of its search for clips every matrix.

    Raises:
        Unable: they do not.
    """
    if job.algorithm != "awq":
        return
    for name in job.modules:
        module: Any = linear(model, name)
        inputs, outputs = int(module.in_features), int(module.out_features)
        if job.group and inputs % job.group:
            raise Unable(
                f"its AWQ needs groups that divide every row, and {name} has {inputs} inputs; "
                "set group to 0 or to a divisor."
            )
        if outputs % CLIPPED:
            raise Unable(
                f"its AWQ looks for clips in {CLIPPED} rows at once, and {name} has {outputs}; "
                "use the algorithm gptq, or another method."
            )


def prove_packing(processor: Any, job: PeerJob) -> None:
    """Compare what is packed with the weights the algorithm ended with, when it is packed."""
    pack = processor.pack_module

    def packed(*args: Any, **kwargs: Any) -> Any:
        name = kwargs["name"]
        weight = kwargs["layers"][name].weight.detach().clone()
        done = pack(*args, **kwargs)
        module = kwargs["qModules"][name]
        # Packing rounds scales to 16 bits: of a weight, to the next of its 8 or 11 bits.
        same(_dequantised(job, module).T, weight, name, tolerance=2**-7)
        _proven.add(name)
        return done

    processor.pack_module = packed


def unpack(job: PeerJob, model: nn.Module, name: str) -> dict[str, Tensor]:
    """Codes, scales and zeros of a packed module, proven against its own dequantised weight."""
    module: Any = linear(model, name)
    scales = module.scales.detach()  # [groups, outputs]
    groups, outputs = scales.shape
    inputs = int(module.in_features)
    size = -(-inputs // groups)
    if job.algorithm == "awq":
        codes = unpacked(module.qweight, job.bits, outputs)  # [inputs, outputs]
        zeros = unpacked(module.qzeros, job.bits, outputs)  # [groups, outputs]
        if job.bits == 4:
            codes, zeros = natural(codes), natural(zeros)
    else:
        order = torch.arange(inputs) // size
        if not torch.equal(module.g_idx.cpu().long(), order):
            raise Unable(f"it mixed the groups of {name}; use another order.")
        codes = unpacked(module.qweight.T, job.bits, inputs).T
        zeros = unpacked(module.qzeros, job.bits, outputs)
    spread = [one.repeat_interleave(size, 0)[:inputs] for one in (zeros, scales)]
    ours = (codes.to(scales.dtype) - spread[0].to(scales.dtype)) * spread[1]
    same(ours, _dequantised(job, module), name)
    tensors = {"codes": codes.T.to(torch.uint8), "scales": scales.T}
    if not job.symmetric:
        return tensors | {"zeros": zeros.T.to(torch.uint8)}
    if bool((zeros != 2 ** (job.bits - 1)).any()):
        raise Unable(f"its grid of {name} is not symmetric.")
    return tensors


def _dequantised(job: PeerJob, module: Any) -> Tensor:
    """The peer's own, [inputs, outputs]."""
    if job.algorithm == "gptq":
        own: Tensor = module.dequantize_weight()
        return own
    weight: Tensor = dequantize_gemm(
        qweight=module.qweight,
        qzeros=module.qzeros,
        scales=module.scales,
        bits=job.bits,
        group_size=module.group_size,
    )
    return weight


def _biases(model: nn.Module) -> dict[str, Tensor]:
    """All biases; quantized modules hold theirs as buffers."""
    tensors = {**dict(model.named_buffers()), **dict(model.named_parameters())}
    return {name: tensor for name, tensor in tensors.items() if name.endswith(".bias")}


def _kept(after: dict[str, Tensor], before: dict[str, Tensor]) -> dict[str, Tensor]:
    """Biases as they were where only their dtype has changed."""
    return {
        name: before[name] if torch.equal(before[name].to(tensor.dtype), tensor) else tensor
        for name, tensor in after.items()
    }


if __name__ == "__main__":
    main("gptqmodel", run)
