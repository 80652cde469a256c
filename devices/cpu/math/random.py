"""Random bits: the rounds of Threefry-2x32-20 over vectors of 32-bit words."""

from __future__ import annotations

from weft.compiler.ops.random import threefry2x32
from weft.devices.cpu.emit import Emitter, Val

__all__ = ["threefry"]


def threefry(e: Emitter, key: Val, counter: Val) -> Val:
    """64 bits of the cipher, the first word in the low half.

    Each round waits for the one before it: several vectors at a time keep the processor busy, see
    `schedule.py`.
    """
    def words(x: Val) -> tuple[Val, Val]:
        return e.convert(x, "u32"), e.convert(x >> 32, "u32")

    def rotate(x: Val, n: int) -> Val:
        return e.intrinsic("fshl", x, x, e.like(x, n))

    low, high = threefry2x32(words(key), words(counter), rotate)
    return e.convert(low, "u64") | (e.convert(high, "u64") << 32)
