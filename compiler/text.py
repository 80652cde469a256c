"""The text form of graphs: `print_graph` writes it, `parse` reads it back.

```
graph @loss(%x: f32[B, 3], %w: f32[3]) -> (f32[]) {
  %mul.0 = mul %x, 2.0:f32 : f32[B, 3]  # model.py:3
  %sum.1 = reduce_sum %mul.0 {axes=[0, 1]} : f32[]  # model.py:4
  return %sum.1
}
```

One op a line: name, op, operands, attributes, result type, the user's line. 0-d constants stand
inline. A name that is no plain word is quoted: ``%"x[0]"``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from weft.compiler.ir import Graph, Node, is_scalar_constant
from weft.compiler.literals import array_text, scalar_text
from weft.compiler.parse import parse
from weft.compiler.types import Type

__all__ = ["name_text", "node_text", "parse", "print_graph", "value_text"]

_plain_name = re.compile(r"[\w.]+").fullmatch


def print_graph(graph: Graph, origins: bool = True, digest: bool = False) -> str:
    """The graph as text. `parse` gives back an equal graph.

    `origins` appends each op's line of user code. `digest` shows large constants by their hash
    (shorter, but not readable back).
    """
    return "\n".join(_lines(graph, "", origins, digest))


def _lines(graph: Graph, indent: str, origins: bool, digest: bool) -> Iterator[str]:
    types: dict[Type, str] = {}
    refs: dict[Node, str] = {}
    params = ", ".join(f"{_ref(p, refs)}: {_type(p.type, types)}" for p in graph.params)
    results = ", ".join(_type(r.type, types) for r in graph.results)
    yield f"graph @{name_text(graph.name)}({params}) -> ({results}) {{"
    for node in graph.nodes:
        if not is_scalar_constant(node):
            line = f"{indent}  {_ref(node, refs)} = {node.opname}"
            if node.inputs:
                line += " " + ", ".join([_ref(i, refs) for i in node.inputs])
            if node.attrs:
                line += _attrs(node, indent + "  ", origins, digest)
            line += " : " + _type(node.type, types)
            yield f"{line}  # {node.origin}" if origins and node.origin is not None else line
    yield f"{indent}  return {', '.join(_ref(r, refs) for r in graph.results)}".rstrip()
    yield indent + "}"


def _ref(node: Node, refs: dict[Node, str]) -> str:
    text = refs.get(node)
    if text is None:
        text = refs[node] = (scalar_text(node.attrs["value"]) if is_scalar_constant(node)
                             else "%" + name_text(node.name))
    return text


def _type(type: Type, types: dict[Type, str]) -> str:
    text = types.get(type)
    if text is None:
        text = types[type] = str(type)
    return text


def name_text(name: str) -> str:
    """A name as the text form spells it, quoted where it is no plain word."""
    return name if _plain_name(name) else json.dumps(name)


def node_text(node: Node) -> str:
    """One node as its line of text, without the user's line; nested graphs by their names.

    >>> from weft.compiler.text import parse
    >>> g = parse("graph @f(%x: f32[2]) -> (f32[2]) {  %y = sin %x : f32[2]  return %y  }")
    >>> node_text(g.nodes[0])
    '%y = sin %x : f32[2]'
    """
    refs: dict[Node, str] = {}
    operands = ", ".join(_ref(i, refs) for i in node.inputs)
    head = f"%{name_text(node.name)} = {node.opname} {operands}".rstrip()
    attrs = _brief_attrs(node) if node.attrs else ""
    return f"{head}{attrs} : {node.type}"


def _brief_attrs(node: Node) -> str:
    def brief(value: Any) -> Any:
        if isinstance(value, Graph):
            return _Raw(f"@{name_text(value.name)}")
        return tuple(map(brief, value)) if _holds_graph(value) else value
    short = {k: brief(v) for k, v in node.attrs.items()}
    return _attrs(Node(node.op, (), short, node.type), "", False, True)


class _Raw:
    """A text that stands for itself."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


# --------------------------------------------------------------------------- attributes

def _attrs(node: Node, indent: str, origins: bool, digest: bool) -> str:
    order = node.op.attrs if node.op is not None else ()
    names = [*order, *sorted(set(node.attrs) - set(order))]
    present = [(k, node.attrs[k]) for k in names if node.attrs.get(k) is not None
               and not k.startswith("_")]      # what lives only while transforms run
    if any(_holds_graph(v) for _, v in present):
        return _nested(present, indent, origins, digest)
    return " {" + ", ".join([f"{k}={value_text(v, digest)}" for k, v in present]) + "}"


def _holds_graph(value: Any) -> bool:
    return isinstance(value, Graph) or (isinstance(value, tuple) and any(map(_holds_graph, value)))


def _nested(present: list[tuple[str, Any]], indent: str, origins: bool, digest: bool) -> str:
    """Attributes with graphs among them: one a line, the graphs indented."""
    inner = indent + "  "

    def text(value: Any, indent: str) -> str:
        if isinstance(value, Graph):
            return "\n".join(_lines(value, indent, origins, digest))
        if not _holds_graph(value):
            return value_text(value, digest)
        deeper = indent + "  "
        return "[\n" + ",\n".join(deeper + text(v, deeper) for v in value) + f"\n{indent}]"

    return " {\n" + ",\n".join(f"{inner}{k}={text(v, inner)}" for k, v in present) \
        + f"\n{indent}}}"


def value_text(value: Any, digest: bool = False) -> str:
    """An attribute's value as text: ``[0, 1]``, ``f32``, ``2*B``, ``"clip"``, ``1.5:f32``."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join([value_text(v, digest) for v in value]) + "]"
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, np.ndarray) and value.shape != ():
        return array_text(value, digest)
    if isinstance(value, (np.ndarray, np.generic)):
        return scalar_text(value)
    return repr(value)  # int, float, DType and Size print as they read
