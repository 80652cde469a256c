"""The way from a kernel to its function: which printer takes it."""

from __future__ import annotations

from weft.compiler.kernel.flatten import flatten
from weft.compiler.kernel.ir import Kernel, Library
from weft.compiler.kernel.nested import Branch, Loop
from weft.compiler.lazy_dataclass import replace
from weft.compiler.target import Target
from weft.devices.gpu.attention import ATTENTION
from weft.devices.gpu.attention_backward_code import emit_gradient
from weft.devices.gpu.attention_code import emit_attention
from weft.devices.gpu.attention_group import GRADIENT
from weft.devices.gpu.columns import Columns
from weft.devices.gpu.loops import KernelCode, Loops
from weft.devices.gpu.product import emit_product
from weft.devices.gpu.schedule import Schedule, schedule
from weft.devices.gpu.target import shared_bytes
from weft.devices.gpu.tiles import emit_tiles
from weft.devices.gpu.unspill import without_scratch
from weft.devices.gpu.updates import emit_updates

__all__ = ["emit_kernel", "has_code"]

_PRINTERS = {ATTENTION: emit_attention, GRADIENT: emit_gradient}


def has_code(step: Kernel | Library | Branch | Loop) -> bool:
    """Whether a step is a function of ours."""
    return isinstance(step, Kernel) or (isinstance(step, Library) and step.op in _PRINTERS)


def emit_kernel(kernel: Kernel | Library, name: str, unaligned: frozenset[str], target: Target
                ) -> KernelCode:
    """The function of a kernel; `unaligned` are buffers that may begin anywhere."""
    if isinstance(kernel, Library):
        return _PRINTERS[kernel.op](kernel, name, unaligned, target)
    return emit_product(kernel, name, target, unaligned) or emit_tiles(kernel, name) \
        or emit_updates(kernel, name) \
        or emit_loops(kernel, name, unaligned, shared_bytes(target.cpu))


def emit_loops(kernel: Kernel, name: str, unaligned: frozenset[str] = frozenset(),
               shared: int = 0) -> KernelCode:
    """Code for any kernel, by the general schedules.

    `unaligned` are buffers that may begin anywhere, not at a multiple of 16 bytes; a block may have
    `shared` bytes of dynamic shared memory.
    """
    flat = flatten(kernel)
    plan = schedule(flat, unaligned, shared)
    if flat.scratch and not _all_held(flat, plan):
        flat = without_scratch(flat)
        plan = schedule(flat, unaligned, shared)
    code = (Columns if plan.across else Loops)(flat, plan, name, unaligned).emit()
    if plan.meeting != "last":
        return code
    mark = Loops(flat, plan, f"{name}_mark", unaligned, marking=True).emit()
    return replace(code, text=mark.text + code.text, marks=flat.types[flat.updates].size * 4)


def _all_held(kernel: Kernel, plan: Schedule) -> bool:
    """Whether registers hold all scratch rows."""
    scratch = {n for n, _ in kernel.scratch}
    return all(held or not any(s.buffer in scratch for s in stage.stores)
               for stage, held in zip(kernel.stages, plan.held))
