"""Contractions on the CPU: matrix products and their kin, with whatever follows them.

`plan` says whether and how a kernel is computed this way, `emit` writes it. The parts:
`gemm_form` recognises, `gemm_plan` decides on tiles and blocks, `gemm_left`, `gemm_read` and
`gemm_pack` find and copy operands, `gemm_micro` holds the inner loop, `gemm_finish` the
epilogues, `gemm_unit` the loops between them:

    pack the left side, if its layout is bad for the caches                 # a phase of its own
    for every unit: some columns of all or some rows of one batch
        for every block of k:
            pack the right side's block into panels                         # stays in L2
            for every tile's rows:
                for every panel:
                    tile: accumulate over the block of k                    # in registers
                    behind the last block: epilogue and stores

A vector times a matrix has loops of its own, in `gemm_stream`.
"""

from __future__ import annotations

from weft.compiler.kernel.ir import Kernel
from weft.compiler.target import Target
from weft.compiler.types import numel
from weft.devices.cpu.code import KernelCode, Phase
from weft.devices.cpu.gemm_form import Form, recognise
from weft.devices.cpu.gemm_frame import Frame, extent
from weft.devices.cpu.gemm_left import copies, pack_left
from weft.devices.cpu.gemm_plan import Plan, make_plan, masks_are_cheap
from weft.devices.cpu.gemm_stream import write_stream
from weft.devices.cpu.gemm_unit import UnitWriter

__all__ = ["Plan", "emit", "plan"]


def plan(kernel: Kernel, target: Target) -> Plan | None:
    """How to compute the kernel as a contraction; None if it is not one."""
    form = recognise(kernel)
    return None if form is None else make_plan(form, target)


def emit(kernel: Kernel, plan: Plan, name: str, target: Target) -> KernelCode:
    """The code of a kernel for which `plan` gave the plan."""
    form = recognise(kernel)
    assert form is not None
    main = Frame(form, plan, target)
    masked = masks_are_cheap(form, target)
    left = copies(form, plan) if plan.pack_left else []
    if plan.streams:
        write_stream(main, masked)
    else:
        UnitWriter(main, left, masked).write()
    phase = Phase(name, plan.units, 1, plan.parallel)
    code = KernelCode(main.text(name), frozenset(main.e.declares), dict(main.e.helpers), (phase,))
    return _with_packing(code, form, plan, name, target) if left else code


def _with_packing(code: KernelCode, form: Form, plan: Plan, name: str, target: Target
                  ) -> KernelCode:
    """The code with a phase before it that packs the left side."""
    frame, left = Frame(form, plan, target), copies(form, plan)
    chunks = 4 * target.threads if plan.parallel else 1
    pack_left(frame, left, chunks, masks_are_cheap(form, target))
    symbol = f"{name}_left"
    units = numel(map(extent, form.batch)) * chunks
    return KernelCode(code.text + frame.text(symbol), code.declares | frozenset(frame.e.declares),
                      {**code.helpers, **frame.e.helpers},
                      (Phase(symbol, units, 1, plan.parallel), *code.phases),
                      left[-1].offset + left[-1].nbytes + 64)
