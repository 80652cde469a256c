"""The reference device: every op by its declared meaning, with NumPy.

This is the definition that passes and devices are tested against.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from weft.compiler.errors import DTypeError, LinAlgError, ShapeError
from weft.compiler.ir import Graph, Node
from weft.compiler.types import Dim, Size, dtype_of, evaluate_dim, shape_text

__all__ = ["bind_sizes", "evaluate"]

Array = np.ndarray[Any, Any]


def evaluate(graph: Graph, arrays: Sequence[Any]) -> list[Array]:
    """The results of the graph for these arguments, one op after another.

    Raises `ShapeError` or `DTypeError` for arguments that do not fit the parameters.

    >>> from weft.compiler.text import parse
    >>> g = parse("graph @f(%x: f32[B]) -> (f32[B]) { %y = mul %x, 2.0:f32 : f32[B] return %y }")
    >>> evaluate(g, [np.float32([1, 2])])
    [array([2., 4.], dtype=float32)]
    """
    arguments = [np.asarray(a) for a in arrays]
    sizes = bind_sizes(graph, arguments)
    values: dict[Node, Any] = dict(zip(graph.params, arguments))
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            assert node.op is not None
            attrs = {k: _concrete(v, sizes) for k, v in node.attrs.items()}
            try:
                value = node.op.reference(np, *(values[i] for i in node.inputs), **attrs)
            except np.linalg.LinAlgError as error:
                raise LinAlgError(str(error), origin=node.origin) from None
            values[node] = value if isinstance(value, tuple) else np.asarray(value)
    return [values[r] for r in graph.results]


def bind_sizes(graph: Graph, arrays: Sequence[Array]) -> dict[str, int]:
    """The value of each symbolic size for these arguments, checked against all shapes."""
    if len(arrays) != len(graph.params):
        raise ShapeError(f"@{graph.name} takes {len(graph.params)} arguments, got {len(arrays)}")
    sizes: dict[str, int] = {}
    for p, a in zip(graph.params, arrays):
        if dtype_of(a.dtype) is not p.dtype:
            raise DTypeError(f"%{p.name} of @{graph.name} got {a.dtype}", expected=str(p.type))
        for d, n in zip(p.shape, a.shape):
            _solve(d, n, sizes)
    for p, a in zip(graph.params, arrays):
        if len(p.shape) != a.ndim or any(
                evaluate_dim(d, sizes) != n for d, n in zip(p.shape, a.shape)):
            raise ShapeError(f"%{p.name} of @{graph.name} got shape {shape_text(a.shape)}",
                             expected=str(p.type))
    return sizes


def _solve(d: Dim, n: int, sizes: dict[str, int]) -> None:
    """Bind the one unknown of a size that is linear in it: 2*B + 1 = 7 gives B = 3."""
    unknown = d.symbols - set(sizes) if isinstance(d, Size) else frozenset()
    if len(unknown) == 1:
        (name,) = unknown
        at = [evaluate_dim(d, {**sizes, name: v}) for v in (0, 1)]
        sizes[name] = max(0, (n - at[0]) // ((at[1] - at[0]) or 1))


def _concrete(value: Any, sizes: Mapping[str, int]) -> Any:
    if isinstance(value, Size):
        return value.evaluate(sizes)
    return tuple(_concrete(v, sizes) for v in value) if isinstance(value, (tuple, list)) else value
