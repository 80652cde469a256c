"""Derivatives: `grad`, `value_and_grad`, `vjp`, `jvp`, `linearize`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from weft.compiler.build import Builder
from weft.compiler.errors import DTypeError, ShapeError, UnsupportedError, caller_origin
from weft.compiler.ir import Node
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.transforms import (
    LinearMap,
    instantiate,
    linear_map,
    pull_back,
    push_forward,
    zeros,
)
from weft.compiler.types import DTYPES, TensorType
from weft.frontend.jit import jit
from weft.frontend.numpy.common import the_trace
from weft.frontend.pytree import LEAF, Tree, tree_text, unflatten
from weft.frontend.recording import active
from weft.frontend.statics import Static
from weft.frontend.subtrace import Subtrace, tracers_of, wrap
from weft.frontend.tracer import WEAK_DTYPES, Tracer
from weft.frontend.transforms.arguments import (
    Argnums,
    argnums_key,
    function_name,
    inputs_of,
)
from weft.frontend.transforms.wrapper import Transformed, transformed

__all__ = ["grad", "jvp", "linearize", "value_and_grad", "vjp"]

Function = Callable[..., Any]


def grad(fn: Function, argnums: Argnums = 0, *, has_aux: bool = False) -> Transformed:
    """The gradient of a function with a real, 0-d result, by reverse mode.

    Args:
        fn: a function of arrays, numbers and containers of them.
        argnums: the argument to differentiate by: its position or name, or several of these; -1
            is the last positional argument that `fn` declares.
        has_aux: `fn` gives ``(value, aux)``, of which only the value is differentiated.

    The result is called like `fn` and gives the gradient, in the argument's own container and
    element type; a tuple of them for several arguments; with `has_aux`, ``(gradient, aux)``.
    Of a complex argument ``x + iy``, the gradient is ``df/dx - i df/dy``.

    Raises `ShapeError` where the result is not 0-d or argnums names no argument, `DTypeError`
    where the result is complex or an integer or the argument is an integer or bool, and
    `UnsupportedError` where an operation has no derivative.

    >>> import numpy as np, weft
    >>> weft.grad(lambda x: np.sum(np.sin(x)))(np.zeros(3))
    array([1., 1., 1.])
    """
    key = argnums_key(argnums)

    def apply(fn: Function, /, *args: Any, **kwargs: Any) -> Any:
        _, aux, gradients = _reverse(fn, "grad", key, has_aux, args, kwargs)
        return (gradients, aux) if has_aux else gradients

    return transformed(fn, "grad", (key, has_aux), apply)


def value_and_grad(fn: Function, argnums: Argnums = 0, *, has_aux: bool = False) -> Transformed:
    """The value of a function and its gradient, computed together; see `grad`.

    The result gives ``(value, gradient)``, with `has_aux` ``((value, aux), gradient)``.

    >>> import numpy as np, weft
    >>> value, slope = weft.value_and_grad(lambda w: (w * w).sum())(np.array([1.0, 2.0]))
    >>> print(value, slope)
    5.0 [2. 4.]
    """
    key = argnums_key(argnums)

    def apply(fn: Function, /, *args: Any, **kwargs: Any) -> Any:
        value, aux, gradients = _reverse(fn, "value_and_grad", key, has_aux, args, kwargs)
        return ((value, aux) if has_aux else value), gradients

    return transformed(fn, "value_and_grad", (key, has_aux), apply)


def _reverse(fn: Function, title: str, argnums: Any, has_aux: bool, args: Sequence[Any],
             kwargs: dict[str, Any]) -> tuple[Any, Any, Any]:
    """The value, the auxiliary result, and the gradients."""
    inputs = inputs_of(fn, title, argnums, args, kwargs)
    inputs.check_inexact(title)
    sub = inputs.trace()
    _check_loss(fn, title, sub, has_aux)
    b = the_trace().builder
    operands = [*(leaf.node for leaf in inputs.leaves), *sub.captured]
    active = [*inputs.chosen, *[False] * len(sub.captured)]
    loss, *rest = sub.graph.results
    one = b.scalar(1, loss.dtype)
    results, found = pull_back(b, sub.graph, operands, active, [one, *[None] * len(rest)])
    value = sub.results(results)
    chosen = [(leaf, c) for leaf, c, is_ in zip(inputs.leaves, found, inputs.chosen) if is_]
    gradients = [wrap(instantiate(b, leaf.node, c), leaf.kind) for leaf, c in chosen]
    picked = inputs.pick(gradients, isinstance(argnums, tuple))
    return (*value, picked) if has_aux else (value, None, picked)


def _check_loss(fn: Function, title: str, sub: Subtrace, has_aux: bool) -> None:
    """Refuse results that have no gradient."""
    name = function_name(fn)
    if has_aux and not (isinstance(sub.tree, tuple) and sub.tree[0] is tuple
                        and len(sub.tree) == 4):
        raise UnsupportedError(
            f"weft.{title}: with has_aux, {name} must give two results", origin=caller_origin(),
            expected="(value, aux)", repair="return a tuple of two, or leave out has_aux")
    tree = sub.tree[2] if has_aux else sub.tree
    if tree is not LEAF:
        raise ShapeError(
            f"weft.{title} needs a function with one number as its result, but {name} gives "
            f"{tree if isinstance(tree, Static) else tree_text(tree)}", origin=caller_origin(),
            expected="a 0-d array",
            repair="return the loss alone; with has_aux=True, (loss, others)")
    loss = sub.graph.results[0]
    if loss.shape != ():
        raise ShapeError(
            f"weft.{title} needs a function with one number as its result, but {name} gives "
            f"{loss.type}", origin=caller_origin(), expected="a 0-d array",
            repair="reduce it, with .sum() or .mean(), or use weft.jacobian")
    if not loss.dtype.is_float:
        raise DTypeError(
            f"weft.{title} needs a real result, but {name} gives {loss.dtype.numpy}",
            origin=caller_origin(), expected="a real floating-point number",
            repair="take .real or abs() of it" if loss.dtype.is_complex else
            "compute the result in floating point")


# ---- forward mode

def jvp(fn: Function, primals: Sequence[Any], tangents: Sequence[Any], *, has_aux: bool = False
        ) -> Any:
    """The value of a function and its derivative along tangents, by forward mode.

    Args:
        fn: a function of the primals.
        primals: a tuple or list of arguments, each an array, number or container of them.
        tangents: for each of them the direction, of the same structure, shapes and element types.
        has_aux: `fn` gives ``(value, aux)``.

    Gives ``(value, tangent)``, with `has_aux` ``(value, tangent, aux)``. The tangents of integers
    are ignored. Raises `ShapeError` or `DTypeError` where tangents do not fit the primals.

    >>> import numpy as np, weft
    >>> value, tangent = weft.jvp(np.sin, (0.0,), (2.0,))
    >>> print(value, tangent)
    0.0 2.0
    """
    def apply(fn: Function, /, primals: Any, tangents: Any) -> Any:
        inputs = inputs_of(fn, "jvp", tuple(range(len(primals))), primals, {})
        dots = matching(function_name(fn), "jvp",
                        [(x.node.tensor, x.kind) for x in inputs.leaves], inputs.args,
                        inputs.names, tangents)
        sub = inputs.trace()
        b = the_trace().builder
        operands = [*(leaf.node for leaf in inputs.leaves), *sub.captured]
        results, outs = push_forward(b, sub.graph, operands,
                                     [*dots, *[None] * len(sub.captured)])
        value = sub.results(results)
        tangent = sub.results([_zero_tangent(b, r.tensor) if t is None else t
                               for r, t in zip(results, outs)])
        return (value[0], tangent[0], value[1]) if has_aux else (value, tangent)

    _check_pair("jvp", "primals", primals)
    _check_pair("jvp", "tangents", tangents)
    _check_count(fn, primals, tangents)
    made = transformed(fn, "jvp", (has_aux,), apply, _PRIMALS_TANGENTS)
    return made(tuple(primals), tuple(tangents))


def _zero_tangent(b: Builder, type: TensorType) -> Node:
    """Zeros in the shape of a result; of float32 for integers, which have no tangents."""
    return zeros(b, type if type.dtype.is_inexact else TensorType(type.shape, DTYPES["f32"]))


def _parameters(*names: str) -> inspect.Signature:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Signature([inspect.Parameter(n, kind) for n in names])


_PRIMALS_TANGENTS = _parameters("primals", "tangents")


def _check_pair(title: str, what: str, value: Any) -> None:
    if not isinstance(value, tuple | list):
        raise UnsupportedError(
            f"weft.{title}: {what} is a {type(value).__name__}", origin=caller_origin(),
            expected="a tuple, with one entry for each argument of the function",
            repair="write (x,) for one argument")


def _check_count(fn: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> None:
    if len(primals) != len(tangents):
        raise ShapeError(
            f"weft.jvp: {function_name(fn)} gets {len(primals)} primals and {len(tangents)} "
            "tangents", expected="as many tangents as primals", origin=caller_origin())


def matching(function: str, title: str, primals: Sequence[tuple[TensorType, str]],
             trees: Sequence[Tree], names: Sequence[str], tangents: Sequence[Any]
             ) -> list[Node | None]:
    """The tangents' nodes, checked against the primals' types; None for those of integers."""
    leaves: list[Tracer] = []
    for tree, tangent in zip(trees, tangents):
        own, got = tracers_of(tangent)
        if got != tree:
            raise ShapeError(
                f"weft.{title}: a tangent of {function} has the structure {tree_text(got)}, its "
                f"primal {tree_text(tree)}", origin=caller_origin(),
                expected="tangents built like the primals")
        leaves += own
    return [_tangent(title, *primal, tangent, name)
            for primal, tangent, name in zip(primals, leaves, names)]


def _tangent(title: str, type: TensorType, kind: str, tangent: Tracer, name: str) -> Node | None:
    if not type.dtype.is_inexact:
        return None
    node = tangent.node
    if node.shape != type.shape:
        raise ShapeError(
            f"weft.{title}: the tangent of {name} has shape {node.shape}, {name} itself "
            f"{type.shape}", expected="equal shapes", origin=caller_origin())
    if node.dtype is not type.dtype and not tangent.weak and kind not in WEAK_DTYPES:
        raise DTypeError(
            f"weft.{title}: the tangent of {name} has element type {node.dtype.numpy}, {name} "
            f"itself {type.dtype.numpy}", expected="equal element types",
            repair="convert the tangent with astype", origin=caller_origin())
    return the_trace().builder.convert(node, type.dtype)


# ---- vjp

def vjp(fn: Function, *primals: Any, has_aux: bool = False) -> Any:
    """The value of a function, and a function that takes cotangents back to its arguments.

    Gives ``(value, pull)``, with `has_aux` ``(value, pull, aux)``. ``pull(ct)``, where `ct` has
    the structure, shapes and element types of the value, gives a tuple with a cotangent for each
    primal (zeros for integers). Called on arrays, what `pull` needs of the computation is kept,
    and `pull` does not compute the value again.

    >>> import numpy as np, weft
    >>> value, pull = weft.vjp(lambda x, y: x * y, np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    >>> pull(np.ones(2))
    (array([3., 4.]), array([1., 2.]))
    """
    if active() is None:
        value, linear, kept, aux = _point(fn, "vjp", primals, has_aux)
        pulled = linear.pulled(kept)
    else:
        point = Point.of(fn, "vjp", primals, has_aux)
        value, aux = point.value, point.aux
        pulled = point.linear.pull_in_trace(point.residuals)
    return (value, pulled, aux) if has_aux else (value, pulled)


def linearize(fn: Function, *primals: Any) -> Any:
    """The value of a function, and its derivative there as a function of tangents.

    Gives ``(value, push)``; ``push(*tangents)`` is what `jvp` would give for these tangents, but
    the function itself is not computed again.

    >>> import numpy as np, weft
    >>> value, push = weft.linearize(np.sin, np.array([0.0, np.pi]))
    >>> push(np.array([1.0, 1.0]))
    array([ 1., -1.])
    """
    if active() is None:
        value, linear, kept, _ = _point(fn, "linearize", primals, False)
        return value, linear.pushed(kept)
    point = Point.of(fn, "linearize", primals, False)
    return point.value, point.linear.push_in_trace(point.residuals)


def _point(fn: Function, title: str, primals: Sequence[Any], has_aux: bool) -> Any:
    """The value, derivative, residuals and auxiliary result for arrays, from compiled code."""
    def apply(fn: Function, /, *primals: Any) -> Any:
        point = Point.of(fn, title, primals, has_aux)
        # no array: every call of this compilation gives the same object
        return point.value, Opaque(point.linear), point.residuals, point.aux

    value, linear, residuals, aux = transformed(fn, title, (has_aux,), apply)(*primals)
    return value, linear.value, residuals, aux


class Opaque:
    """Holds an object that is no container of arrays, though it may look like one."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


@dataclass(eq=False)
class Point:
    """A function's value in the running trace, and its derivative there."""

    value: Any
    aux: Any
    linear: Derivative
    residuals: list[Tracer]

    @classmethod
    def of(cls, fn: Function, title: str, primals: Sequence[Any], has_aux: bool) -> Point:
        """At these primals."""
        inputs = inputs_of(fn, title, tuple(range(len(primals))), primals, {})
        sub = inputs.trace()
        chosen = [leaf.node.dtype.is_inexact for leaf in inputs.leaves]
        b = the_trace().builder
        results, linear, residuals = linear_map(
            b, sub.graph, [*(leaf.node for leaf in inputs.leaves), *sub.captured],
            [*chosen, *[False] * len(sub.captured)])
        value = sub.results(results)
        derivative = Derivative(
            linear, function_name(fn), [(x.node.tensor, x.kind) for x in inputs.leaves],
            inputs.args, inputs.names, [r.tensor for r in results], list(sub.kinds), sub.tree,
            has_aux)
        value, aux = value if has_aux else (value, None)
        return cls(value, aux, derivative, [wrap(r) for r in residuals])


@dataclass(eq=False)
class Derivative:
    """A derivative and what it was taken of: types and structure of primals and value."""

    map: LinearMap
    name: str
    primals: list[tuple[TensorType, str]]
    trees: list[Tree]
    names: list[str]
    results: list[TensorType]
    kinds: list[str]
    tree: Tree
    has_aux: bool

    def pull_in_trace(self, residuals: Sequence[Any]) -> Function:
        """The function from cotangents to cotangents, in a trace."""
        return lambda cotangents: self._pull(residuals, cotangents)

    def push_in_trace(self, residuals: Sequence[Any]) -> Function:
        """The function from tangents to tangents, in a trace."""
        return lambda *tangents: self._push(residuals, tangents)

    @cached_property
    def _jitted_pull(self) -> Function:
        return jit(lambda residuals, cotangents: self._pull(residuals, cotangents))

    @cached_property
    def _jitted_push(self) -> Function:
        return jit(lambda residuals, tangents: self._push(residuals, tangents))

    def pulled(self, residuals: Sequence[Any]) -> Function:
        """The function from cotangents to cotangents, for arrays and in traces."""
        return lambda cotangents: (self._pull if active() else self._jitted_pull)(
            residuals, cotangents)

    def pushed(self, residuals: Sequence[Any]) -> Function:
        """The function from tangents to tangents, for arrays and in traces."""
        return lambda *tangents: (self._push if active() else self._jitted_push)(
            residuals, tangents)

    def _pull(self, residuals: Sequence[Any], cotangents: Any) -> tuple[Any, ...]:
        b = the_trace().builder
        given = self._cotangents(cotangents)
        found = self.map.pull(b, [the_trace().lift(r).node for r in residuals], given)
        rest = iter([wrap(zeros(b, t) if c is None else c, kind)
                     for (t, kind), c in zip(self.primals, found)])
        return tuple(unflatten(tree, rest) for tree in self.trees)

    def _push(self, residuals: Sequence[Any], tangents: Sequence[Any]) -> Any:
        b = the_trace().builder
        dots = matching(self.name, "linearize", self.primals, self.trees, self.names, tangents)
        dots += [None] * (len(self.map.active) - len(dots))
        outs = self.map.push(b, [the_trace().lift(r).node for r in residuals], dots)
        nodes = [wrap(_zero_tangent(b, t) if o is None else o, k)
                 for t, k, o in zip(self.results, self.kinds, outs)]
        tangent = unflatten(self.tree, nodes)
        return tangent[0] if self.has_aux else tangent

    def _cotangents(self, cotangents: Any) -> list[Node | None]:
        tree: Tree = self.tree[2] if self.has_aux else self.tree
        leaves, got = tracers_of(cotangents)
        if got != tree:
            raise ShapeError(
                f"weft.vjp: the cotangent of {self.name} has the structure {tree_text(got)}, its "
                f"value {tree_text(tree)}", expected="a cotangent built like the value",
                origin=caller_origin())
        b = the_trace().builder
        out: list[Node | None] = []
        for leaf, result in zip(leaves, self.results):
            if leaf.node.shape != result.shape:
                raise ShapeError(
                    f"weft.vjp: a cotangent of {self.name} has shape {leaf.node.shape}, the value "
                    f"{result.shape}", expected="equal shapes", origin=caller_origin())
            out.append(b.convert(leaf.node, result.dtype) if result.dtype.is_inexact else None)
        return out + [None] * (len(self.results) - len(out))
