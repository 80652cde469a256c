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

A vector times a matrix has loops of its own: in `gemm_stream` where the matrix's rows lie along
the results, in `gemm_beside` where they lie along k.
"""

from __future__ import annotations

from weft.compiler.kernel.ir import Kernel
from weft.compiler.target import Target
from weft.compiler.types import Dim, numel
from weft.devices.cpu.code import KernelCode, Phase
from weft.devices.cpu.gemm_beside import write_beside
from weft.devices.cpu.gemm_finish import write_finish
from weft.devices.cpu.gemm_form import Form, recognise
from weft.devices.cpu.gemm_frame import Frame, extent
from weft.devices.cpu.gemm_left import copies, pack_left
from weft.devices.cpu.gemm_plan import Plan, make_plan, masks_are_cheap
from weft.devices.cpu.gemm_stream import write_stream
from weft.devices.cpu.gemm_unit import UnitWriter

__all__ = ["Plan", "emit", "plan"]

UNITS = "i64 %lo, i64 %hi"     # arguments of a phase's function besides the context


def plan(kernel: Kernel, target: Target) -> Plan | None:
    """How to compute the kernel as a contraction; None if it is not one."""
    form = recognise(kernel)
    return None if form is None else make_plan(form, target)


def emit(kernel: Kernel, plan: Plan, name: str, target: Target) -> KernelCode:
    """The code of a kernel for which `plan` gave the plan."""
    form = recognise(kernel)
    assert form is not None
    masked = masks_are_cheap(form, target)
    if plan.streams or plan.beside:
        main = Frame(form, plan, target)
        (write_stream if plan.streams else write_beside)(main, masked)
        return _code([(name, main, UNITS)], (Phase(name, plan.units, 1, plan.parallel),))
    return _tiled(form, plan, name, target, masked)


def _tiled(form: Form, plan: Plan, name: str, target: Target, masked: bool) -> KernelCode:
    """Units by tiles, their epilogue, and the packing of the left side in a phase before."""
    frames: list[tuple[str, Frame, str]] = []
    phases: tuple[Phase, ...] = (Phase(name, plan.units, 1, plan.parallel),)
    main, left = Frame(form, plan, target), copies(form, plan) if plan.pack_left else []
    unit = UnitWriter(main, left, f"{name}_finish", masked)
    unit.write()
    frames.append((name, main, UNITS))
    if not unit.inline:
        finish = Frame(form, plan, target)
        frames.append((f"{name}_finish", finish, write_finish(finish, masked)))
    if left:
        packing = Frame(form, plan, target)
        chunks = 4 * target.threads if plan.parallel else 1
        pack_left(packing, left, chunks, masked)
        frames.append((f"{name}_left", packing, UNITS))
        units = numel(map(extent, form.batch)) * chunks
        phases = (Phase(f"{name}_left", units, 1, plan.parallel), *phases)
    return _code(frames, phases, left[-1].offset + left[-1].nbytes + 64 if left else 0)


def _code(frames: list[tuple[str, Frame, str]], phases: tuple[Phase, ...], workspace: Dim = 0
          ) -> KernelCode:
    text = "".join(f.text(name, arguments) for name, f, arguments in frames)
    declares = frozenset(d for _, f, _ in frames for d in f.e.declares)
    helpers = {n: t for _, f, _ in frames for n, t in f.e.helpers.items()}
    return KernelCode(text, declares, helpers, phases, workspace)
