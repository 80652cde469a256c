"""For every op: graphs that apply it at points where it is smooth, in float64 and complex128."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from weft.compiler.build import Builder
from weft.compiler.errors import WeftError
from weft.compiler.ir import Graph, Node
from weft.compiler.ops import OPS, Op
from weft.compiler.ops import linalg_rules as rules
from weft.compiler.types import TensorType, TupleType, dtype_of
from weft.devices.reference import evaluate

__all__ = ["NO_DERIVATIVE", "Array", "Point", "all_points", "differentiable", "points", "run"]

Array = np.ndarray[Any, Any]
Point = tuple[Graph, list[Array]]

# Where NumPy's function is defined and smooth, if that is not everywhere: (lowest, highest).
_DOMAINS = {
    "sqrt": (0.5, 4), "cbrt": (0.5, 4), "log": (0.5, 4), "log2": (0.5, 4), "log10": (0.5, 4),
    "log1p": (-0.5, 4), "asin": (-0.8, 0.8), "acos": (-0.8, 0.8), "acosh": (1.5, 4),
    "atanh": (-0.8, 0.8), "pow": (0.5, 2), "tan": (-1.2, 1.2), "erf_inv": (-0.8, 0.8),
    "erfc_inv": (0.2, 1.8), "lgamma": (0.5, 4), "digamma": (0.5, 4),
}
# Ops of real or complex numbers without a derivative, and why.
NO_DERIVATIVE = {
    "bitcast": "bits are no numbers",
    "nextafter": "its derivative is that of rounding",
    "stop_gradient": "that is what it is for",
    "spacing": "its derivative is zero, and finite differences see its steps",
}
# Operands for ops whose samples are all special values.
_EXTRA: dict[str, list[tuple[Any, ...]]] = {
    "select": [(np.array([True, False, True]), np.array([1.5, -2.0, 3.0]), np.array(0.5)),
               (np.array(True), np.array([1.5, -2.0]), np.array([0.5, 4.0]))],
    "ldexp": [(np.array([1.5, -0.25, 3.0]), np.array([3, 1, -2], np.int32))],
}


def _sizes(node: Node) -> tuple[int, ...]:
    assert node.tensor.is_static
    return tuple(d for d in node.shape if isinstance(d, int))


def _weighted(b: Builder, vectors: Node, count: int) -> Node:
    """V diag(1, 1/2, …) V^H, which vectors determine up to their phases; the vectors behind the
    first `count` are determined as a whole only."""
    n = _sizes(vectors)[-1]
    weights = np.array([1 / (1 + min(i, count)) for i in range(n)]).astype(vectors.dtype.numpy)
    scaled = b.mul(vectors, b.broadcast(b.constant(weights), vectors.shape))
    return rules.times(b, scaled, rules.adjoint(b, vectors))


def _of_eig(b: Builder, node: Node, parts: list[Node]) -> list[Node]:
    """V diag(1, 1/2, …) V^-1, since LAPACK chooses signs by which element is the greatest."""
    w, *rest = parts
    if not rest:
        return parts
    (v,) = rest
    weights = np.array([1 / (1 + i) for i in range(_sizes(v)[-1])]).astype(v.dtype.numpy)
    scaled = b.mul(v, b.broadcast(b.constant(weights), v.shape))
    return [w, rules.turned(b, b.solve(rules.turned(b, v), rules.turned(b, scaled),
                                       check=True))]


def _of_svd(b: Builder, node: Node, parts: list[Node]) -> list[Node]:
    if len(parts) == 1:
        return parts
    u, s, vh = parts
    count = _sizes(s)[-1]
    return [_weighted(b, u, count), s, _weighted(b, rules.adjoint(b, vh), count)]


def _of_qr(b: Builder, node: Node, parts: list[Node]) -> list[Node]:
    if node.attrs["mode"] != "complete":
        return parts
    count = min(_sizes(node.inputs[0])[-2:])
    return [rules.columns(b, parts[0], 0, count), _weighted(b, parts[0], count), parts[1]]


def _of_lstsq(b: Builder, node: Node, parts: list[Node]) -> list[Node]:
    m, n = _sizes(node.inputs[0])[-2:]
    return parts if m > n else [parts[0], parts[3]]     # else NumPy has no residuals


# Where results have a choice: functions of them that have none.
_DETERMINED: dict[str, Callable[[Builder, Node, list[Node]], list[Node]]] = {
    "svd": _of_svd, "qr": _of_qr, "lstsq": _of_lstsq, "eig": _of_eig,
    "eigh": lambda b, node, parts: [parts[0], *(_weighted(b, v, _sizes(v)[-1]) for v in parts[1:])],
}


def _apply(op: Op, arrays: tuple[Any, ...], attrs: dict[str, Any]) -> Graph:
    """The graph of one op on parameters of these arrays' types; tuples give all their elements."""
    b = Builder(op.name)
    params = [b.param(f"x{i}", TensorType(a.shape, dtype_of(a.dtype)))
              for i, a in enumerate(arrays)]
    node = b.add(op.name, *params, **attrs)
    if isinstance(node.type, TupleType):
        parts = [b.get(node, index=i) for i in range(len(node.type.elements))]
        if op.name in _DETERMINED and node.attrs.get("mode") != "raw":
            parts = _DETERMINED[op.name](b, node, parts)
        return b.graph(parts)
    return b.graph([node])


def _smooth(op: Op, count: int, seed: int, dtype: str) -> list[Array]:
    """Operands of one shape, well inside the op's domain and apart from each other."""
    low, high = _DOMAINS.get(op.name, (-2.0, 2.0))
    rng = np.random.default_rng([seed, len(op.name)])
    shapes = [(2, 3)] * count
    parts = [rng.uniform(low, high, s) for s in shapes]
    if dtype == "c128":
        return [p + 1j * rng.uniform(0.3, 1.0, p.shape) for p in parts]
    return parts


def points(op: Op) -> Iterator[tuple[str, Point]]:
    """Graphs of the op with operands to differentiate by; nothing if it has no such operands."""
    for i, arrays in enumerate(_EXTRA.get(op.name, ())):
        yield from _point(f"extra{i}", op, arrays, {})
    if op.samples is not None:
        for i, (arrays, attrs) in enumerate(op.samples()):
            made = tuple(np.asarray(a) for a in arrays)
            if all(np.isfinite(a).all() for a in made if a.dtype.kind in "fc"):
                yield from _point(f"sample{i}", op, made, attrs)
    elif op.kind == "elementwise" and op.arity:
        for dtype in ("f64", "c128"):
            operands = _smooth(op, op.arity, 0, dtype)
            yield from _point(dtype, op, tuple(operands), {})
            if op.arity == 2:
                yield from _point(f"{dtype}-0d", op, (operands[0], operands[1][0, 0]), {})
                yield from _point(f"0d-{dtype}", op, (operands[0][0, 0], operands[1]), {})


def _point(label: str, op: Op, arrays: tuple[Any, ...], attrs: dict[str, Any]
           ) -> Iterator[tuple[str, Point]]:
    arrays = tuple(np.asarray(a) for a in arrays)
    try:
        graph = _apply(op, arrays, attrs)
    except WeftError:           # not for this element type
        return
    yield label, (graph, list(arrays))


def _singular(a: Array) -> bool:
    """Whether it holds square matrices of which one has no inverse, up to rounding."""
    square = a.ndim >= 2 and a.shape[-1] == a.shape[-2] and a.size > 0
    return square and bool((np.linalg.cond(a) > 1e12).any())


def differentiable(point: Point) -> bool:
    """Whether some operand and some result are real or complex, and wide enough to difference.

    Systems with singular matrices have no derivative, whatever LAPACK makes of them.
    """
    graph, arrays = point
    if any(n.opname == "solve" for n in graph.nodes) and _singular(arrays[0]):
        return False
    if any(n.attrs.get("mode") == "raw" for n in graph.nodes):      # reflectors are intermediate
        return False
    wide = {"f64", "c128"}
    return any(p.dtype.name in wide for p in graph.params) and any(
        r.dtype.name in wide for r in graph.results)


def all_points(keep: Callable[[Op, Point], bool]) -> list[Any]:
    """Labelled points of all ops."""
    return [(f"{op.name}-{label}", point) for op in sorted(OPS.values(), key=lambda o: o.name)
            for label, point in points(op) if keep(op, point)]


def run(graph: Graph, arrays: list[Array]) -> list[Array]:
    """The graph's results on the reference device, without NumPy's warnings."""
    with np.errstate(all="ignore"):
        return [np.asarray(r) for r in evaluate(graph, arrays)]
