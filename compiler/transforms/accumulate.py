"""Adding up cotangents, of which some are zero but for a few elements.

Reading a part of an array gives, turned round, zeros with the part's cotangent put in. Added to
what there is, these would be made, and read, as a whole. Adding the part in its place is the same,
but for the sign of zeros; and in a loop that carries the sum, it is done in place.
"""

from __future__ import annotations

from weft.compiler.build import Builder
from weft.compiler.ir import Node
from weft.compiler.rewrite.match import scalar_value

__all__ = ["accumulated"]


def accumulated(b: Builder, total: Node, more: Node) -> Node:
    """The sum of two cotangents.

    >>> from weft.compiler.types import TensorType, dtype_of
    >>> b = Builder("f")
    >>> x, u = (b.param(n, TensorType(s, dtype_of("f32"))) for n, s in (("x", (9,)), ("u", (2,))))
    >>> i = b.param("i", TensorType((), dtype_of("i64")))
    >>> zeros = b.broadcast(b.scalar(0, "f32"), (9,), ())
    >>> part = b.dynamic_update_slice(zeros, u, i)
    >>> accumulated(b, x, part)
    <%dynamic_update_slice.4 = dynamic_update_slice : f32[9]>
    """
    for x, y in ((total, more), (more, total)):
        found = _put_into(b, x, y)
        if found is not None:
            return found
    return b.add("add", total, more)


def _put_into(b: Builder, x: Node, y: Node) -> Node | None:
    """x + y, where y is zeros with some parts put or added in."""
    if scalar_value(y) == 0:
        return x
    if y.opname == "scatter" and y.attrs["combine"] == "add":
        base = _put_into(b, x, y.inputs[0])
        return None if base is None else b.scatter(base, *y.inputs[1:], **y.attrs)
    if y.opname == "dynamic_update_slice" and scalar_value(y.inputs[0]) == 0:
        _, part, *starts = y.inputs
        old = b.dynamic_slice(x, *starts, sizes=part.shape)
        return b.dynamic_update_slice(x, b.add("add", old, part), *starts)
    return None
