"""`associative_scan`: running combinations, in a tree of whole arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from weft.compiler.errors import ShapeError, caller_origin
from weft.frontend.bodies import function_name
from weft.frontend.control import run_control
from weft.frontend.pytree import tree_text, unflatten
from weft.frontend.subtrace import tracers_of

__all__ = ["associative_scan"]

Function = Callable[..., Any]


def associative_scan(fn: Function, elems: Any, reverse: bool = False, axis: int = 0) -> Any:
    """Running combinations of elements along an axis, in about log2(n) steps of whole arrays.

    Args:
        fn: an associative function of two elements, which is given many pairs at once: arrays of
            elements along the axis. It gives what its arguments are.
        elems: an array or a container of arrays, of one size along the axis.
        reverse: combine from the last element on.
        axis: along which the elements lie.

    Element i of the result combines the elements 0 to i. After Blelloch, "Prefix sums and their
    applications", 1990. Raises `ShapeError` where the sizes along the axis differ.

    >>> import numpy as np, weft
    >>> weft.associative_scan(np.add, np.arange(5))
    array([ 0,  1,  3,  6, 10])
    """
    return run_control("associative_scan", _associative, (fn,), elems, reverse=bool(reverse),
                axis=int(axis))


def _associative(functions: tuple[Any, ...], elems: Any, reverse: bool, axis: int) -> Any:
    (fn,) = functions
    leaves, tree = tracers_of(elems)
    if not leaves:
        return elems
    rank = len(leaves[0].node.shape)
    at = axis + rank if axis < 0 else axis
    sizes = [t.node.shape[at] if 0 <= at < len(t.node.shape) else None for t in leaves]
    if sizes[0] is None or any(s != sizes[0] for s in sizes) or not isinstance(sizes[0], int):
        raise ShapeError(
            f"weft.associative_scan along axis {axis} got "
            f"{', '.join(str(t.node.type) for t in leaves)}",
            expected="arrays of one known size along that axis", origin=caller_origin())

    def combine(a: list[Any], b: list[Any]) -> list[Any]:
        made, got = tracers_of(fn(unflatten(tree, a), unflatten(tree, b)))
        if got != tree:
            raise ShapeError(f"weft.associative_scan: {function_name(fn)} gives {tree_text(got)}",
                             expected=tree_text(tree), origin=caller_origin())
        return list(made)

    turned = [_turned(t, at) for t in leaves] if reverse else list(leaves)
    done = _prefixes(combine, turned, at, sizes[0])
    return unflatten(tree, [_turned(t, at) for t in done] if reverse else done)


def _prefixes(combine: Function, elems: list[Any], axis: int, n: int) -> list[Any]:
    if n < 2:
        return elems
    half = n // 2
    reduced = combine([_picked(e, axis, slice(0, 2 * half, 2)) for e in elems],
                      [_picked(e, axis, slice(1, 2 * half, 2)) for e in elems])
    odd = _prefixes(combine, reduced, axis, half)
    before = odd if n % 2 else [_picked(o, axis, slice(0, half - 1)) for o in odd]
    rest = [_picked(e, axis, slice(2, n, 2)) for e in elems]
    even = combine(before, rest) if n > 2 else rest
    firsts = [_picked(e, axis, slice(0, 1)) for e in elems]
    return [_interleaved(np.concatenate([f, e], axis=axis), o, axis, n)
            for f, e, o in zip(firsts, even, odd)]


def _picked(x: Any, axis: int, part: slice) -> Any:
    return x[(slice(None),) * axis + (part,)]


def _turned(x: Any, axis: int) -> Any:
    return np.flip(x, axis)


def _interleaved(even: Any, odd: Any, axis: int, n: int) -> Any:
    """even[0], odd[0], even[1], odd[1], …"""
    if n % 2:
        odd = np.concatenate([odd, _picked(odd, axis, slice(0, 1))], axis=axis)
    both = np.stack([even, odd], axis=axis + 1)
    shape = (*even.shape[:axis], 2 * even.shape[axis], *even.shape[axis + 1:])
    return _picked(both.reshape(shape), axis, slice(0, n))

