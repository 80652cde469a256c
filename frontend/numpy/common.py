"""What the implementations share: lifting, axes, shapes, and the kind of the result."""

from __future__ import annotations

import operator
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from weft.compiler.build import Builder
from weft.compiler.errors import TracerValueError
from weft.compiler.ir import Node
from weft.compiler.types import Dim, DType, Shape, Size, dtype_of, numel
from weft.frontend.numpy.promote import Key, common_type
from weft.frontend.numpy.ufuncs import WEAK_KEYS, apply, assign, broadcast_shape
from weft.frontend.problems import AxisError, problem, shape_error
from weft.frontend.recording import LOCAL, Trace, element_type, lift
from weft.frontend.tracer import Tracer

__all__ = [
    "Array", "as_array", "as_dim", "as_list", "as_shape", "axes_of", "axis_of", "broadcast",
    "build", "common_dtype", "count_of", "element", "into", "key_of", "lift", "of_kind", "result",
    "root", "same_dtype", "spread", "static", "the_trace", "ufunc", "view",
]

Array = Any      # anything NumPy takes as an array


def the_trace() -> Trace:
    """The trace that runs in this thread."""
    trace = LOCAL.trace
    assert trace is not None, "no trace runs"
    return trace


def build() -> Builder:
    """The builder of the running trace."""
    return the_trace().builder


def ufunc(name: str, *args: Any) -> Any:
    """NumPy's ufunc of this name on values of which any may be traced."""
    return apply(the_trace(), getattr(np, name), args)


def root(total: Node, power: float = 0.5) -> Node:
    """``total ** power`` of a sum of magnitudes, for lengths and deviations.

    Where it is 0, so is its derivative, which would be NaN otherwise: that of the root is infinite,
    that of the sum 0. A rewrite rule removes the detour where nothing is differentiated.
    """
    b = build()
    nothing, zero, one = b.eq(total, b.scalar(0, total.dtype)), b.scalar(0, total.dtype), b.scalar(
        1, total.dtype)
    safe = b.select(nothing, one, total)
    up = b.sqrt(safe) if power == 0.5 else b.pow(safe, b.scalar(power, total.dtype))
    return b.select(nothing, zero, up)


def result(node: Node) -> Tracer:
    """A fresh result: a NumPy scalar where it is 0-d, as ufuncs and reductions give."""
    return Tracer(the_trace(), node, "array" if node.shape else "scalar")


def as_array(node: Node) -> Tracer:
    """A fresh array, also where it is 0-d."""
    return Tracer(the_trace(), node, "array")


def of_kind(x: Tracer, node: Node) -> Tracer:
    """A fresh result that is a scalar if it is 0-d and `x` was no array."""
    return Tracer(x.tape, node, "array" if node.shape or x.kind == "array" else "scalar")


def view(x: Tracer, node: Node) -> Tracer:
    """An array that shares memory with `x` in NumPy, so that writing to either is refused."""
    if x.kind != "array":
        return of_kind(x, node)
    root = x.source if x.source is not None else x
    out = Tracer(x.tape, node, "array", source=root)
    if root.views is None:
        root.views = []
    root.views.append(weakref.ref(out))
    return out


def into(out: Any, value: Any, casting: str = "same_kind") -> Any:
    """`value`, written to `out` if one was given."""
    return value if out is None else assign(out, value, True, casting)


# ---- static arguments

def static(value: Any, what: str) -> int:
    """An integer argument that must be known while tracing."""
    if isinstance(value, (Tracer, int, np.integer)):
        return operator.index(value)
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{what}: {type(value).__name__!r} object cannot be interpreted as an "
                        "integer") from None


def as_dim(value: Any) -> Dim:
    """A size given by the user: an int, or a symbolic size."""
    if type(value) is Tracer and isinstance(value.value, Size):
        return value.value
    return value if isinstance(value, Size) else operator.index(value)


def as_shape(shape: Any) -> Shape:
    """A shape given by the user: a size or a sequence of them."""
    if type(shape) is Tracer and (shape.weak or shape.node.shape == ()):
        return (as_dim(shape),)
    if type(shape) is Tracer:
        raise problem(TracerValueError, f"a shape needs the values of {shape!r}, which are not "
                      "known while tracing", repair="pass the shape as Python ints")
    if isinstance(shape, Iterable):
        return tuple(as_dim(d) for d in shape)
    return (as_dim(shape),)


def as_list(value: Any) -> list[Any]:
    """A number or several of them, as a list."""
    return list(value) if isinstance(value, (tuple, list)) else [value]


def axis_of(axis: Any, rank: int, what: str = "axis") -> int:
    """An axis counted from 0; an `AxisError` where there is none."""
    a = operator.index(axis)
    if not -rank <= a < rank:
        raise problem(AxisError, f"{what} {a} is out of bounds for array of dimension {rank}",
                      expected=f"an axis in [{-rank}, {rank})" if rank else "no axis: it is 0-d")
    return a % rank if rank else 0


def axes_of(axis: Any, rank: int) -> tuple[int, ...]:
    """The axes meant by an `axis` argument: None is all of them, in order."""
    if axis is None:
        return tuple(range(rank))
    if isinstance(axis, (tuple, list)):
        axes = tuple(axis_of(a, rank) for a in axis)
        if len(set(axes)) != len(axes):
            raise shape_error("duplicate value in 'axis'", "each axis once")
        return axes
    return (axis_of(axis, rank),)


def count_of(x: Node, axes: Sequence[int]) -> Dim:
    """The number of elements along these axes."""
    return numel([x.shape[a] for a in axes])


# ---- element types and broadcasting

def element(dtype: Any) -> DType:
    """The element type asked for; an `UnsupportedError` where weft has none."""
    try:
        return dtype_of(dtype)
    except TypeError:
        return element_type(np.empty(0, dtype))  # type: ignore[no-any-return]


def key_of(x: Tracer) -> Key:
    """How `x` promotes: its element type, or a Python type where it is weak."""
    return WEAK_KEYS.get(x.kind) or x.node.dtype


def common_dtype(xs: Sequence[Tracer]) -> DType:
    """The element type to which these promote."""
    return common_type(tuple(key_of(x) for x in xs))


def same_dtype(xs: Sequence[Tracer], dtype: Any = None) -> list[Node]:
    """The nodes, converted to their common element type, or to `dtype`."""
    wanted = common_dtype(xs) if dtype is None else dtype_of(dtype)
    b = build()
    return [b.convert(x.node, wanted) for x in xs]


def broadcast(nodes: Sequence[Node]) -> list[Node]:
    """The nodes, broadcast against each other."""
    shape = broadcast_shape([n.shape for n in nodes])
    b = build()
    return [b.broadcast(n, shape) for n in nodes]


def spread(value: Node, like: Node) -> Node:
    """A 0-d value in the shape of `like`."""
    return build().broadcast(value, like.shape)
