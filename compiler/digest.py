"""Digests: what two graphs, or two builds of anything, are told apart by in every process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from weft.compiler.ops.registry import HOMES
from weft.compiler.types import DType, Size, TensorType, TupleType

if TYPE_CHECKING:
    from hashlib import blake2b

    from weft.compiler.errors import Origin
    from weft.compiler.ir import Graph, Node
else:
    try:                        # `hashlib` loads OpenSSL first, which takes ten times as long
        from _blake2 import blake2b
    except ImportError:
        from hashlib import blake2b

__all__ = ["GraphDigest", "blake2b", "content_key", "graph_digest"]

_MOST = 1 << 20         # bytes of constants that a digest reads


def content_key(*parts: str | bytes) -> str:
    """A key for a result that depends on just these parts: 40 hexadecimal digits.

    Give it everything the result depends on, the versions of weft and of LLVM too.

    >>> content_key("a", "bc") == content_key("ab", "c")
    False
    """
    digest = blake2b(digest_size=20)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


class GraphDigest:
    """What a graph computes, as a digest, apart from where in the user's code it does.

    `origins` are the distinct lines of user code in the order in which they first occur; the digest
    holds their pattern and not the lines, so the number of a line means the same for every graph
    of this digest.
    """

    def __init__(self, graph: Graph) -> None:
        self.origins: dict[Origin, int] = {}
        self._lines: list[str] = []
        self._left = _MOST
        self._graph(graph)
        self.key = content_key("\n".join(self._lines))
        self._lines.clear()

    def _graph(self, graph: Graph) -> None:
        number: dict[Node, Any] = {}
        add = self._lines.append
        add(f"graph {len(graph.params)}")
        for p in graph.params:
            number[p] = len(number)
            add(self._text(p.type))
        count = len(number)
        for n in graph.nodes:
            if n.opname == "constant" and n.shape == ():    # a part of its users, as in text
                number[n] = self._text(n.attrs["value"])
                continue
            inputs = [number[i] for i in n.inputs]
            number[n], count = count, count + 1
            origin = self.origins.setdefault(n.origin, len(self.origins)) if n.origin else -1
            if n.opname not in HOMES:       # declared by others, who may change what it means
                raise TypeError(f"no digest of the op {n.opname}")
            add(f"{n.opname} {inputs} {self._text(n.attrs)} {self._text(n.type)} {origin}")
        add(f"return {[number[r] for r in graph.results]}")

    def _text(self, value: Any) -> str:
        """Text that differs for values that differ."""
        kind = type(value)
        if kind in _PLAIN:
            return repr(value)
        if kind is float:
            return "nan" if value != value else value.hex()
        if kind is tuple or kind is list:
            return f"({','.join(map(self._text, value))})"
        if isinstance(value, Mapping):
            items: Iterable[Any] = sorted(value.items())
            return f"{{{','.join([f'{k!r}:{self._text(v)}' for k, v in items])}}}"
        if isinstance(value, np.ndarray | np.generic):
            return self._array(np.asarray(value))
        if kind in _NAMED:
            return repr(value)
        if hasattr(value, "nodes") and hasattr(value, "params"):    # a graph, of a branch or loop
            self._graph(value)
            return "graph"
        raise TypeError(f"no digest of a {kind.__name__}")

    def _array(self, array: np.ndarray[Any, Any]) -> str:
        self._left -= array.nbytes
        if self._left < 0:
            raise ValueError("constants too large for a digest")
        head = f"{array.dtype}{array.shape}"
        if array.nbytes <= 16:
            return head + array.tobytes().hex()
        return head + blake2b(array.tobytes(), digest_size=20).hexdigest()


_PLAIN = frozenset((int, bool, str, type(None), complex))
_NAMED = frozenset((DType, Size, TensorType, TupleType))


def graph_digest(graph: Graph) -> GraphDigest | None:
    """The digest, or None for a graph with something that has none, such as very large constants.
    """
    try:
        return GraphDigest(graph)
    except (TypeError, ValueError):
        return None
