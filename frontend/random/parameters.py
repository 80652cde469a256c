"""Parameters of distributions: converted, checked, and broadcast with the shape asked for."""

from __future__ import annotations

from typing import Any

from weft.compiler.types import DType, Shape
from weft.frontend.numpy.common import as_array, build, lift
from weft.frontend.numpy.common import result as fresh
from weft.frontend.numpy.ufuncs import broadcast_shape, shape_str
from weft.frontend.problems import shape_error
from weft.frontend.random.generator import sized
from weft.frontend.tracer import Tracer

__all__ = ["parameter", "result", "result_shape"]


def parameter(value: Any, dtype: DType) -> Tracer:
    """A parameter in the type in which a distribution is computed."""
    return as_array(build().convert(lift(value).node, dtype))


def result_shape(shape: Any, what: str, *parameters: Tracer) -> Shape:
    """The shape asked for, to which the parameters must broadcast; theirs, if None."""
    own = broadcast_shape([p.node.shape for p in parameters]) if parameters else ()
    if shape is None:
        return own
    wanted = sized(shape)
    if broadcast_shape([own, wanted]) != wanted:
        raise shape_error(f"{what} got the shape {shape_str(wanted)} for parameters of shape "
                          f"{shape_str(own)}", "a shape to which the parameters broadcast",
                          "leave the shape out, or give its last axes the parameters' sizes")
    return wanted


def result(x: Any, shape: Shape, dtype: DType) -> Tracer:
    """The numbers drawn, in the shape and type asked for."""
    b = build()
    return fresh(b.broadcast(b.convert(lift(x).node, dtype), shape))
