"""Building graphs: nodes are typed, named and located as they are added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from weft.compiler.errors import Origin, WeftError
from weft.compiler.ir import Graph, Node, is_scalar_constant
from weft.compiler.ops import get_op
from weft.compiler.types import DType, Shape, Type, dtype_of

__all__ = ["Builder"]


class Builder:
    """Adds nodes to a graph under construction.

    ``b.add("mul", x, y)`` or, shorter, ``b.mul(x, y)``. Attributes go by keyword. The result type
    is inferred; an ill-typed node raises a `WeftError` with the origin given to the builder.

    >>> from weft.compiler.types import TensorType
    >>> b = Builder("double")
    >>> x = b.param("x", TensorType((3,), dtype_of("f32")))
    >>> y = b.mul(x, b.scalar(2.0, "f32"))
    >>> print(b.graph([y]).text())
    graph @double(%x: f32[3]) -> (f32[3]) {
      %mul.0 = mul %x, 2.0:f32 : f32[3]
      return %mul.0
    }
    """

    def __init__(self, name: str = "main", origin: Origin | None = None) -> None:
        self.name = name
        self.origin = origin
        self.params: list[Node] = []
        self.nodes: list[Node] = []
        self._names: set[str] = set()
        self._count = 0
        self._scalars: dict[Any, Node] = {}

    def param(self, name: str, type: Type) -> Node:
        """A new parameter."""
        node = Node(None, (), {}, type, None, self.unique(name))
        self.reserve((node.name,))      # it may be named like a node, after a node outside
        self.params.append(node)
        return node

    def unique(self, name: str) -> str:
        """`name`, with a number behind it if it is taken."""
        candidate, k = name, 0
        while candidate in self._names:
            k += 1
            candidate = f"{name}_{k}"
        self._names.add(candidate)
        return candidate

    def add(self, op: str, *inputs: Node, origin: Origin | None = None, **attrs: Any) -> Node:
        """A new node of the op named `op`."""
        declared = get_op(op)
        origin = origin or self.origin
        try:
            type = declared.infer(tuple(i.type for i in inputs), attrs)
        except WeftError as error:
            error.origin = error.origin or origin
            raise
        return self.insert(Node(declared, inputs, attrs, type, origin))

    def insert(self, node: Node) -> Node:
        """Append a node that was made elsewhere, naming it if it has no name yet."""
        while not node.name and not is_scalar_constant(node):
            name = f"{node.opname}.{self._count}"
            self._count += 1
            node.name = "" if name in self._names else name     # parameters may bear such names
        self._names.add(node.name)
        self.nodes.append(node)
        return node

    def reserve(self, names: Sequence[str]) -> None:
        """Keep new names apart from these, which other nodes of the graph bear."""
        for name in names:
            stem, _, number = name.rpartition(".")
            if stem and number.isdigit():
                self._count = max(self._count, int(number) + 1)
        self._names.update(names)

    def __getattr__(self, op: str) -> Callable[..., Node]:
        if op.startswith("__"):
            raise AttributeError(op)
        name = op.rstrip("_")
        return lambda *inputs, **attrs: self.add(name, *inputs, **attrs)

    # ---- constants and shapes, which nearly every rule needs

    def scalar(self, value: Any, dtype: DType | str) -> Node:
        """A 0-d constant."""
        dtype = dtype_of(dtype)
        return self.constant(np.asarray(value).astype(dtype.numpy))

    def constant(self, value: np.ndarray[Any, Any]) -> Node:
        """A constant with this value (scalars are made once)."""
        value = np.asarray(value)
        if value.shape == ():
            key = (value.dtype, value.tobytes())
            if key not in self._scalars:
                self._scalars[key] = self.add("constant", value=value)
            return self._scalars[key]
        return self.add("constant", value=value)

    def broadcast(self, x: Node, shape: Shape, dims: Sequence[int] | None = None) -> Node:
        """`x` broadcast to `shape`; its axes are the trailing ones unless `dims` says which."""
        if x.shape == tuple(shape):
            return x
        first = len(shape) - len(x.shape)
        dims = tuple(dims) if dims is not None else tuple(range(first, len(shape)))
        return self.add("broadcast_in_dim", x, shape=tuple(shape), dims=dims)

    def convert(self, x: Node, dtype: DType | str) -> Node:
        """`x` converted to `dtype`, itself if it has it."""
        dtype = dtype_of(dtype)
        return x if x.dtype is dtype else self.add("convert", x, dtype=dtype)

    def reshape(self, x: Node, shape: Shape) -> Node:
        """`x` in another shape, itself if it has it."""
        return x if x.shape == tuple(shape) else self.add("reshape", x, shape=tuple(shape))

    def graph(self, results: Sequence[Node]) -> Graph:
        """The finished graph."""
        return Graph(self.name, self.params, self.nodes, results)
