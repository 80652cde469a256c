"""The graph: immutable, typed, located SSA data.

A `Node` is one operation applied to other nodes. A `Graph` lists its nodes in an order in which
every node follows its inputs. Nothing is ever changed in place; passes build new graphs and share
the nodes they keep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from weft.compiler.errors import Origin
from weft.compiler.ops.registry import Op
from weft.compiler.types import DType, Shape, Size, TensorType, TupleType, Type

__all__ = ["Graph", "Node", "attrs_key", "is_scalar_constant", "live", "map_graphs",
           "nested_graphs"]


class Node:
    """One value of a graph: an op applied to inputs, or a parameter (`op` is None).

    `name` is the text name without `%`; passes keep it. Nodes compare by identity.
    """

    __slots__ = ("__weakref__", "attrs", "inputs", "name", "op", "origin", "type")
    inputs: tuple[Node, ...]

    def __init__(self, op: Op | None, inputs: tuple[Node, ...], attrs: Mapping[str, Any],
                 type: Type, origin: Origin | None = None, name: str = "") -> None:
        self.op = op
        self.inputs = inputs
        self.attrs = attrs
        self.type = type
        self.origin = origin
        self.name = name

    @property
    def is_param(self) -> bool:
        """Whether this is a parameter of its graph."""
        return self.op is None

    @property
    def opname(self) -> str:
        """The op's name, ``"parameter"`` for parameters."""
        return self.op.name if self.op is not None else "parameter"

    @property
    def kind(self) -> str:
        """The op's kind, ``"parameter"`` for parameters."""
        return self.op.kind if self.op is not None else "parameter"

    @property
    def tensor(self) -> TensorType:
        """The type, where it is known to be an array's."""
        assert isinstance(self.type, TensorType), f"{self.name} is a tuple"
        return self.type

    @property
    def shape(self) -> Shape:
        """The shape of an array value."""
        return self.tensor.shape

    @property
    def dtype(self) -> DType:
        """The element type of an array value."""
        return self.tensor.dtype

    def __repr__(self) -> str:
        return f"<%{self.name} = {self.opname} : {self.type}>"


def is_scalar_constant(node: Node) -> bool:
    """Whether the node is a 0-d constant, which text shows inline."""
    return node.op is not None and node.op.name == "constant" and node.shape == ()


class Graph:
    """A function on arrays: parameters, nodes in dependency order, results.

    Two graphs are equal when they have the same structure, types, attributes and names.
    """

    def __init__(self, name: str, params: Iterable[Node], nodes: Iterable[Node],
                 results: Iterable[Node]) -> None:
        self.name = name
        self.params = tuple(params)
        self.nodes = tuple(nodes)
        self.results = tuple(results)

    @cached_property
    def users(self) -> dict[Node, list[Node]]:
        """For every node, the nodes that take it as an input (once for each use)."""
        out: dict[Node, list[Node]] = {n: [] for n in (*self.params, *self.nodes)}
        for node in self.nodes:
            for i in node.inputs:
                out[i].append(node)
        return out

    @property
    def symbols(self) -> tuple[str, ...]:
        """The names of symbolic sizes in the parameters' shapes, in order of appearance."""
        seen: dict[str, None] = {}
        for p in self.params:
            types = p.type.elements if isinstance(p.type, TupleType) else (p.type,)
            for d in (d for t in types for d in t.shape if isinstance(d, Size)):
                seen.update(dict.fromkeys(sorted(d.symbols)))
        return tuple(seen)

    def text(self, origins: bool = True) -> str:
        """The graph as text that `weft.compiler.text.parse` reads back."""
        from weft.compiler.text import print_graph  # the printer imports this module
        return print_graph(self, origins)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"<graph @{self.name}: {len(self.nodes)} nodes>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Graph) and self._structure == other._structure

    def __hash__(self) -> int:
        return hash(self._structure)

    @cached_property
    def _structure(self) -> tuple[Any, ...]:
        return tuple(self._describe())

    def _describe(self) -> Iterator[Any]:
        number: dict[Node, Any] = {p: i for i, p in enumerate(self.params)}
        yield self.name
        for p in self.params:
            yield p.name, p.type
        count = len(number)
        for n in self.nodes:
            if is_scalar_constant(n):  # a part of its users, as in text; where it stands is moot
                number[n] = attrs_key(n.attrs)
                continue
            number[n], count = count, count + 1
            yield n.opname, n.name, n.type, attrs_key(n.attrs), tuple(number[i] for i in n.inputs)
        yield tuple(number[r] for r in self.results)


def nested_graphs(node: Node) -> dict[str, Graph]:
    """The graphs in a node's attributes, by label: ``body``, ``branches[1]``; in the order in which
    the op declares them."""
    found: dict[str, Graph] = {}
    order = node.op.attrs if node.op is not None else ()
    for name in (*order, *(k for k in node.attrs if k not in order)):
        value = node.attrs.get(name)
        if isinstance(value, Graph):
            found[name] = value
        elif isinstance(value, tuple):
            found |= {f"{name}[{i}]": v for i, v in enumerate(value) if isinstance(v, Graph)}
    return found


def map_graphs(attrs: Mapping[str, Any], change: Callable[[Graph], Graph]) -> Mapping[str, Any]:
    """The attributes with each graph in them changed; the same object if none was."""
    out = {k: change(v) if isinstance(v, Graph) else
           tuple([change(g) if isinstance(g, Graph) else g for g in v])
           if isinstance(v, tuple) and any(isinstance(g, Graph) for g in v) else v
           for k, v in attrs.items()}
    same = all(v is attrs[k] or (isinstance(v, tuple) and all(map(_is, v, attrs[k])))
               for k, v in out.items())
    return attrs if same else out


def _is(a: object, b: object) -> bool:
    return a is b


def live(nodes: Iterable[Node], results: Iterable[Node]) -> list[Node]:
    """The nodes that the results depend on, in the same order."""
    needed = set(results)
    kept = []
    for node in reversed(tuple(nodes)):
        if node in needed:
            kept.append(node)
            needed.update(node.inputs)
    kept.reverse()
    return kept


def attrs_key(attrs: Mapping[str, Any]) -> tuple[Any, ...]:
    """Attributes as a hashable value, equal where they mean the same (floats by their bits)."""
    return tuple((k, _key(v)) for k, v in sorted(attrs.items()) if v is not None)


def _key(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        a = np.asarray(value)
        return ("array", str(a.dtype), a.shape, a.tobytes())
    if isinstance(value, float):
        return ("float", value.hex() if value == value else "nan")
    if isinstance(value, (list, tuple)):
        return tuple(_key(v) for v in value)
    return value
