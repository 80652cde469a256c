"""The way from a kernel to its function: which printer takes it."""

from __future__ import annotations

from weft.compiler.kernel.ir import Kernel, Library
from weft.compiler.kernel.nested import Branch, Loop
from weft.compiler.target import Target
from weft.devices.gpu.attention import ATTENTION
from weft.devices.gpu.attention_code import emit_attention
from weft.devices.gpu.loops import KernelCode, emit_loops
from weft.devices.gpu.product import emit_product
from weft.devices.gpu.tiles import emit_tiles
from weft.devices.gpu.updates import emit_updates

__all__ = ["emit_kernel", "has_code"]


def has_code(step: Kernel | Library | Branch | Loop) -> bool:
    """Whether a step is a function of ours."""
    return isinstance(step, Kernel) or (isinstance(step, Library) and step.op == ATTENTION)


def emit_kernel(kernel: Kernel | Library, name: str, unaligned: frozenset[str], target: Target
                ) -> KernelCode:
    """The function of a kernel; `unaligned` are buffers that may begin anywhere."""
    if isinstance(kernel, Library):
        return emit_attention(kernel, name, unaligned, target)
    return emit_product(kernel, name, target) or emit_tiles(kernel, name) \
        or emit_updates(kernel, name) or emit_loops(kernel, name, unaligned)
