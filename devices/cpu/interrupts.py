"""Signals in long loops: Ctrl-C ends them, with the error that Python's handler raises.

Generated loops whose end is not in sight call `weft_poll` from time to time. About ten times a
second it lets Python handle signals that have come, as the interpreter does between instructions.
If a handler raises, the error is put aside, main returns the status INTERRUPTED, and
`raise_pending` raises it where the call was made.
"""

from __future__ import annotations

import ctypes
from typing import NoReturn

from weft.devices.cpu.native import ensure

__all__ = ["INTERRUPTED", "interrupts_ir", "raise_pending"]

INTERRUPTED = -1


def interrupts_ir(triple: str) -> str:
    """The part of the runtime module; needs `platform_ir`'s clock, and does nothing where there is
    none.

        i32 weft_poll()
             other than 0 if a signal's handler has raised an error, which is then in `weft_raised`
    """
    return _QUIET if "windows" in triple else _POLL


_QUIET = """
@weft_raised = global [3 x ptr] zeroinitializer

define i32 @weft_poll() nounwind {
  ret i32 0
}
"""
_POLL = """
@weft_raised = global [3 x ptr] zeroinitializer
@weft_polled = internal global i64 0
declare i32 @PyGILState_Ensure() nounwind
declare void @PyGILState_Release(i32) nounwind
declare i32 @PyErr_CheckSignals() nounwind
declare void @PyErr_Fetch(ptr, ptr, ptr) nounwind

define i32 @weft_poll() nounwind {
  %now = call i64 @now()
  %last = load atomic i64, ptr @weft_polled monotonic, align 8
  %since = sub i64 %now, %last
  %soon = icmp ult i64 %since, 100000000
  br i1 %soon, label %quiet, label %look
look:
  store atomic i64 %now, ptr @weft_polled monotonic, align 8
  %state = call i32 @PyGILState_Ensure()
  %raised = call i32 @PyErr_CheckSignals()
  %none = icmp eq i32 %raised, 0
  br i1 %none, label %done, label %keep
keep:
  %value = getelementptr ptr, ptr @weft_raised, i64 1
  %trace = getelementptr ptr, ptr @weft_raised, i64 2
  call void @PyErr_Fetch(ptr @weft_raised, ptr %value, ptr %trace)
  br label %done
done:
  call void @PyGILState_Release(i32 %state)
  ret i32 %raised
quiet:
  ret i32 0
}
"""


def raise_pending() -> NoReturn:
    """Raise the error that ended a loop (KeyboardInterrupt, unless a handler raised another)."""
    held = (ctypes.c_void_p * 3).from_address(ensure().address("weft_raised"))
    error = [ctypes.c_void_p(p) for p in held]
    if error[0]:
        held[:] = [None, None, None]
        ctypes.pythonapi.PyErr_Restore(*error)      # ctypes raises what it finds set
    raise KeyboardInterrupt
