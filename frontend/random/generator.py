"""From a key to arrays of random bits and of uniform numbers.

The bits of a key are one endless row of 64-bit words, word i being the cipher of i. Arrays take
them from the start, in row-major order: 64-bit elements a word each, others half a word each, the
low half first. So an array begins with the elements of a shorter one, and its 32-bit elements are
the 64-bit ones as they lie in memory.
"""

from __future__ import annotations

from typing import Any

from weft.compiler.errors import DTypeError
from weft.compiler.ir import Node
from weft.compiler.types import DTYPES, Dim, DType, Shape, numel
from weft.frontend.numpy.common import as_array, as_shape, build, element
from weft.frontend.problems import problem, shape_error
from weft.frontend.tracer import Tracer

__all__ = ["bits_of", "closed_open", "float_type", "halves", "integer_type", "length", "open_both",
           "sized", "take", "words", "words32", "work"]

_I32, _U32, _U64 = DTYPES["i32"], DTYPES["u32"], DTYPES["u64"]


def sized(shape: Any) -> Shape:
    """A shape given by the user."""
    out = as_shape(shape)
    if any(isinstance(d, int) and d < 0 for d in out):
        raise shape_error(f"negative dimensions are not allowed, got the shape {out}")
    return out


def float_type(dtype: Any, what: str) -> DType:
    """A float type given by the user."""
    found = element(dtype)
    if not found.is_float:
        raise problem(DTypeError, f"{what} got the dtype {found.numpy}",
                      expected="float16, bfloat16, float32 or float64")
    return found


def integer_type(dtype: Any, what: str) -> DType:
    """An integer type given by the user."""
    found = element(dtype)
    if not found.is_integer:
        raise problem(DTypeError, f"{what} got the dtype {found.numpy}",
                      expected="an integer type")
    return found


def work(dtype: DType) -> DType:
    """The type in which numbers of a type are computed: 16-bit floats in float32."""
    return DTYPES["f32"] if dtype.itemsize == 2 else dtype


# ---- bits

def words(key: Node, count: Dim) -> Node:
    """The first `count` 64-bit words of a key."""
    b = build()
    return b.threefry(key, b.iota(shape=(count,), axis=0, dtype=_U64))


def length(count: Dim) -> Dim:
    """How many pairs hold `count` elements (of a symbolic size: enough)."""
    return (count + 1) // 2 if isinstance(count, int) else count


def take(pairs: Node, shape: Shape) -> Node:
    """Elements of an array of pairs, from the start, in this shape."""
    b, count = build(), numel(shape)
    flat = b.reshape(pairs, (numel(pairs.shape),))
    if flat.shape != (count,):
        flat = b.slice(flat, start=(0,), limit=(count,), stride=(1,))
    return b.reshape(flat, shape)


def halves(word: Node) -> tuple[Node, Node]:
    """The low and the high 32 bits."""
    b = build()
    return b.convert(word, _U32), b.convert(b.shift_right(word, b.scalar(32, _U64)), _U32)


def words32(key: Node, shape: Shape) -> Node:
    """32-bit words in this shape: a view of pairs, which compiled code computes as such."""
    b, pairs = build(), length(numel(shape))
    both = (pairs, 2)
    wide = b.broadcast(words(key, pairs), both, (0,))
    by = b.mul(b.iota(shape=both, axis=1, dtype=_U64), b.scalar(32, _U64))
    return take(b.convert(b.shift_right(wide, by), _U32), shape)


def bits_of(key: Node, shape: Shape, dtype: DType) -> Node:
    """Random integers over the whole range of an integer type; the high bits of short ones."""
    b = build()
    if dtype.itemsize == 8:
        return b.convert(b.reshape(words(key, numel(shape)), shape), dtype)
    word = words32(key, shape)
    if dtype.itemsize < 4:
        word = b.shift_right(word, b.scalar(32 - dtype.bits, _U32))
    return b.convert(word, dtype)


# ---- uniform numbers

def closed_open(key: Node, shape: Shape, dtype: DType) -> Tracer:
    """Multiples of 2**-d in [0, 1), d the digits of the type: 53, 24, 11 or 8; each as likely."""
    b = build()
    if dtype.name == "f64":
        top = b.shift_right(b.reshape(words(key, numel(shape)), shape), b.scalar(11, _U64))
        return as_array(b.mul(b.convert(top, dtype), b.scalar(2.0 ** -53, dtype)))
    digits = {"f32": 24, "f16": 11, "bf16": 8}[dtype.name]
    top = b.shift_right(words32(key, shape), b.scalar(32 - digits, _U32))
    return as_array(b.convert(_scaled(top, 2.0 ** -digits), dtype))


def _scaled(word: Node, by: float) -> Node:
    """Integers below 2**31 as float32, times a power of two."""
    b = build()
    return b.mul(b.convert(b.bitcast(word, dtype=_I32), "f32"), b.scalar(by, "f32"))


def open_both(word: Node) -> Tracer:
    """Numbers in (0, 1) of random words: float32 of 32 bits, float64 of 64 bits.

    (word + 1/2) / 2**32, or of the 53 highest bits / 2**53, rounded, where that gives less than 1,
    and else the largest number below. Small numbers have all their digits, which is what the
    tails of distributions are made of.
    """
    b = build()
    if word.dtype is _U64:
        word, dtype, scale, last = b.shift_right(word, b.scalar(11, _U64)), "f64", 2.0 ** -53, 53
    else:
        dtype, scale, last = "f32", 2.0 ** -32, 24
    x = b.mul(b.convert(word, dtype), b.scalar(scale, dtype))
    x = b.add_(x, b.scalar(scale / 2, dtype))
    return as_array(b.minimum(x, b.scalar(1.0 - 2.0 ** -last, dtype)))
