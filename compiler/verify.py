"""The rules every graph keeps; checked after each pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from weft.compiler.errors import VerifyError, WeftError
from weft.compiler.ir import Graph, Node, is_scalar_constant, nested_graphs
from weft.compiler.placement import is_hosted, param_places, result_places
from weft.compiler.types import Size, TupleType

__all__ = ["verify"]


def verify(graph: Graph, after: str | None = None, known: set[Node] | None = None,
           symbols: frozenset[str] = frozenset(),
           places: tuple[Sequence[str], Sequence[str]] | None = None) -> None:
    """Raise a `VerifyError` if the graph breaks a rule of the IR, naming the pass `after`.

    The rules: names are unique and not empty; every input is a parameter or an earlier node of
    the same graph; types are what the ops' rules infer; results belong to the graph; symbolic
    sizes come from parameters; where values are moved between devices, every node runs on one,
    and uses values of that one, the parameters and results all being on one too, unless `places`
    gives a device for each of these. The graphs in nodes keep the rules too, so they are closed;
    they may use the `symbols` of the graphs around them. Nodes in `known` were checked before
    (nodes never change), so their types are not inferred again; nodes that pass are added to it.
    """
    known = set() if known is None else known
    _check_params(graph, after)
    symbols = symbols.union(graph.symbols)
    defined: set[Node] = set(graph.params)
    for node in graph.nodes:
        for i in node.inputs:
            if i not in defined:
                _undefined(graph, node, i, after)
        if node in defined:
            _fail(graph, f"%{node.name} stands twice in the graph", after, node)
        defined.add(node)
        if node not in known:
            _check_node(graph, node, after, symbols)
            known.add(node)
    _check_names(graph, after)
    _check_results(graph, defined, after)
    if any(n.opname == "transfer" for n in graph.nodes) and any(
            n.attrs.get("device") is not None for n in graph.nodes):
        _check_devices(graph, after, *(places or (None, None)))


def _check_params(graph: Graph, after: str | None) -> None:
    for p in graph.params:
        if not p.is_param or p.inputs:
            _fail(graph, f"the parameter %{p.name} is the result of {p.opname}", after)


def _check_results(graph: Graph, defined: set[Node], after: str | None) -> None:
    for r in graph.results:
        if r not in defined:
            _fail(graph, f"the result %{r.name} is not in the graph", after, r)
        if isinstance(r.type, TupleType):
            _fail(graph, f"the result %{r.name} is a tuple", after, r)


def _check_names(graph: Graph, after: str | None) -> None:
    named = [n for n in (*graph.params, *graph.nodes) if not is_scalar_constant(n)]
    if len({n.name for n in named}) == len(named) and all(n.name for n in named):
        return
    seen: set[str] = set()
    for n in named:
        if not n.name:
            _fail(graph, f"a node of {n.opname} has no name", after, n)
        if n.name in seen:
            _fail(graph, f"two nodes are named %{n.name}", after, n)
        seen.add(n.name)


def _check_node(graph: Graph, node: Node, after: str | None, symbols: frozenset[str]) -> None:
    if node.op is None:
        _fail(graph, f"the parameter %{node.name} stands among the nodes", after, node)
    try:
        type = node.op.infer(tuple([i.type for i in node.inputs]), node.attrs)
    except WeftError as error:
        _fail(graph, f"%{node.name} is ill-typed: {error.what}", after, node)
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
        _fail(graph, f"%{node.name}: operands or attributes do not fit {node.opname} "
              f"({error.__class__.__name__}: {error})", after, node)
    if type != node.type:
        _fail(graph, f"%{node.name} has type {node.type}, its op {node.opname} gives {type}",
              after, node)
    for t in type.elements if isinstance(type, TupleType) else (type,):
        for d in t.shape:
            if isinstance(d, Size) and not d.symbols.issubset(symbols):
                _fail(graph, f"%{node.name} has an unknown size in its type {type}", after, node)
    for name, inner in nested_graphs(node).items():
        places = (param_places(node), result_places(node, name)) if is_hosted(node) else None
        verify(inner, after, symbols=symbols, places=places)


def _check_devices(graph: Graph, after: str | None, places: Sequence[str] | None,
                   due: Sequence[str] | None) -> None:
    """What moves no value uses values of its own device; parameters and results share one, unless
    their places are given."""
    where: dict[Node, str] = dict(zip(graph.params, places)) if places is not None else {}
    whole: dict[Node, Sequence[str]] = {}   # where the results of nodes are
    home: str | None = None                 # of the parameters: where the first use takes it to be
    for node in graph.nodes:
        device = node.attrs.get("device") if node.kind == "control" else None
        if node.opname == "get" and node.inputs[0] in whole:
            where[node] = whole[node.inputs[0]][node.attrs["index"]]
            continue
        needed = node.attrs["source"] if node.opname == "transfer" else device
        if needed is None:
            _fail(graph, f"%{node.name} is on no device, but values are moved between devices",
                  after, node)
        hosted = is_hosted(node)
        for i, wanted in zip(node.inputs, node.attrs["places"] if hosted else
                             [needed] * len(node.inputs)):
            home = home if i in where else home or wanted
            if where.get(i, home) != wanted:
                _fail(graph, f"%{node.name} takes %{i.name} to be on {wanted!r}, it is on "
                      f"{where.get(i, home)!r}", after, node)
        if isinstance(node.type, TupleType):
            whole[node] = result_places(node) if hosted else [needed] * len(node.type.elements)
        else:
            where[node] = node.attrs["to"]
    for r, wanted in zip(graph.results, due or [""] * len(graph.results)):
        home = home or where.get(r)
        if where.get(r, home) != (wanted or home):
            others = f"due on {wanted!r}" if wanted else (
                f"others and the parameters on {home!r}")
            _fail(graph, f"the result %{r.name} is on {where.get(r, home)!r}, {others}", after, r)


def _undefined(graph: Graph, node: Node, operand: Node, after: str | None) -> NoReturn:
    if operand in graph.nodes:
        _fail(graph, f"%{node.name} uses %{operand.name} before it is defined", after, node)
    _fail(graph, f"%{node.name} uses %{operand.name}, which is not in the graph", after, node)


def _fail(graph: Graph, what: str, after: str | None, node: Node | None = None) -> NoReturn:
    where = f" after the pass {after}" if after else ""
    raise VerifyError(f"graph @{graph.name} is broken{where}: {what}",
                      origin=node.origin if node is not None else None,
                      repair=f"this is a bug in the pass {after}" if after else None)
