"""What devices cost, for the cost model that `device="auto"` asks. A table, and a reason each.

The numbers are meant to be right within a factor of two or three on machines that are common, which
is what choosing takes: where devices differ by less, either will do.
"""

from __future__ import annotations

from collections.abc import Mapping

from weft.compiler.cost import Costs
from weft.compiler.target import Target
from weft.devices.protocol import Device

__all__ = ["TABLE", "costs_of"]

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
        launch=15e-6, op=2e-6, flops=1.5e13, bandwidth=1e12, transfer=20e-6, link=1.5e10,
        why="float32 on a data-centre card of 2020 or later, a launch for each kernel, PCIe 4"),
}


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
