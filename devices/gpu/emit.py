"""The way from a kernel to its function: which printer takes it."""

from __future__ import annotations

from weft.compiler.kernel.ir import Kernel
from weft.compiler.target import Target
from weft.devices.gpu.loops import KernelCode, emit_loops
from weft.devices.gpu.product import emit_product

__all__ = ["emit_kernel"]


def emit_kernel(kernel: Kernel, name: str, unaligned: frozenset[str], target: Target
                ) -> KernelCode:
    """The function of a kernel; `unaligned` are buffers that may begin anywhere."""
    return emit_product(kernel, name, target) or emit_loops(kernel, name, unaligned)
