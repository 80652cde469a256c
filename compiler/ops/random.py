"""Random bits: Threefry-2x32-20, a function of a key and a counter.

J. Salmon, M. Moraes, R. Dror and D. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011:
a block cipher's structure with just enough rounds to pass every statistical test, and no state.
Element i of an array of random bits is the cipher of i, so it can be computed anywhere, in any
order, and is the same on every device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from weft.compiler.errors import DTypeError
from weft.compiler.ops.elementwise import common_shape
from weft.compiler.ops.registry import Attrs, Op, register
from weft.compiler.types import DTYPES, TensorType

if TYPE_CHECKING:
    from weft.compiler.build import Builder
    from weft.compiler.ir import Node

__all__ = ["threefry2x32"]

ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
PARITY = 0x1BD11BDA         # of the key schedule, as in the cipher Threefish
ROUNDS = 20


def threefry2x32(key: tuple[Any, Any], counter: tuple[Any, Any], rotate: Any) -> tuple[Any, Any]:
    """Two words from two words of a key and two of a counter.

    Words are values of 32 bits that wrap: anything with ``+`` and ``^`` among themselves and with
    ints. ``rotate(x, n)`` turns x left by n bits.
    """
    schedule = (*key, key[0] ^ key[1] ^ PARITY)
    x, y = counter[0] + schedule[0], counter[1] + schedule[1]
    for r in range(ROUNDS):
        x = x + y
        y = rotate(y, ROTATIONS[r % 8]) ^ x
        if r % 4 == 3:
            n = r // 4 + 1
            x, y = x + schedule[n % 3], y + (schedule[(n + 1) % 3] + n)
    return x, y


def _infer(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    if any(t.dtype is not DTYPES["u64"] for t in types):
        raise DTypeError("threefry got operands of types "
                         f"{' and '.join(str(t.dtype) for t in types)}",
                         expected="u64", repair="convert them first")
    return TensorType(common_shape("threefry", types), DTYPES["u64"])


def _turned(x: Any, n: int) -> Any:
    return (x << np.uint32(n)) | (x >> np.uint32(32 - n))


def _reference(xp: Any, key: Any, counter: Any) -> Any:
    def words(v: Any) -> tuple[Any, Any]:
        return v.astype(np.uint32), (v >> np.uint64(32)).astype(np.uint32)

    with np.errstate(over="ignore"):
        low, high = threefry2x32(words(xp.asarray(key)), words(xp.asarray(counter)), _turned)
    return xp.asarray(low.astype(np.uint64) | (high.astype(np.uint64) << np.uint64(32)))


class _Word:
    """A node of type u32 with the operators that the rounds need."""

    def __init__(self, b: Builder, node: Node) -> None:
        self.b = b
        self.node = node

    def _of(self, other: Any) -> Node:
        return other.node if isinstance(other, _Word) else self.b.scalar(other, "u32")

    def __add__(self, other: Any) -> _Word:
        return _Word(self.b, self.b.add_(self.node, self._of(other)))

    def __xor__(self, other: Any) -> _Word:
        return _Word(self.b, self.b.xor(self.node, self._of(other)))

    def turned(self, n: int) -> _Word:
        """Its bits turned left by n."""
        b, x = self.b, self.node
        return _Word(b, b.or_(b.shift_left(x, b.scalar(n, "u32")),
                              b.shift_right(x, b.scalar(32 - n, "u32"))))


def _parts(b: Builder, node: Node) -> Node:
    half = b.scalar(32, "u64")

    def words(x: Node) -> tuple[_Word, _Word]:
        return tuple(_Word(b, b.convert(n, "u32"))  # type: ignore[return-value]
                     for n in (x, b.shift_right(x, half)))

    key, counter = map(words, node.inputs)
    low, high = (b.convert(w.node, "u64") for w in threefry2x32(key, counter, _Word.turned))
    return b.or_(low, b.shift_left(high, half))


def _samples() -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    numbers = np.array([0, 1, 2**32 - 1, 2**32, 2**63, 2**64 - 1, 0x0123456789ABCDEF], np.uint64)
    return [((numbers, numbers[::-1].copy()), {}), ((numbers[3], numbers), {}),
            ((numbers, numbers[6]), {}), ((numbers[1], numbers[2]), {}),
            ((numbers[:0], numbers[:0]), {})]


register(Op("threefry", "elementwise", 2, "64 random bits: the cipher Threefry-2x32-20 of key and "
            "counter", _infer, _reference, cost=100, decompose=_parts, samples=_samples))
