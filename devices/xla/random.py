"""Random bits: the cipher of `weft.compiler.ops.random`, on words of XLA's."""

from __future__ import annotations

from typing import Any

from jax import lax

from weft.compiler.ops.random import threefry2x32
from weft.devices.xla.tools import Lowering, like, to

__all__ = ["RANDOM"]


def _turned(x: Any, n: int) -> Any:
    return lax.bitwise_or(lax.shift_left(x, like(x, n)),
                          lax.shift_right_logical(x, like(x, 32 - n)))


def _words(x: Any) -> tuple[Any, Any]:
    return to(x, "u32"), to(lax.shift_right_logical(x, like(x, 32)), "u32")


def _threefry(key: Any, counter: Any) -> Any:
    low, high = threefry2x32(_words(key), _words(counter), _turned)
    high = to(high, "u64")
    return lax.bitwise_or(to(low, "u64"), lax.shift_left(high, like(high, 32)))


RANDOM: dict[str, Lowering] = {"threefry": _threefry}
