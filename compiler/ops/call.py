"""Functions as nodes: a graph called with operands, that may bring derivatives of its own.

`call` is what functions with custom derivatives, checkpoints and placed blocks are traced to. It is
inlined before anything is compiled; transforms come before that and see it whole. Their rules for
it stand in `weft.compiler.transforms.calls`.

A call with a `device` is placed: its graph runs there. `transfer` moves a value between devices;
only partitioned graphs have it (`weft.compiler.passes.partition`).
"""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import TYPE_CHECKING, Any

import numpy as np

from weft.compiler.errors import ShapeError
from weft.compiler.ops.registry import Attrs, Op, register
from weft.compiler.types import TensorType, TupleType

if TYPE_CHECKING:
    from weft.compiler.build import Builder
    from weft.compiler.ir import Node

__all__ = ["LINEAR_CALL"]


def _call(types: tuple[Any, ...], attrs: Attrs) -> TupleType:
    graph, device = attrs["graph"], attrs.get("device")
    if device is not None and not isinstance(device, str):
        raise ShapeError(f"call of @{graph.name} has the device {device!r}",
                         expected="the name of a device, as text")
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
            "own; with `recompute`, a policy, reverse mode keeps little; with `device`, on that "
            "one", _call, _call_ref, attrs=("device", "graph", "recompute", "budget"), cost=0,
            jvp=_rule("call_jvp"), jointly=_rule("call_jointly"),
            linearize=_rule("call_linearize"), transpose=_rule("call_transpose"),
            batch=_rule("call_batch"),
            samples=_rule("call_samples")))


def _linear_type(types: tuple[Any, ...], attrs: Attrs) -> TupleType:
    return TupleType(tuple(attrs["types"]))


# The derivative of a call, linear in its tangents. Not in the table: no graph that is kept has it.
LINEAR_CALL = Op("linear_call", "control", None, "the derivative of a call", _linear_type,
                 _call_ref, attrs=("device", "graph", "backward", "residuals", "types"), cost=0,
                 transpose=_rule("linear_call_transpose"))


def _transfer(types: tuple[Any, ...], attrs: Attrs) -> TensorType:
    (type,) = types
    for side in ("source", "to"):
        if not isinstance(attrs[side], str):
            raise ShapeError(f"transfer has {side}={attrs[side]!r}",
                             expected="the name of a device, as text")
    assert isinstance(type, TensorType)
    return type


def _back(b: Builder, node: Node, cotangent: Any, wanted: Set[int]) -> list[Any]:
    return [b.transfer(cotangent, source=node.attrs["to"], to=node.attrs["source"])]


register(Op("transfer", "structure", 1, "x, moved from the device `source` to another one",
            _transfer, lambda xp, x, source, to: x, attrs=("source", "to"), cost=0,
            linear="jointly", transpose=_back, decompose=lambda b, node: node.inputs[0],
            samples=lambda: [((np.array([1.0, -0.5]),), {"source": "cpu", "to": "gpu:1"})]))
