"""How much memory this process holds, and held at most."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident() -> int:
    """Bytes in memory now. What the C library only keeps for later is given back first."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
    return _status("VmRSS") if STATUS.is_file() else peak()


def forget_peak() -> None:
    """Let `peak` begin anew, where the system can (Linux); elsewhere compiling counts too."""
    resident()
    if CLEAR.is_file():
        CLEAR.write_text("5")


def peak() -> int:
    """The most bytes in memory since the start, or since `forget_peak`."""
    if STATUS.is_file():
        return _status("VmHWM")
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _status(name: str) -> int:
    """A line of the process's status, in bytes."""
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"{STATUS} has no {name}")
