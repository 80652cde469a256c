"""What XLA raises, as weft's errors."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from weft.devices.protocol import DeviceError, OutOfMemoryError, out_of_memory

if TYPE_CHECKING:
    from weft.devices.xla.memory import XlaMemory

__all__ = ["out_of_memory_error", "translated"]

_UNITS = {"": 1, "K": 10, "Ki": 10, "M": 20, "Mi": 20, "G": 30, "Gi": 30}


@contextlib.contextmanager
def translated(memory: XlaMemory) -> Iterator[None]:
    """Errors of XLA's inside are raised as weft's."""
    import jax  # loaded with the device

    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        raise as_weft(error, memory) from error


def as_weft(error: Exception, memory: XlaMemory) -> Exception:
    """The error to raise for one of XLA's; the same where there is nothing better to say."""
    text = str(error)
    if "RESOURCE_EXHAUSTED" in text or "Out of memory" in text:
        return out_of_memory_error(text, memory)
    first = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    return DeviceError(f"XLA failed on {memory.device}: {first}")


def out_of_memory_error(text: str, memory: XlaMemory) -> OutOfMemoryError:
    """The error for what XLA could not allocate, with the numbers it tells."""
    device = memory.device
    stats = device.memory_stats() or {}
    name = device.platform if not device.id else f"{device.platform}:{device.id}"
    return out_of_memory(name, _asked(text), stats.get("bytes_in_use", 0),
                         stats.get("bytes_limit"))


def _asked(text: str) -> int:
    """The number of bytes that a message says could not be had.

    >>> _asked("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1.50GiB.")
    1610612736
    >>> _asked("Out of memory allocating 4096 bytes.")
    4096
    """
    found = re.search(r"allocat\w*\s+([\d.]+)\s*([KMG]i?)?B?(?:ytes?)?\b", text, re.IGNORECASE)
    if not found:
        return 0
    unit = _UNITS.get(found[2] or "", 1)
    return int(float(found[1].rstrip(".")) * (1 << unit if unit > 1 else 1))
