"""Tracing one call: the user's function run on tracers in the places of the call's leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from weft.compiler.errors import UnsupportedError, caller_origin
from weft.compiler.ir import Graph
from weft.compiler.lazy_dataclass import dataclass, replace
from weft.frontend.leaves import Refused, is_array, static_part
from weft.frontend.outside import Outside, has_tracer, outside_arrays
from weft.frontend.places import Place, place_name, read_place
from weft.frontend.pytree import Tree, flatten, places
from weft.frontend.signature import Call
from weft.frontend.statics import Static
from weft.frontend.trace import ArgSpec, Traced, trace_flat
from weft.frontend.tracer import Tracer
from weft.frontend.watch import Watch

__all__ = ["CallTrace", "trace_call"]


@dataclass(frozen=True)
class CallTrace:
    """A traced call.

    The graph's parameters are the call's leaves, then the arrays found outside the arguments, each
    with the place that holds it, if that is known. `tree` is the container of the results.
    """

    traced: Traced
    tree: Tree
    outside: tuple[tuple[Place | None, Any], ...]

    @property
    def hidden(self) -> list[Callable[[], Any]]:
        """Functions that give the outside arrays as they are at the time."""
        return [_reader(place, array) for place, array in self.outside]


def trace_call(fn: Callable[..., Any], call: Call, watch: Watch) -> CallTrace:
    """Run `fn` once on tracers. `watch.look` must have been called for it.

    Where code needs the values of arrays that it finds outside, it is traced with these as they
    are, and `watch` is told that their contents matter.

    Raises an `UnsupportedError` where `fn` changed a container it was given or stored a tracer
    outside, and whatever `fn` itself raises.
    """
    before = watch.states(call.objects)
    traced = _trace_with_arrays(fn, call, watch)
    watch.ignore_changes(before, call.objects)
    return traced


def _trace_with_arrays(fn: Callable[..., Any], call: Call, watch: Watch) -> CallTrace:
    arrays = outside_arrays(watch.found(call.objects))
    if not arrays or watch.contents:
        return _trace(fn, call, watch, [])
    try:
        return _trace(fn, call, watch, arrays)
    except Exception as error:  # the user's code may raise anything; without hidden parameters
        try:                    # it may not, and if it does, its first error is the one to show
            traced = _trace(fn, call, watch, [])
        except Exception:
            raise error from None
        watch.count_contents(call.objects)
        return traced


def _trace(fn: Callable[..., Any], call: Call, watch: Watch,
           arrays: list[tuple[Place, ArgSpec]]) -> CallTrace:
    trees: list[Tree] = []
    count = len(call.leaves)

    def flat(tracers: list[Tracer]) -> list[object]:
        outside = Outside([place for place, _ in arrays], tracers[count:])
        args, kwargs = call.rebuild(tracers[:count], outside.value if arrays else None)
        result = (outside.function(fn) if arrays else fn)(*args, **kwargs)
        _check_unchanged(call, [*args, *kwargs.values()], tracers, outside)
        _check_nothing_stored(call, watch, outside)
        leaves, tree = flatten(result)
        trees.append(tree)
        return leaves

    name = call.function.rpartition(".")[2]
    traced = trace_flat(flat, [*call.specs, *(spec for _, spec in arrays)], name)
    return _with_hidden(traced, trees[0], count, [place for place, _ in arrays], watch, call)


def _with_hidden(traced: Traced, tree: Tree, count: int, found: Sequence[Place], watch: Watch,
                 call: Call) -> CallTrace:
    """The trace with only those of the outside arrays as parameters that it uses."""
    graph, results = traced.graph, traced.results
    used = set(graph.results).union(*(n.inputs for n in graph.nodes))
    returned = {r.index for r in results if r.kind == "argument"}
    kept = [i for i in range(count, count + len(found))
            if graph.params[i] in used or i in returned]
    params = [*graph.params[:count], *(graph.params[i] for i in kept),
              *graph.params[count + len(found):]]
    index = {i: i for i in range(count)} | {i: count + k for k, i in enumerate(kept)}
    results = tuple(replace(r, index=index[r.index]) if r.kind == "argument" else r
                    for r in results)
    held = {id(value): place for place, value in watch.found(call.objects)
            if is_array(value)}
    outside: list[tuple[Place | None, Any]] = [(found[i - count], None) for i in kept]
    outside += [(held.get(id(array)), array) for array in traced.captures]
    graph = Graph(graph.name, params, graph.nodes, graph.results)
    return CallTrace(replace(traced, graph=graph, results=results), tree, tuple(outside))


def _reader(place: Place | None, array: Any) -> Callable[[], Any]:
    return (lambda: array) if place is None else (lambda: read_place(place))


def _check_unchanged(call: Call, values: Sequence[Any], tracers: Sequence[Tracer],
                     outside: Outside) -> None:
    """Refuse code that puts other values into its arguments: callers would not see them."""
    rest = iter(tracers)
    for name, tree, value in zip(call.names, call.trees, values):
        given = places(tree, name)
        mine = [next(rest) for _, static in given if static is None]
        changed = None if isinstance(tree, Static) else _changed_place(
            given, mine, tree, value, name, outside)
        if changed is not None:
            raise UnsupportedError(
                f"{call.function} changes its argument {changed}", expected=(
                    "containers that stay as they are while the function runs"),
                repair="make a new container and return it", origin=caller_origin())


def _changed_place(given: list[Any], mine: list[Tracer], tree: Tree, value: Any,
                   name: str, outside: Outside) -> str | None:
    try:
        leaves, now = flatten(value, lambda v: static_part(outside.original(v)))
    except Refused:
        return name
    if now != tree:
        return name
    paths = [path for path, static in given if static is None]
    return next((p for p, a, b in zip(paths, leaves, mine) if a is not b), None)


def _check_nothing_stored(call: Call, watch: Watch, outside: Outside) -> None:
    held = watch.where(Tracer, call.objects)
    names = [place_name(held)] if held else [n for n, v in outside.stored() if has_tracer(v)]
    if names:
        raise UnsupportedError(
            f"{call.function} stores a traced array in {names[0]}, outside itself",
            expected="results that are returned", repair="return it and store it at the caller",
            origin=caller_origin())
    outside.write_back()
