"""A graph as one JAX function: the walk from node to node, and the checks that it makes.

What can go wrong only while running, an index out of bounds or a singular matrix, cannot be raised
inside XLA. Such nodes make a check: whether it failed, and a value to name. The function carries
one status, the number of the first check that failed and its value, through all nodes, loops and
branches, and gives it beside the results.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax import lax

from weft.compiler.errors import LinAlgError, Origin, WeftError, failed_check
from weft.compiler.ir import Graph, Node, nested_graphs
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.ops.registry import OUTSIDE
from weft.compiler.types import Size, TensorType, TupleType
from weft.devices.protocol import DeviceError
from weft.devices.xla.tools import Lowering, like

__all__ = ["Check", "Program", "Site", "Tables", "Walk", "bind_sizes", "may_fail"]

Status = tuple[Any, Any]


@dataclass(frozen=True)
class Check:
    """Something that can fail while the program runs.

    Of kind ``"index"`` and ``"exponent"`` as in `failed_check`; of kind ``"linalg"``, `text` is
    what a `LinAlgError` says.
    """

    kind: str
    axis: int = 0
    size: int = 0
    text: str = ""
    origin: Origin | None = None

    def error(self, value: int) -> WeftError:
        """The error to raise."""
        if self.kind == "linalg":
            return LinAlgError(self.text, origin=self.origin)
        return failed_check(self.kind, value, self.axis, self.size, self.origin)


@dataclass(frozen=True)
class Tables:
    """Lowerings by op: of the operands alone, and of the `Site` before them."""

    pointwise: Mapping[str, Lowering]
    sited: Mapping[str, Lowering]


class Walk:
    """What one trace of a program is done with, and what it has found.

    `platform` is XLA's name of the machine (``cpu``, ``tpu``, ``cuda``, ``rocm``); `precision` is
    that of products, one of `weft.compiler.target.PRECISIONS`.
    """

    def __init__(self, tables: Tables, platform: str, precision: str) -> None:
        self.tables = tables
        self.platform = platform
        self.precision = precision
        self.checks: list[Check] = []
        self.status: Status = no_status()

    @property
    def has_f64(self) -> bool:
        """Whether linear algebra can be done in double precision."""
        return self.platform != "tpu"

    def evaluate(self, graph: Graph, arrays: Sequence[Any], sizes: Mapping[str, Any]) -> list[Any]:
        """The results of the graph, of JAX's values."""
        values: dict[Node, Any] = dict(zip(graph.params, arrays))
        for node in graph.nodes:
            operands = [values[i] for i in node.inputs]
            if node.origin is None:
                values[node] = self._apply(node, operands, sizes)
            else:
                with jax.named_scope(str(node.origin)):
                    values[node] = self._apply(node, operands, sizes)
        return [values[r] for r in graph.results]

    def _apply(self, node: Node, operands: list[Any], sizes: Mapping[str, Any]) -> Any:
        if node.kind == "elementwise" and node.shape:
            shape = concrete(node.shape, sizes)
            operands = [lax.broadcast(x, shape) if not x.ndim else x for x in operands]
        pointwise = self.tables.pointwise.get(node.opname)
        if pointwise is not None:
            return pointwise(*operands)
        sited = self.tables.sited
        name = "custom" if node.opname in OUTSIDE else node.opname
        if name not in sited:
            raise DeviceError(f"device 'xla' has no lowering for {name}", origin=node.origin)
        return sited[name](Site(self, node, sizes), *operands)

    def inside(self, status: Status) -> Walk:
        """The walk of a graph in a loop or a branch, which starts from a status of its own."""
        made = Walk(self.tables, self.platform, self.precision)
        made.checks, made.status = self.checks, status
        return made


def no_status() -> Status:
    """Nothing has failed."""
    return np.int32(0), np.int64(0)


class Site:
    """A node that is being lowered, with the values of symbolic sizes around it."""

    def __init__(self, walk: Walk, node: Node, sizes: Mapping[str, Any]) -> None:
        self.walk = walk
        self.node = node
        self.sizes = sizes
        self.attrs: dict[str, Any] = {k: concrete(v, sizes) for k, v in node.attrs.items()}

    @property
    def shape(self) -> tuple[int, ...]:
        """The result's shape."""
        made: tuple[int, ...] = concrete(self.node.shape, self.sizes)
        return made

    @property
    def tensors(self) -> tuple[TensorType, ...]:
        """The types of the results, their sizes known."""
        type = self.node.type
        types = type.elements if isinstance(type, TupleType) else (type,)
        return tuple(TensorType(concrete(t.shape, self.sizes), t.dtype) for t in types)

    def check(self, failed: Any, value: Any, kind: str, axis: int = 0, size: int = 0,
              text: str = "") -> None:
        """Note that the program is to fail where `failed`, a 0-d bool, holds."""
        walk = self.walk
        walk.checks.append(Check(kind, axis, size, text, self.node.origin))
        code, first = walk.status
        code, first = (np.asarray(code), np.asarray(first)) if not hasattr(code, "aval") else (
            code, first)
        new = lax.bitwise_and(failed, lax.eq(code, like(code, 0)))
        number = np.int32(len(walk.checks))
        walk.status = (lax.select(new, number, code),
                       lax.select(new, lax.convert_element_type(value, np.int64), first))


def concrete(value: Any, sizes: Mapping[str, Any]) -> Any:
    """An attribute with sizes as numbers (or as JAX's symbols, in an export)."""
    if isinstance(value, Size):
        return value.evaluate(sizes)
    return tuple([concrete(v, sizes) for v in value]) if isinstance(value, (tuple, list)) else value


def bind_sizes(graph: Graph, shapes: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """The value of each symbolic size where the parameters have these shapes."""
    sizes: dict[str, Any] = {}
    unsolved: list[tuple[Size, Any]] = []
    for p, shape in zip(graph.params, shapes):
        for d, n in zip(p.shape, shape):
            if isinstance(d, Size):
                if d == Size.symbol(str(d)):
                    sizes.setdefault(str(d), n)
                else:
                    unsolved.append((d, n))
    for d, n in unsolved:
        _solve(d, n, sizes)
    return sizes


def _solve(d: Size, n: Any, sizes: dict[str, Any]) -> None:
    """Bind the one unknown of a size that is linear in it: 2*B + 1 = 7 gives B = 3."""
    unknown = d.symbols - set(sizes)
    if len(unknown) == 1:
        (name,) = unknown
        at = [d.evaluate({**sizes, name: v}) for v in (0, 1)]
        sizes[name] = (n - at[0]) // ((at[1] - at[0]) or 1)


def may_fail(graph: Graph) -> bool:
    """Whether the graph holds nodes that make checks, those in loops and branches included."""
    return any(_node_may_fail(n) or any(map(may_fail, nested_graphs(n).values()))
               for n in graph.nodes)


def _node_may_fail(node: Node) -> bool:
    if node.opname in ("gather", "scatter"):
        return bool(node.attrs["mode"] == "raise")
    if node.opname == "pow":
        return node.dtype.kind == "int"
    return node.op is not None and node.kind == "factorization" and bool(node.op.fails) \
        and node.attrs.get("check") is not False


@dataclass(frozen=True)
class Program:
    """A graph, and how it is to become JAX's."""

    graph: Graph
    tables: Tables
    platform: str
    precision: str = "highest"

    @cached_property
    def may_fail(self) -> bool:
        """Whether the function gives a status behind its results."""
        return may_fail(self.graph)

    @property
    def is_single(self) -> bool:
        """Whether the function gives one result, not in a list."""
        return len(self.graph.results) == 1 and not self.may_fail

    def function(self, checks: list[Check]) -> Any:
        """A function of JAX's arrays that gives the list of results and, where something may fail,
        the status behind them; the result itself if `is_single`. What it checks is appended to
        `checks` as it is traced."""
        fails, single = self.may_fail, self.is_single

        def run(*arrays: Any) -> Any:
            walk = Walk(self.tables, self.platform, self.precision)
            sizes = bind_sizes(self.graph, [a.shape for a in arrays])
            results = walk.evaluate(self.graph, arrays, sizes)
            checks[:] = walk.checks
            if not fails:
                return results[0] if single else results
            code, value = (lax.convert_element_type(v, np.int64) for v in walk.status)
            return [*results, lax.concatenate([code[None], value[None]], 0)]

        run.__name__ = run.__qualname__ = self.graph.name
        names = [p.name if p.name.isidentifier() else f"arg{i}"
                 for i, p in enumerate(self.graph.params)]
        vars(run)["__signature__"] = inspect.Signature(
            [inspect.Parameter(n, inspect.Parameter.POSITIONAL_ONLY) for n in names])
        return run

