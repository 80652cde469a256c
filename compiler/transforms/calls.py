"""How transforms see calls: by the derivative that the function brings, or through its graph.

What a placed call computes stays on its device: its tangents are a placed call, and so is what
leads from cotangents to cotangents, with what it needs of the forward pass as further results of
that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import Any, TypeAlias

import numpy as np

from weft.compiler.build import Builder
from weft.compiler.errors import UnsupportedError
from weft.compiler.inline import copy_node, inline, zeros
from weft.compiler.ir import Graph, Node, live
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.ops.call import LINEAR_CALL
from weft.compiler.placement import copy_free, device_of, is_free
from weft.compiler.rewrite.driver import rebuild
from weft.compiler.transforms.batch import all_batched, batch, batch_size
from weft.compiler.transforms.jvp import instantiate, jvp, push_forward
from weft.compiler.transforms.remat import kept_values
from weft.compiler.transforms.transpose import dependents, pull_back, transposed_graph
from weft.compiler.types import Dim, TensorType, TupleType, dtype_of

__all__ = ["Rules", "call_batch", "call_jointly", "call_jvp", "call_linearize", "call_samples",
           "call_transpose", "linear_call_transpose"]

Closed: TypeAlias = tuple[Graph, tuple[Node, ...]]


@dataclass(frozen=True, eq=False)
class Rules:
    """A function's own derivative: graphs, made when they are first asked for.

    Each of the three gives a graph and the nodes from around it that are its last operands.
    `jvp`: operands and tangents to results and tangents; `forward`: operands to results and
    residuals; `backward`: residuals and cotangents to cotangents of the operands. Only the first
    `explicit` operands of the call count, and only real and complex values have tangents. The other
    operands are what the function itself closes over; `outer` are the nodes that these were first.
    """

    name: str
    explicit: int
    jvp: Callable[[], Closed] | None = None
    forward: Callable[[], Closed] | None = None
    backward: Callable[[], Closed] | None = None
    outer: tuple[Node, ...] = ()

    def here(self, b: Builder, captured: Sequence[Node], node: Node, inputs: Sequence[Node]
             ) -> list[Node]:
        """What a rule closes over, where the call is now: it may be in another graph by now."""
        now = dict(zip(self.outer, inputs[self.explicit:]))
        for c in captured:
            if c not in now and not any(c is n for n in (*b.params, *b.nodes)):
                raise UnsupportedError(
                    f"the rule of {self.name} closes over a value, {c.type}, that {self.name} "
                    "itself does not use", origin=node.origin,
                    expected="rules of arguments, and of what the function closes over",
                    repair="pass the value as an argument")
        return [now.get(c, c) for c in captured]

    def batched(self, size: Dim) -> Rules:
        """The same for operands that all have a new first axis."""
        def along(make: Callable[[], Closed] | None) -> Callable[[], Closed] | None:
            return None if make is None else lambda: _batched(make(), size, self.outer)
        return Rules(self.name, self.explicit, along(self.jvp), along(self.forward),
                     along(self.backward), self.outer)

    def __repr__(self) -> str:
        return f"<derivative of {self.name}>"


def _batched(closed: Closed, size: Dim, outer: Sequence[Node]) -> Closed:
    graph, captured = closed
    flags = [True] * (len(graph.params) - len(captured)) + [c in outer for c in captured]
    return batch(graph, flags, size, [True] * len(graph.results))[0], captured


def call_jvp(b: Builder, node: Node, tangents: Sequence[Any]) -> list[Any]:
    """By the function's own rule, or through its graph."""
    graph, rules = node.attrs["graph"], node.attrs.get("_rules")
    if rules is None:
        return push_forward(b, graph, node.inputs, tangents)[1]
    _check_explicit(node, tangents)
    if rules.jvp is None:
        raise UnsupportedError(
            f"{rules.name} has a derivative by weft.custom_vjp, which is for reverse mode only",
            origin=node.origin, expected="grad, vjp or jacrev",
            repair="give its derivative with weft.custom_jvp, which serves both modes")
    own, captured = rules.jvp()
    n = rules.explicit
    moving = range(n, len(own.params) - len(captured))
    own = _split_calls(own, [own.params[i] for i in moving])
    outs = inline(b, own, [*node.inputs[:n], *_given(b, node.inputs[:n], tangents),
                           *rules.here(b, captured, node, node.inputs)])
    rest = iter(outs[len(graph.results):])
    return [next(rest) if r.dtype.is_inexact else None for r in graph.results]


def _split_calls(graph: Graph, tangents: Sequence[Node]) -> Graph:
    """The graph with each placed call in two, of the results that depend on tangents and of others.

    What has both kinds would be neither linear nor free of tangents.
    """
    if not any(device_of(n) is not None for n in graph.nodes):
        return graph
    b = Builder(graph.name)
    b.params = list(graph.params)
    b.reserve([n.name for n in graph.params])
    now: dict[Node, Any] = {p: p for p in graph.params}
    moving = {*tangents}
    for node in graph.nodes:
        inputs = [now[i] for i in node.inputs]
        if node.opname == "get" and isinstance(inputs[0], list):
            now[node], depends = inputs[0][node.attrs["index"]]
        elif device_of(node) is not None:
            inner: Graph = node.attrs["graph"]
            after = dependents(inner.nodes, [p for p, i in zip(inner.params, node.inputs)
                                             if i in moving])
            now[node] = _in_two(b, node, inputs, [r in after for r in inner.results])
            continue
        else:
            now[node], depends = copy_node(b, node, inputs), any(i in moving for i in node.inputs)
        if depends:
            moving.add(node)
    return b.graph([now[r] for r in graph.results])


def _in_two(b: Builder, node: Node, inputs: Sequence[Node], flags: Sequence[bool]
            ) -> list[tuple[Node, bool]]:
    """The results of a call by two calls, of those with and without a flag."""
    graph: Graph = node.attrs["graph"]
    outs: dict[int, Node] = {}
    for flag in (False, True):
        which = [k for k, f in enumerate(flags) if f is flag]
        results = [graph.results[k] for k in which]
        nodes = live(graph.nodes, results)
        used = {*results, *(i for n in nodes for i in n.inputs)}
        params = [(p, i) for p, i in zip(graph.params, inputs) if p in used]
        made = b.add("call", *[i for _, i in params], origin=node.origin, **{
            **node.attrs, "graph": Graph(graph.name, [p for p, _ in params], nodes, results)})
        outs |= {k: b.get(made, index=i) for i, k in enumerate(which)}
    return [(outs[k], f) for k, f in enumerate(flags)]


def call_jointly(b: Builder, node: Node, inputs: Sequence[Node], tangents: Sequence[Any]
                 ) -> tuple[Any, list[Any]]:
    """The results and their tangents; of a placed call, by one call on its device."""
    if node.attrs.get("device") is None:
        made = copy_node(b, node, inputs)
        return made, call_jvp(b, made, tangents)
    graph = jvp(node.attrs["graph"], [t is not None for t in tangents])
    made = b.add("call", *inputs, *[t for t in tangents if t is not None],
                 **{**node.attrs, "graph": graph})
    outs = [b.get(made, index=i) for i in range(len(graph.results))]
    count = len(node.attrs["graph"].results)
    rest = iter(outs[count:])
    return outs[:count], [next(rest) if o.dtype.is_inexact else None for o in outs[:count]]


def _given(b: Builder, operands: Sequence[Node], tangents: Sequence[Any]) -> list[Node]:
    """Tangents for all operands that can have one, in order."""
    return [instantiate(b, x, t) for x, t in zip(operands, tangents) if x.dtype.is_inexact]


def _check_explicit(node: Node, tangents: Sequence[Any]) -> None:
    """Values that the function closes over have no place in its own rule."""
    rules = node.attrs["_rules"]
    if any(t is not None for t in tangents[rules.explicit:]):
        raise UnsupportedError(
            f"{rules.name} has a derivative of its own and closes over a value that is "
            "differentiated by", origin=node.origin, expected="a function of its arguments alone",
            repair="pass the value as an argument")


def call_linearize(b: Builder, node: Node, inputs: Sequence[Node], tangents: Sequence[Any]
               ) -> tuple[Node, list[Any]]:
    """The call and its tangents, apart: see `Op` in `weft.compiler.ops.registry`."""
    attrs = node.attrs
    rules = attrs.get("_rules")
    if attrs.get("recompute"):
        n = len(inputs)
        made, residuals, graphs = _checkpointed(b, node, inputs)
    elif attrs.get("device") is not None:
        n = len(inputs)
        made, residuals, graphs = _placed(b, node, inputs, tangents)
    elif rules is None or rules.forward is None:
        made = b.add("call", *inputs, **attrs)
        return made, _linear_jvp(b, made, tangents)
    else:
        n = rules.explicit
        made, residuals, graphs = _forward(b, node, inputs, tangents)
    moving = [r.tensor for r in attrs["graph"].results if r.dtype.is_inexact]
    given = [t for t in tangents if t is not None] if attrs.get("device") is not None else \
        _given(b, inputs[:n], tangents)
    operands = (*residuals, *given)
    linear = b.insert(Node(
        LINEAR_CALL, operands, {**graphs, "residuals": len(residuals), "types": tuple(moving)},
        TupleType(tuple(moving)), b.origin))
    parts = iter(range(len(moving)))
    return made, [b.get(linear, index=next(parts)) if r.dtype.is_inexact else None
                  for r in attrs["graph"].results]


def _linear_jvp(b: Builder, node: Node, tangents: Sequence[Any]) -> list[Any]:
    """The same as `_jvp`, with nodes that are linear in the tangents and compute nothing else."""
    if node.attrs.get("_rules") is not None:
        return call_jvp(b, node, tangents)
    return push_forward(b, node.attrs["graph"], node.inputs, tangents, linearize=True)[1]


def _forward(b: Builder, node: Node, inputs: Sequence[Node], tangents: Sequence[Any]
             ) -> tuple[Node, list[Node], dict[str, Any]]:
    """The forward rule in the place of the call, and its residuals for the backward rule."""
    _check_explicit(node, tangents)
    rules = node.attrs["_rules"]
    ahead, captured = rules.forward()
    back, more = rules.backward()
    made = b.add("call", *inputs[:rules.explicit], *rules.here(b, captured, node, inputs),
                 graph=ahead)
    first = len(node.attrs["graph"].results)
    residuals = [b.get(made, index=i) for i in range(first, len(ahead.results))]
    # what the backward rule closes over comes after the cotangents there, and before them here
    count = len(residuals)
    cts = len(back.params) - count - len(more)
    order = [*back.params[:count], *back.params[count + cts:], *back.params[count:count + cts]]
    turned = Graph(back.name, order, back.nodes, back.results)
    return made, [*residuals, *rules.here(b, more, node, inputs)], {"backward": turned}


def _checkpointed(b: Builder, node: Node, inputs: Sequence[Node]
                  ) -> tuple[Node, list[Node], dict[str, Any]]:
    """The call with what is kept as further results, and its derivative, which needs only those."""
    attrs, graph = node.attrs, node.attrs["graph"]
    kept, backward = _recomputing(graph, attrs["recompute"], attrs.get("budget"))
    whole = Graph(graph.name, graph.params, graph.nodes, [*graph.results, *kept])
    made = b.add("call", *inputs, **{**attrs, "graph": whole})
    count = len(graph.results)
    residuals = [*inputs, *[b.get(made, index=count + i) for i in range(len(kept))]]
    active = [p.dtype.is_inexact for p in graph.params]
    return made, residuals, {"backward": backward, "graph": _tangents(graph, kept, active)}


def _placed(b: Builder, node: Node, inputs: Sequence[Node], tangents: Sequence[Any]
            ) -> tuple[Node, list[Node], dict[str, Any]]:
    """The call with what its derivative reads as further results, and its derivative."""
    attrs, graph = node.attrs, node.attrs["graph"]
    active = [t is not None for t in tangents]
    forward, backward = _apart(graph, active)
    made = b.add("call", *inputs, **{**attrs, "graph": forward})
    kept = forward.results[len(graph.results):]
    residuals = [*inputs, *[b.get(made, index=i)
                            for i in range(len(graph.results), len(forward.results))]]
    return made, residuals, {"backward": backward, "graph": _tangents(graph, kept, active),
                             "device": attrs["device"]}


def _apart(graph: Graph, active: Sequence[bool]) -> tuple[Graph, Graph]:
    """The graph with what reverse mode needs of it as further results; and the graph from its
    parameters, these results and cotangents to cotangents of the active parameters."""
    b = Builder(graph.name)
    params = [b.param(p.name, p.type) for p in graph.params]
    given = [Node(None, (), {}, r.type, None, f"ct.{i}") if r.dtype.is_inexact else None
             for i, r in enumerate(graph.results)]
    results, found = pull_back(b, graph, params, active, given)
    cts = [c for c in given if c is not None]
    grads = [instantiate(b, p, c) for p, c, a in zip(params, found, active) if a]
    after = dependents(b.nodes, cts)
    back = [n for n in live(b.nodes, grads) if n in after]
    ahead = {*params, *b.nodes} - after
    kept = [i for i in dict.fromkeys((*(i for n in back for i in n.inputs), *grads))
            if i in ahead and not i.is_param and not is_free(i)]
    forward = Graph(graph.name, params, live([n for n in b.nodes if n in ahead],
                                             [*results, *kept]), [*results, *kept])
    inner = Builder(graph.name)
    now = {p: inner.param(p.name, p.type) for p in params}
    now |= {k: inner.param(f"kept.{i}", k.type) for i, k in enumerate(kept)}
    now |= {c: inner.param(c.name, c.type) for c in cts}
    for n in back:
        now[n] = copy_node(inner, n, [copy_free(inner, i, now) for i in n.inputs])
    return forward, inner.graph([copy_free(inner, g, now) for g in grads])


def _recomputing(graph: Graph, policy: str, budget: int | None) -> tuple[list[Node], Graph]:
    """Nodes to keep, and the graph from operands, kept values and cotangents to cotangents.

    It begins behind barriers, so that what it computes again is not taken to be known already.
    """
    active = [p.dtype.is_inexact for p in graph.params]
    b = Builder(graph.name)
    params = [b.param(p.name, p.type) for p in graph.params]
    cts = [b.param(f"ct.{i}", r.type) for i, r in enumerate(graph.results) if r.dtype.is_inexact]
    given, trail = iter(cts), dict[Node, Node]()
    _, found = pull_back(b, graph, [b.optimization_barrier(p) for p in params], active,
                         [next(given) if r.dtype.is_inexact else None for r in graph.results],
                         trail)
    results = [instantiate(b, p, c) for p, c, a in zip(params, found, active) if a]
    # Of a loop there are its results, one by one, as copies of what gets them.
    copies = {trail[n]: n for n in graph.nodes if isinstance(trail[n], Node)}
    read = {copies[i] for n in live(b.nodes, results) if n not in copies
            for i in n.inputs if i in copies} | {copies[r] for r in results if r in copies}
    kept = kept_values(graph, read, policy, budget)
    values = {trail[k]: b.param(f"kept.{i}", k.type) for i, k in enumerate(kept)}
    again = {copy: b.optimization_barrier(p) for copy, p in values.items()}
    inner = rebuild(b.graph(results), again)
    order = [*params, *values.values(), *cts]
    return kept, Graph(graph.name, order, inner.nodes, inner.results)


def _tangents(graph: Graph, kept: Sequence[Node], active: Sequence[bool]) -> Graph | None:
    """The graph from operands, values that were kept (not used here) and tangents to tangents.

    None where a part has no derivative in forward mode; whoever asks for that is told.
    """
    b = Builder(graph.name)
    params = [b.param(p.name, p.type) for p in graph.params]
    for i, k in enumerate(kept):
        b.param(f"kept.{i}", k.type)
    dots = [b.param(f"{p.name}.dot", p.type) if a else None for p, a in zip(params, active)]
    try:
        outs, tangents = push_forward(b, graph, params, dots)
    except UnsupportedError:
        return None
    return b.graph([instantiate(b, o, t) for o, t in zip(outs, tangents) if o.dtype.is_inexact])


def call_batch(b: Builder, node: Node, inputs: Sequence[Node], batched: Sequence[bool]) -> Node:
    """With all operands batched, so that the rules see the same ones as the graph."""
    size, attrs = batch_size(inputs, batched), dict(node.attrs)
    graph, rules = attrs["graph"], attrs.get("_rules")
    attrs["graph"], _ = batch(graph, [True] * len(graph.params), size, [True] * len(graph.results))
    if rules is not None:
        attrs["_rules"] = rules.batched(size)
    return b.add("call", *all_batched(b, inputs, batched), **attrs)


def call_samples() -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Inputs for the tests of the op."""
    b = Builder("product")
    x, y = (b.param(n, TensorType((3,), dtype_of("f64"))) for n in "xy")
    graph = b.graph([b.mul(x, y), b.sin(x)])
    arrays = np.array([1.0, -0.5, 2.0]), np.array([0.5, 3.0, -1.0])
    return [(arrays, {"graph": graph}), (arrays, {"graph": graph, "recompute": "nothing"}),
            (arrays, {"graph": graph, "recompute": "cheap"})]


def call_transpose(b: Builder, node: Node, cotangents: list[Any], wanted: Set[int]) -> list[Any]:
    """Of a call that is linear in the operands that are wanted: through its graph, as a call."""
    graph = node.attrs["graph"]
    inner = Builder(graph.name)
    others = {i: inner.param(p.name, p.type) for i, p in enumerate(graph.params)
              if i not in wanted}
    cts = {k: inner.param(f"ct.{k}", c.type) for k, c in enumerate(cotangents) if c is not None}
    sources = sorted(wanted)
    found = transposed_graph(inner, graph, others, sources, cts)
    made = b.add("call", *[node.inputs[i] for i in others], *[cotangents[k] for k in cts],
                 graph=inner.graph([f for f in found if f is not None]),
                 device=node.attrs.get("device"))
    rest = iter(range(len(found)))
    outs = {i: None if f is None else b.get(made, index=next(rest))
            for i, f in zip(sources, found)}
    return [outs.get(i) for i in range(len(node.inputs))]


def linear_call_transpose(b: Builder, node: Node, cotangents: list[Any], wanted: Set[int]
                          ) -> list[Any]:
    """Through the backward rule."""
    n = node.attrs["residuals"]
    cts = [zeros(b, t) if c is None else c for t, c in zip(node.attrs["types"], cotangents)]
    operands, backward = [*node.inputs[:n], *cts], node.attrs["backward"]
    device = node.attrs.get("device")
    if device is None:
        grads = inline(b, backward, operands)
    else:
        made = b.add("call", *operands, device=device, graph=backward)
        grads = [b.get(made, index=i) for i in range(len(backward.results))]
    return [None] * n + [g if k in wanted else None for k, g in enumerate(grads, n)]
