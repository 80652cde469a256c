"""Functions as nodes: a graph called with operands, that may bring derivatives of its own.

`call` is what functions with custom derivatives and checkpoints are traced to. It is inlined before
anything is compiled; transforms come before that and see it whole. Their rules for it stand in
`weft.compiler.transforms.calls`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from weft.compiler.errors import ShapeError
from weft.compiler.ops.registry import Attrs, Op, register
from weft.compiler.types import TupleType

__all__ = ["LINEAR_CALL"]


def _call(types: tuple[Any, ...], attrs: Attrs) -> TupleType:
    graph = attrs["graph"]
    if [p.type for p in graph.params] != list(types):
        raise ShapeError(f"call of @{graph.name} got operands ({', '.join(map(str, types))})",
                         expected=", ".join(str(p.type) for p in graph.params))
    return TupleType(tuple(r.tensor for r in graph.results))


def _call_ref(xp: Any, *operands: Any, graph: Any, **rules: Any) -> tuple[Any, ...]:
    return tuple(graph(*operands))


def _rule(name: str) -> Callable[..., Any]:
    def apply(*args: Any) -> Any:
        from weft.compiler.transforms import calls  # transforms import the ops
        return getattr(calls, name)(*args)
    return apply


register(Op("call", "control", None, "the results of a graph, which may bring a derivative of its "
            "own; with `recompute`, a policy, reverse mode keeps little", _call, _call_ref,
            attrs=("graph", "recompute", "budget"), cost=0, jvp=_rule("call_jvp"),
            linearize=_rule("call_linearize"), batch=_rule("call_batch"),
            samples=_rule("call_samples")))


def _linear_type(types: tuple[Any, ...], attrs: Attrs) -> TupleType:
    return TupleType(tuple(attrs["types"]))


# The derivative of a call, linear in its tangents. Not in the table: no graph that is kept has it.
LINEAR_CALL = Op("linear_call", "control", None, "the derivative of a call", _linear_type,
                 _call_ref, attrs=("graph", "backward", "residuals", "types"), cost=0,
                 transpose=_rule("call_transpose"))
