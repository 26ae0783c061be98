"""The regions of all pages: a name, and the function that writes what stands there."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.documents import benchmarks, orders, real, sizes, suites
from tests.faults.page import faults_table

TABLES: Mapping[str, Callable[[], str]] = {
    "quickstart": suites.quickstart,
    "exact-algorithms": benchmarks.exact,
    "packed-decoding": benchmarks.decoding,
    "quantization-errors": benchmarks.quantization,
    "reference-baselines": suites.baselines,
    "reference-mmlu": suites.mmlu,
    "reference-compressed": suites.compressed,
    "another-calibration-text": suites.seeds,
    "order-means": orders.means,
    "order-differences": orders.differences,
    "real-small": real.results,
    "real-orders": real.orders,
    "full-size-macs": sizes.macs,
    "gpu-memory": sizes.gpu_memory,
    "faults": faults_table,
}
