"""The reference device: every op by its declared meaning, with NumPy.

This is the definition that passes and devices are tested against.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from weft.compiler.errors import (
    DTypeError,
    IndexOutOfBoundsError,
    LinAlgError,
    ShapeError,
    WeftError,
)
from weft.compiler.ir import Graph, Node
from weft.compiler.types import Dim, Size, dtype_of, evaluate_dim, shape_text

__all__ = ["bind_sizes", "concrete", "evaluate"]

Array = np.ndarray[Any, Any]


def evaluate(graph: Graph, arrays: Sequence[Any],
             outer: Mapping[str, int] | None = None) -> list[Array]:
    """The results of the graph for these arguments, one op after another.

    `outer` are the symbolic sizes of the graphs around it, where it is the body of a loop. Raises
    `ShapeError` or `DTypeError` for arguments that do not fit the parameters.

    >>> from weft.compiler.text import parse
    >>> g = parse("graph @f(%x: f32[B]) -> (f32[B]) { %y = mul %x, 2.0:f32 : f32[B] return %y }")
    >>> evaluate(g, [np.float32([1, 2])])
    [array([2., 4.], dtype=float32)]
    """
    arguments = [np.asarray(a) for a in arrays]
    sizes = bind_sizes(graph, arguments, outer)
    values: dict[Node, Any] = dict(zip(graph.params, arguments))
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            assert node.op is not None
            attrs = {k: concrete(v, sizes) for k, v in node.attrs.items()}
            try:
                value = node.op.reference(np, *(values[i] for i in node.inputs), **attrs)
            except np.linalg.LinAlgError as error:
                raise LinAlgError(str(error), origin=node.origin) from None
            except WeftError as error:
                error.origin = error.origin or node.origin
                raise
            except IndexError as error:
                raise IndexOutOfBoundsError(str(error), origin=node.origin) from None
            values[node] = value if isinstance(value, tuple) else np.asarray(value)
    return [values[r] for r in graph.results]


class _Function:
    """A graph in an attribute, as the meanings of the control ops take it: arrays to arrays."""

    def __init__(self, graph: Graph, sizes: Mapping[str, int]) -> None:
        self.graph = graph
        self.sizes = sizes

    @property
    def result_types(self) -> list[tuple[tuple[int, ...], np.dtype[Any]]]:
        """Shape and dtype of each result."""
        return [(tuple(evaluate_dim(d, self.sizes) for d in r.shape), r.dtype.numpy)
                for r in self.graph.results]

    def __call__(self, *arrays: Array) -> list[Array]:
        return evaluate(self.graph, arrays, self.sizes)


def bind_sizes(graph: Graph, arrays: Sequence[Array],
               outer: Mapping[str, int] | None = None) -> dict[str, int]:
    """The value of each symbolic size for these arguments, checked against all shapes."""
    if len(arrays) != len(graph.params):
        raise ShapeError(f"@{graph.name} takes {len(graph.params)} arguments, got {len(arrays)}")
    sizes: dict[str, int] = dict(outer or {})
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


def concrete(value: Any, sizes: Mapping[str, int]) -> Any:
    """An attribute as a meaning takes it: sizes as ints, graphs as functions."""
    if isinstance(value, Size):
        return value.evaluate(sizes)
    if isinstance(value, Graph):
        return _Function(value, sizes)
    return tuple(concrete(v, sizes) for v in value) if isinstance(value, (tuple, list)) else value
