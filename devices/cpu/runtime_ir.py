"""The native runtime as LLVM IR: its parts put together, for one system."""

from __future__ import annotations

from weft.devices.cpu.alloc import alloc_ir
from weft.devices.cpu.entry_support import support_ir
from weft.devices.cpu.interrupts import interrupts_ir
from weft.devices.cpu.platform_ir import platform_ir
from weft.devices.cpu.pool import pool_ir

__all__ = ["runtime_ir"]


def runtime_ir(triple: str) -> str:
    """The module for this target triple."""
    return platform_ir(triple) + pool_ir(triple) + alloc_ir() + support_ir() + interrupts_ir(triple)
