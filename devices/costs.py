"""What devices cost, for the cost model that `device="auto"` asks. A table, and a reason each.

The numbers are meant to be right within a factor of two or three on machines that are common, which
is what choosing takes: where devices differ by less, either will do.
"""

from __future__ import annotations

from collections.abc import Mapping

from weft.compiler.cost import Costs
from weft.compiler.lazy_dataclass import replace
from weft.compiler.target import Target
from weft.devices.protocol import Device

__all__ = ["TABLE", "costs_of", "gpu_costs"]

TABLE: Mapping[str, Costs] = {
    "reference": Costs(
        launch=20e-6, op=5e-6, flops=3e9, bandwidth=4e9,
        why="a call of NumPy and a walk in Python for each op, whose results all go to memory"),
    "xla": Costs(
        launch=60e-6, flops=3e10, bandwidth=2e10, transfer=30e-6, link=5e9,
        why="XLA on two to four cores of a CPU; JAX copies arrays there and back"),
    "tpu": Costs(
        launch=100e-6, flops=5e13, bandwidth=8e11, transfer=200e-6, link=1e10,
        why="half of a TPU v5e's bfloat16 peak, its memory, PCIe and a host in between"),
    "gpu": Costs(
        launch=15e-6, op=2e-6, flops=1.5e13, bandwidth=1e12, transfer=25e-6, link=4e9,
        why="float32 on a data-centre card of 2020; copies from and to memory that is not pinned"),
}

# Measured on an NVIDIA H200 (132 multiprocessors at 1.98 GHz, 4.81 TB/s of memory traffic at best;
# CUDA 13.0, CuPy 14.2): copies of arrays on the device move 4.27 TB/s, read and written; float32
# products of 4096 x 4096 matrices by cuBLAS take 2.68 ms, 51 TFLOP/s (with tf32 0.345 ms, which
# `precision=` asks for and this model does not count on); a call of a compiled function takes 10 to
# 20 µs of the host, a launch about 5 µs, with some two or three ops in a kernel. A NumPy array of
# 64 bytes is there in 30 µs and back in 24, one of 64 MiB at 5.3 GB/s and back at 2.7.
_OF_BEST_FLOPS = 51e12 / (132 * 128 * 2 * 1.98e9)
_OF_BEST_BANDWIDTH = 4.27e12 / 4.814e12
_FEW_LANES = ("sm_75", "sm_80")     # float32 lanes of a multiprocessor: 64 on these, 128 on others


def gpu_costs(processors: int, arch: str, clock: float, bandwidth: float) -> Costs:
    """What a GPU costs: the shares of the best possible that were measured on one, of its own.

    `clock` is in cycles a second, `bandwidth` in bytes a second; where either is 0, which a driver
    says that does not know it, the table's line stands in.

    >>> h200 = gpu_costs(132, "sm_90", 1.98e9, 4.814e12)
    >>> f"{h200.flops:.3g} {h200.bandwidth:.3g}"
    '5.1e+13 4.27e+12'
    >>> gpu_costs(132, "sm_90", 0.0, 0.0) is TABLE["gpu"]
    True
    """
    usual = TABLE["gpu"]
    if not clock or not bandwidth:
        return usual
    best = processors * (64 if arch in _FEW_LANES else 128) * 2 * clock
    return replace(
        usual, flops=_OF_BEST_FLOPS * best, bandwidth=_OF_BEST_BANDWIDTH * bandwidth,
        why=f"float32 on {processors} multiprocessors at {clock / 1e9:.3g} GHz and "
            f"{bandwidth / 1e12:.3g} TB/s, {_OF_BEST_FLOPS:.0%} and {_OF_BEST_BANDWIDTH:.0%} of "
            "which were reached on an H200; copies from and to memory that is not pinned")


def costs_of(device: Device) -> Costs:
    """The device's own `costs`, if it says them, else those of the table.

    >>> from weft.devices.registry import get_device
    >>> costs_of(get_device("reference")).op
    5e-06
    """
    own: Costs | None = getattr(device, "costs", None)
    if own is not None:
        return own
    return _of_cpu(device.target()) if device.name == "cpu" else TABLE.get(device.name, Costs())


def _of_cpu(target: Target) -> Costs:
    lanes = target.lanes(4)
    return Costs(
        launch=1e-6, flops=target.threads * lanes * 3e9, bandwidth=1e10 * min(target.threads, 4),
        why=f"{target.threads} thread{'s' * (target.threads != 1)} of {lanes} float32 lanes at "
            "3 GHz, half of the peak with fused multiply-add; 10 GB/s a thread")
