"""The few functions and methods that write into an array made inside the trace."""

from __future__ import annotations

from typing import Any

import numpy as np

from weft.frontend.numpy.common import Array, as_array, axes_of, build, lift
from weft.frontend.numpy.ufuncs import assign, check_writable
from weft.frontend.table import implements, method
from weft.frontend.tracer import Tracer

__all__: list[str] = []


@implements(np.copyto)
def _copyto(dst: Any, src: Array, casting: str = "same_kind", where: Any = True) -> None:
    check_writable(dst, "np.copyto", "write dst = np.where(mask, src, dst)")
    value = lift(src)
    if value.weak:
        value = as_array(build().convert(value.node, dst.element))
    assign(dst, value, where, casting)


@method("fill")
def _fill(x: Tracer, value: Any) -> None:
    check_writable(x, "x.fill()", "write x = np.full_like(x, value)")
    assign(x, as_array(build().convert(lift(value).node, x.element)), True, "unsafe")


@implements(np.apply_over_axes)
def _apply_over_axes(func: Any, a: Array, axes: Any) -> Any:
    out: Any = lift(a)
    rank = len(out.node.shape)
    for axis in axes_of(axes, rank):
        reduced = func(out, axis)
        if len(reduced.node.shape) == rank - 1:
            shape = list(reduced.node.shape)
            shape.insert(axis, 1)
            reduced = as_array(build().reshape(reduced.node, tuple(shape)))
        out = reduced
    return out
