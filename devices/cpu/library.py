"""Code for library steps: what a graph op does as a whole, not as a loop nest of a kernel."""

from __future__ import annotations

from weft.compiler.kernel.ir import Library
from weft.compiler.target import Target
from weft.devices.cpu.code import KernelCode
from weft.devices.cpu.custom import emit_custom
from weft.devices.cpu.library_fft import emit_fft
from weft.devices.cpu.library_linalg import LINALG, emit_linalg
from weft.devices.cpu.library_lu import emit_lu
from weft.devices.cpu.library_scan import SCANS, emit_scan
from weft.devices.cpu.library_search import emit_searchsorted
from weft.devices.cpu.library_sort import emit_sort
from weft.devices.cpu.library_triangular import emit_triangular_solve

__all__ = ["emit_library"]

_EMITTERS = {**dict.fromkeys(SCANS, emit_scan), "sort": emit_sort, "argsort": emit_sort,
             "searchsorted": emit_searchsorted, **dict.fromkeys(LINALG, emit_linalg),
             "triangular_solve": emit_triangular_solve, "lu": emit_lu, "fft": emit_fft}


def emit_library(step: Library, name: str, target: Target) -> KernelCode:
    """LLVM functions for a library step, with the context of a kernel's; see `KernelCode`."""
    return _EMITTERS.get(step.op, emit_custom)(step, name, target)
