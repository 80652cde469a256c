"""Kernels that users give for ops of their own (`weft.custom_op`), by device.

What a kernel is, each device says: the CPU takes C functions and writers of LLVM instructions. A
device that takes them names the ops of `kernels_for` among those it supports.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["add_kernel", "kernels_for"]

_KERNELS: dict[str, dict[str, Any]] = {}


def add_kernel(device: str, op: str, kernel: Any) -> None:
    """Keep the kernel by which a device, named without ordinal, computes the op."""
    _KERNELS.setdefault(device, {})[op] = kernel


def kernels_for(device: str) -> Mapping[str, Any]:
    """The kernels given for a device so far, by op.

    >>> kernels_for("cpu").get("no_such_op")
    """
    return _KERNELS.get(device, {})
