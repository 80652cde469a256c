"""Derivatives as arrays: `jacobian`, `jacfwd`, `jacrev`, `hessian`, `hvp`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from weft.compiler.build import Builder
from weft.compiler.errors import UnsupportedError, caller_origin
from weft.compiler.ir import Graph, Node
from weft.compiler.transforms import batch_into, instantiate, pull_back, push_forward
from weft.compiler.types import DTYPES, Dim, Size, numel
from weft.frontend.numpy.common import the_trace
from weft.frontend.pytree import flatten, unflatten
from weft.frontend.subtrace import Subtrace, wrap
from weft.frontend.transforms.arguments import Argnums, Inputs, argnums_key, inputs_of
from weft.frontend.transforms.derivatives import grad, jvp
from weft.frontend.transforms.wrapper import Transformed, transformed

__all__ = ["hessian", "hvp", "jacfwd", "jacobian", "jacrev"]

Function = Callable[..., Any]
_MODES = ("auto", "forward", "reverse")


def jacobian(fn: Function, argnums: Argnums = 0, *, mode: str = "auto", has_aux: bool = False
             ) -> Transformed:
    """The matrix of all partial derivatives of a function.

    Args:
        fn: a function of arrays, numbers and containers of them.
        argnums: the argument to differentiate by: its position or name, or several.
        mode: ``"forward"`` computes a column at a time, all at once (for few inputs), ``"reverse"``
            a row (for few results), ``"auto"`` chooses by which are fewer.
        has_aux: `fn` gives ``(value, aux)``; the result is then ``(jacobian, aux)``.

    For a result of shape `s` and an argument of shape `t`, the Jacobian has shape ``(*s, *t)``. Of
    containers, each result is replaced by a container like the argument. Complex numbers: see
    `grad`; forward mode takes holomorphic functions.

    >>> import numpy as np, weft
    >>> weft.jacobian(lambda x: x * x)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """
    key = argnums_key(argnums)
    if mode not in _MODES:
        raise UnsupportedError(f"weft.jacobian: mode is {mode!r}", origin=caller_origin(),
                               expected=" or ".join(map(repr, _MODES)))

    def apply(fn: Function, /, *args: Any, **kwargs: Any) -> Any:
        inputs = inputs_of(fn, "jacobian", key, args, kwargs)
        inputs.check_inexact("jacobian")
        sub = inputs.trace()
        count = len(sub.graph.results)
        aux = None
        if has_aux:
            count = _count(sub)
            aux = sub.results(batch_into(the_trace().builder, sub.graph, _operands(inputs, sub),
                                         [False] * len(sub.graph.params))[0])[1]
        forward = mode == "forward" or (mode == "auto" and _is_tall(inputs, sub, count))
        rows = _by_columns(inputs, sub, count) if forward else _by_rows(inputs, sub, count)
        several = isinstance(key, tuple)
        tree = sub.tree[2] if has_aux else sub.tree
        value = unflatten(tree, [inputs.pick([wrap(n) for n in row], several) for row in rows])
        return (value, aux) if has_aux else value

    return transformed(fn, "jacobian", (key, mode, has_aux), apply)


def jacfwd(fn: Function, argnums: Argnums = 0, *, has_aux: bool = False) -> Transformed:
    """`jacobian` by forward mode."""
    return jacobian(fn, argnums, mode="forward", has_aux=has_aux)


def jacrev(fn: Function, argnums: Argnums = 0, *, has_aux: bool = False) -> Transformed:
    """`jacobian` by reverse mode."""
    return jacobian(fn, argnums, mode="reverse", has_aux=has_aux)


def hessian(fn: Function, argnums: Argnums = 0) -> Transformed:
    """The matrix of second derivatives of a function with a 0-d result; forward over reverse.

    For an argument of shape `t`, it has shape ``(*t, *t)``.

    >>> import numpy as np, weft
    >>> weft.hessian(lambda x: np.sum(x ** 3))(np.array([1.0, 2.0]))
    array([[ 6.,  0.],
           [ 0., 12.]])
    """
    return jacobian(grad(fn, argnums), argnums, mode="forward")


def hvp(fn: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """The product of a function's Hessian and a vector, at the cost of a few gradients.

    Args:
        fn: a function with a 0-d result.
        primals: a tuple with the arguments; the first is differentiated by.
        tangents: a tuple with a vector of the structure and shapes of each.

    >>> import numpy as np, weft
    >>> weft.hvp(lambda x: np.sum(x ** 3), (np.array([1.0, 2.0]),), (np.ones(2),))
    array([ 6., 12.])
    """
    return jvp(grad(fn), primals, tangents)[1]


def _operands(inputs: Inputs, sub: Subtrace) -> list[Node]:
    return [*(leaf.node for leaf in inputs.leaves), *sub.captured]


def _count(sub: Subtrace) -> int:
    """How many results belong to the value, where there is an auxiliary one."""
    value, _ = sub.results(sub.graph.results)
    return len(flatten(value)[0])


def _is_tall(inputs: Inputs, sub: Subtrace, count: int) -> bool:
    """Whether there are no more inputs than results."""
    ins = sum((leaf.node.tensor.size for leaf, c in zip(inputs.leaves, inputs.chosen) if c), 0)
    outs = sum((r.tensor.size for r in sub.graph.results[:count]), 0)
    difference = outs - ins
    return not isinstance(difference, Size) and difference >= 0


def _identity(b: Builder, node: Node) -> Node:
    """One array like the node for each of its elements, with 1 at that element."""
    size: Dim = numel(node.shape)
    shape, i64 = (size, *node.shape), DTYPES["i64"]
    flat = b.eq(b.iota(shape=(size, size), axis=0, dtype=i64),
                b.iota(shape=(size, size), axis=1, dtype=i64))
    return b.convert(b.reshape(flat, shape), node.dtype)


def _by_columns(inputs: Inputs, sub: Subtrace, count: int) -> list[list[Node]]:
    """For each result, its derivative by each chosen leaf, each pushed forward for itself."""
    columns = []
    for at, leaf in enumerate(inputs.leaves):
        if inputs.chosen[at]:
            columns.append(_column(inputs, sub, count, at, leaf.node))
    return [list(row) for row in zip(*columns)]


def _column(inputs: Inputs, sub: Subtrace, count: int, at: int, leaf: Node) -> list[Node]:
    inner = Builder(sub.graph.name)
    params = [inner.param(p.name, p.type) for p in sub.graph.params]
    dot = inner.param("dot", leaf.type)
    results, dots = push_forward(inner, sub.graph, params,
                                 [dot if k == at else None for k in range(len(params))])
    graph = inner.graph([instantiate(inner, r, t) for r, t in zip(results[:count], dots)])
    out = []
    for node, p in zip(_mapped(graph, _operands(inputs, sub), leaf), graph.results):
        rank = len(p.shape)
        b = the_trace().builder
        node = b.transpose(node, perm=(*range(1, rank + 1), 0))
        out.append(b.reshape(node, (*p.shape, *leaf.shape)))
    return out


def _by_rows(inputs: Inputs, sub: Subtrace, count: int) -> list[list[Node]]:
    """The derivatives of each result by all chosen leaves, pulled back for itself."""
    operands = _operands(inputs, sub)
    active = [*inputs.chosen, *[False] * len(sub.captured)]
    rows = []
    for at, result in enumerate(sub.graph.results[:count]):
        inner = Builder(sub.graph.name)
        params = [inner.param(p.name, p.type) for p in sub.graph.params]
        ct = inner.param("ct", result.type)
        cts = [ct if k == at else None for k in range(len(sub.graph.results))]
        _, found = pull_back(inner, sub.graph, params, active, cts)
        graph = inner.graph([instantiate(inner, p, c) for p, c, a in zip(params, found, active)
                             if a])
        b = the_trace().builder
        rows.append([b.reshape(n, (*result.shape, *p.shape))
                     for n, p in zip(_mapped(graph, operands, result), graph.results)])
    return rows


def _mapped(graph: Graph, operands: Sequence[Node], like: Node) -> list[Node]:
    """The graph's results for each unit vector as its last operand, along a first axis."""
    b = the_trace().builder
    basis = _identity(b, like)
    flags = [*[False] * len(operands), True]
    outs, mapped = batch_into(b, graph, [*operands, basis], flags)
    size = basis.shape[0]
    return [o if m else b.broadcast(o, (size, *o.shape), range(1, len(o.shape) + 1))
            for o, m in zip(outs, mapped)]
