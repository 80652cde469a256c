"""Tracing one call: the user's function run on tracers in the places of the call's leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from weft.compiler.errors import UnsupportedError, caller_origin
from weft.frontend.leaves import Refused, static_part
from weft.frontend.pytree import Tree, flatten, places
from weft.frontend.signature import Call
from weft.frontend.trace import Traced, trace_flat
from weft.frontend.tracer import Tracer
from weft.frontend.watch import Watch

__all__ = ["CallTrace", "trace_call"]


@dataclass(frozen=True)
class CallTrace:
    """A traced call: what `trace_flat` gave, and the container of the results."""

    traced: Traced
    results: Tree


def trace_call(fn: Callable[..., Any], call: Call, watch: Watch) -> CallTrace:
    """Run `fn` once on tracers.

    Raises an `UnsupportedError` where it changed a container it was given or stored a tracer
    outside, and whatever `fn` itself raises.
    """
    trees: list[Tree] = []

    def flat(tracers: list[Tracer]) -> list[object]:
        args, kwargs = call.rebuild(tracers)
        result = fn(*args, **kwargs)
        _check_unchanged(call, [*args, *kwargs.values()], tracers)
        _check_nothing_stored(call, watch)
        leaves, tree = flatten(result)
        trees.append(tree)
        return leaves

    name = call.function if call.function.isidentifier() else "function"
    traced = trace_flat(flat, call.specs, name)
    return CallTrace(traced, trees[0])


def _check_unchanged(call: Call, values: Sequence[Any], tracers: Sequence[Tracer]) -> None:
    """Refuse code that puts other values into its arguments: callers would not see them."""
    rest = iter(tracers)
    for (name, tree), value in zip(call.trees, values):
        given = places(tree, name)
        mine = [next(rest) for _, static in given if static is None]
        changed = _changed_place(given, mine, tree, value, name)
        if changed is not None:
            raise UnsupportedError(
                f"{call.function} changes its argument {changed}", expected=(
                    "containers that stay as they are while the function runs"),
                repair="make a new container and return it", origin=caller_origin())


def _changed_place(given: list[Any], mine: list[Tracer], tree: Tree, value: Any,
                   name: str) -> str | None:
    try:
        leaves, now = flatten(value, static_part)
    except Refused:
        return name
    if now != tree:
        return name
    paths = [path for path, static in given if static is None]
    return next((p for p, a, b in zip(paths, leaves, mine) if a is not b), None)


def _check_nothing_stored(call: Call, watch: Watch) -> None:
    where = watch.find(Tracer, call.objects)
    if where is not None:
        raise UnsupportedError(
            f"{call.function} stores a traced array in {where}, outside itself",
            expected="results that are returned", repair="return it and store it at the caller",
            origin=caller_origin())
