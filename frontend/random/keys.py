"""Keys: where random numbers come from.

A key is one uint64. It is used once, to draw an array of numbers or to be split into new keys; the
same key always gives the same numbers. Keys are plain numbers, so they are stored, stacked, passed
to compiled functions and mapped over like any other array.

Everything drawn is the cipher Threefry-2x32-20 (see `weft.compiler.ops.random`) of the key and a
counter. The counter's two highest bits say what for, so that what is drawn from a key never meets
the keys made of it:

    0  the number of a 64-bit word of an array
    1  the data of `fold_in`
    2  the number of a key made by `split`
    3  the number of a key that a distribution makes for its own use
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from weft.compiler.errors import DTypeError, ShapeError, WeftError
from weft.compiler.ir import Node
from weft.compiler.types import DTYPES, Dim
from weft.frontend.numpy.common import as_shape, build, lift
from weft.frontend.problems import problem
from weft.frontend.random.reuse import consume
from weft.frontend.random.sampler import sampler
from weft.frontend.recording import active
from weft.frontend.tracer import WEAK_DTYPES, Tracer

__all__ = ["Seed", "fold_in", "key", "key_node", "own_keys", "split"]

FOLD, SPLIT, OWN = 1 << 62, 2 << 62, 3 << 62
_U64 = DTYPES["u64"]


class Seed(WeftError, ValueError):
    """A seed that makes no key."""


def key(seed: Any) -> Any:
    """The key of a seed, a whole number of up to 64 bits; different seeds give different keys.

    Raises `TypeError` for what is no integer and `ValueError` for integers of more bits.

    >>> import weft
    >>> weft.random.key(42)
    np.uint64(42)
    """
    if type(seed) is Tracer:
        return seed.tape.run(_traced_key, (seed,), {})
    number = operator.index(seed)
    if not -(1 << 63) <= number < 1 << 64:
        raise problem(Seed, f"the seed {number} has more than 64 bits",
                      expected="an integer in [-2**63, 2**64)")
    return np.uint64(number % (1 << 64))


def _traced_key(seed: Tracer) -> Tracer:
    if seed.node.shape != () or not seed.node.dtype.is_integer:
        raise problem(DTypeError, f"a seed must be an integer, got {seed!r}")
    return Tracer(seed.tape, build().convert(seed.node, _U64), "scalar")


def key_node(key: Any, what: str) -> Node:
    """The node of a key that is used up by `what`; errors where it is no key."""
    node = _checked(key, what)
    consume(key, node, what)
    return node


def _checked(key: Any, what: str) -> Node:
    given = key if type(key) is Tracer else None
    if isinstance(key, (bool, int, float)) or (given is not None and given.kind in WEAK_DTYPES):
        shown = type(key).__name__ if given is None else given.kind
        raise problem(DTypeError, f"{what} got a Python {shown} for a key",
                      expected="a key, one uint64",
                      repair="make one of the number: weft.random.key(seed)")
    x = lift(key)
    if x.node.dtype is not _U64:
        raise problem(DTypeError, f"{what} got an array of {x.node.dtype.numpy} for a key",
                      expected="a key, one uint64, from weft.random.key, split or fold_in")
    if x.node.shape != ():
        raise problem(ShapeError, f"{what} got keys of shape {x.node.shape}",
                      expected="one key, of shape ()",
                      repair="take one of them, keys[0], or map over them with weft.vmap")
    return x.node


def _cipher(key: Node, counter: Node) -> Node:
    return build().threefry(key, counter)


def _numbered(key: Node, shape: tuple[Dim, ...], purpose: int) -> Node:
    """Keys of this shape."""
    b = build()
    size: Dim = 1
    for d in shape:
        size = size * d
    number = b.iota(shape=(size,), axis=0, dtype=_U64)
    return b.reshape(_cipher(key, b.or_(number, b.scalar(purpose, _U64))), shape)


@sampler("num")
def split(key: Any, num: Any = 2) -> Any:
    """New keys made of a key, which is used up.

    Args:
        key: a key.
        num: how many, or the shape of the array of keys.

    Gives a uint64 array of that shape. The first keys do not depend on how many there are.
    Raises `DTypeError` and `ShapeError` for what is no key.

    >>> import weft
    >>> first, second = weft.random.split(weft.random.key(0))
    >>> weft.random.split(weft.random.key(0), 3)[1] == second
    np.True_
    """
    node = key_node(key, "split")
    return Tracer(active_trace(), _numbered(node, as_shape(num), SPLIT), "array")


@sampler(consumes=False)
def fold_in(key: Any, data: Any) -> Any:
    """A new key for each number, from one key: for step or batch numbers, for instance.

    The key is not used up: it may be folded with any number of different data, and drawn from or
    split once beside that.

    Args:
        key: a key.
        data: an integer, of which the lowest 62 bits count.

    Raises `DTypeError` and `ShapeError` for what is no key, or no integer.

    >>> import weft
    >>> key = weft.random.key(0)
    >>> weft.random.fold_in(key, 1) == weft.random.fold_in(key, 2)
    np.False_
    """
    node, b = _checked(key, "fold_in"), build()
    x = lift(data)
    if not x.node.dtype.is_integer or x.node.shape != ():
        raise problem(DTypeError, f"fold_in got data of type {x.node.type}",
                      expected="one integer")
    low = b.and_(b.convert(x.node, _U64), b.scalar(FOLD - 1, _U64))
    return Tracer(active_trace(), _cipher(node, b.or_(low, b.scalar(FOLD, _U64))), "scalar")


def own_keys(key: Node, count: int) -> list[Node]:
    """Keys for a distribution's own use, apart from all that `split` gives."""
    b = build()
    return [_cipher(key, b.scalar(OWN | i, _U64)) for i in range(count)]


def active_trace() -> Any:
    """The trace that runs."""
    trace = active()
    assert trace is not None, "no trace runs"
    return trace
