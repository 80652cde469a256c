"""Derivatives of the user's own: `custom_jvp`, `custom_vjp`, `stop_gradient`, `checkpoint`."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any

from weft.compiler.errors import DTypeError, ShapeError, UnsupportedError, caller_origin
from weft.compiler.ir import Graph, Node
from weft.compiler.transforms import zeros
from weft.compiler.transforms.calls import Rules
from weft.compiler.transforms.remat import check_policy
from weft.compiler.types import TensorType
from weft.frontend.jit import Jit, jit
from weft.frontend.numpy.common import the_trace
from weft.frontend.pytree import Tree, leaf_paths, tree_text, unflatten
from weft.frontend.recording import active
from weft.frontend.subtrace import Spec, Subtrace, spec_of, subtrace, tracers_of, wrap
from weft.frontend.tracer import Tracer
from weft.frontend.transforms.arguments import function_name, inputs_of
from weft.frontend.transforms.wrapper import Transformed, check_function, transformed

__all__ = ["checkpoint", "custom_jvp", "custom_vjp", "stop_gradient"]

Function = Callable[..., Any]


def stop_gradient(x: Any) -> Any:
    """`x`, an array or a container of them, as a constant to whoever differentiates.

    >>> import numpy as np, weft
    >>> weft.grad(lambda x: x * weft.stop_gradient(x))(np.float64(3.0))
    np.float64(3.0)
    """
    trace = active()
    if trace is None:
        return x
    leaves, tree = tracers_of(x)
    b = trace.builder
    return unflatten(tree, [wrap(b.stop_gradient(leaf.node) if leaf.node.dtype.is_inexact
                                 else leaf.node, leaf.kind) for leaf in leaves])


def checkpoint(fn: Function, *, policy: str = "nothing", memory_budget: int | str | None = None
               ) -> Transformed:
    """The function, of which reverse mode keeps little and computes the rest again.

    Takes less memory and more time in gradients; values and derivatives stay the same.

    Args:
        fn: a function of arrays, numbers and containers of them.
        policy: what is kept beside the arguments. ``"nothing"``; ``"products"``: the results of
            matrix products and factorizations; ``"cheap"``: as few bytes as suffice if no product,
            reduction or loop is computed twice, by a minimum cut.
        memory_budget: bytes that may be kept, as a number or like ``"2GB"``; implies ``"cheap"``,
            and repeats products and reductions too where that is needed to keep within it.

    >>> import numpy as np, weft
    >>> block = weft.checkpoint(lambda x: np.sin(np.sin(x)))
    >>> weft.grad(lambda x: block(x).sum())(np.zeros(2))
    array([1., 1.])
    """
    budget = None if memory_budget is None else _bytes(memory_budget)
    policy = policy if budget is None else "cheap"
    check_policy(policy)

    def apply(fn: Function, /, *args: Any, **kwargs: Any) -> Any:
        inputs = inputs_of(fn, "checkpoint", (), args, kwargs)
        sub = inputs.trace()
        operands = [*(leaf.node for leaf in inputs.leaves), *sub.captured]
        return _called(sub, operands, recompute=policy, budget=budget)

    return transformed(fn, "checkpoint", (policy, budget), apply)


_UNITS = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
          "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def _bytes(amount: int | str) -> int:
    """A number of bytes, or ``"1.5 GB"``."""
    if isinstance(amount, int):
        return amount
    match = re.fullmatch(r"([0-9.]+)\s*([A-Za-z]*)", amount)
    if match is None or match[2] not in _UNITS:
        raise UnsupportedError(f"weft.checkpoint: memory_budget is {amount!r}",
                               expected='a number of bytes, or a text like "2GB" or "512 MiB"',
                               origin=caller_origin())
    return int(float(match[1]) * _UNITS[match[2]])


def _called(sub: Subtrace, operands: Sequence[Node], **attrs: Any) -> Any:
    """The results of a `call` node."""
    b = the_trace().builder
    node = b.add("call", *operands, graph=sub.graph, **attrs)
    return sub.results([b.get(node, index=i) for i in range(len(sub.graph.results))])


class _Custom:
    """A function that brings its own derivative."""

    __wrapped__: Function
    _title = ""

    def __init__(self, fn: Function, nondiff_argnums: Sequence[int] = ()) -> None:
        check_function(fn, self._title)
        functools.update_wrapper(self, fn)
        self.__name__ = getattr(fn, "__name__", type(fn).__name__)
        self._fixed = tuple(nondiff_argnums)
        self._jit: Jit | None = None

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        if active() is not None:
            return self._apply(self.__wrapped__, args, kwargs)
        if self._jit is None:
            self._jit = jit(self)
        return self._jit(*args, **kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def rewrapped(self, inner: Function) -> Any:
        """The same rule for a copy of the function."""
        made = type(self)(inner, self._fixed)
        made.__dict__.update({k: v for k, v in self.__dict__.items()
                              if k not in ("__wrapped__", "_jit")})
        return made

    def _apply(self, fn: Function, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        raise NotImplementedError

    def _apart(self, fn: Function, args: Sequence[Any], kwargs: dict[str, Any]
               ) -> tuple[list[Tracer], Tree, Function, tuple[Any, ...]]:
        """Leaves and tree of the differentiable arguments, the function of them, the others."""
        fixed = {i: args[i] for i in self._fixed if i < len(args)}
        moving = tuple(a for i, a in enumerate(args) if i not in fixed)
        leaves, tree = tracers_of(moving)

        def of_moving(*values: Any) -> Any:
            rest = iter(values)
            full = [fixed[i] if i in fixed else next(rest) for i in range(len(args))]
            return fn(*full, **kwargs)
        return leaves, tree, of_moving, tuple(fixed[i] for i in self._fixed if i in fixed)

    def __repr__(self) -> str:
        return f"<weft.{self._title} of {self.__name__}>"


def _specs(leaves: Sequence[Tracer]) -> list[Spec]:
    return [spec_of(leaf, f"x{i}") for i, leaf in enumerate(leaves)]


class custom_jvp(_Custom):
    """A function with a derivative of its own, for forward and reverse mode.

    The rule, given with ``@f.defjvp``, gets tuples of the primals and their tangents, and gives the
    value and its tangent, which must be linear in the tangents. `nondiff_argnums` are positions of
    arguments that are not differentiated by, which the rule gets first.

    >>> import numpy as np, weft
    >>> @weft.custom_jvp
    ... def log1pexp(x):
    ...     return np.log(1 + np.exp(x))
    >>> @log1pexp.defjvp
    ... def _(primals, tangents):
    ...     (x,), (t,) = primals, tangents
    ...     return log1pexp(x), t * (1 - 1 / (1 + np.exp(x)))
    >>> weft.grad(log1pexp)(np.float64(100.0))
    np.float64(1.0)
    """

    _title = "custom_jvp"
    _rule: Function | None = None

    def defjvp(self, rule: Function) -> Function:
        """Set the rule; gives it back, so that this is a decorator."""
        self._rule = rule
        return rule

    def _apply(self, fn: Function, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        if self._rule is None:
            raise UnsupportedError(
                f"{self.__name__} has no derivative yet", origin=caller_origin(), expected="a rule",
                repair=f"give it with @{self.__name__}.defjvp")
        leaves, tree, function, fixed = self._apart(fn, args, kwargs)
        name = function_name(self)
        sub = subtrace(lambda xs: function(*unflatten(tree, xs)), _specs(leaves), name)
        types = _specs(leaves)

        def rule() -> tuple[Graph, tuple[Node, ...]]:
            own = subtrace(lambda xs: self._run(fixed, tree, types, xs), [*types, *_dots(types)],
                           f"{name}.jvp")
            _check_rule(self, sub, own)
            n, results = len(sub.graph.results), own.graph.results
            moving = [t for r, t in zip(sub.graph.results, results[n:]) if r.dtype.is_inexact]
            return Graph(own.graph.name, own.graph.params, own.graph.nodes,
                         [*results[:n], *moving]), own.captured

        return _called(sub, [*(x.node for x in leaves), *sub.captured],
                       _rules=Rules(name, len(leaves), jvp=functools.cache(rule),
                                    outer=sub.captured))

    def _run(self, fixed: Sequence[Any], tree: Tree, types: Sequence[Spec],
             values: list[Tracer]) -> Any:
        """The rule's value and tangent for primals and tangents of the inexact leaves."""
        assert self._rule is not None
        b, n = the_trace().builder, len(types)
        rest = iter(values[n:])
        tangents = [next(rest) if t.type.dtype.is_inexact else wrap(zeros(b, t.type))
                    for t in types]
        out = self._rule(*fixed, unflatten(tree, values[:n]), unflatten(tree, tangents))
        if not isinstance(out, tuple | list) or len(out) != 2:
            raise ShapeError(f"the rule of {self.__name__} must give two results",
                             expected="(value, tangent)", origin=caller_origin())
        return tuple(out)


def _dots(types: Sequence[Spec]) -> list[Spec]:
    return [Spec(t.type, "array" if t.type.shape else "scalar", f"t{i}")
            for i, t in enumerate(types) if t.type.dtype.is_inexact]


def _check_rule(fn: _Custom, sub: Subtrace, rule: Subtrace) -> None:
    """The rule's value and tangent must be like the function's value."""
    value, tangent = rule.tree[2:]
    for what, tree in (("value", value), ("tangent", tangent)):
        if tree != sub.tree:
            raise ShapeError(
                f"the rule of {fn.__name__} gives a {what} of structure {tree_text(tree)}, the "
                f"function {tree_text(sub.tree)}", expected="equal structures",
                origin=caller_origin())
    n = len(sub.graph.results)
    for want, got, dot in zip(sub.graph.results, rule.graph.results[:n], rule.graph.results[n:]):
        _check_type(fn, "value", want.tensor, got.tensor)
        if want.dtype.is_inexact:
            _check_type(fn, "tangent", want.tensor, dot.tensor)


def _check_type(fn: _Custom, what: str, want: TensorType, got: TensorType) -> None:
    if got != want:
        kind = ShapeError if got.shape != want.shape else DTypeError
        raise kind(f"the rule of {fn.__name__} gives a {what} {got}, where {want} is due",
                   expected="equal shapes and element types", origin=caller_origin(),
                   repair="broadcast it, or convert it with astype")


class custom_vjp(_Custom):
    """A function with a derivative of its own, for reverse mode.

    ``f.defvjp(forward, backward)`` gives the rule: ``forward`` takes the function's arguments and
    gives ``(value, residuals)``; ``backward(residuals, ct)`` takes the cotangent of the value and
    gives a tuple with one for each argument. `nondiff_argnums` are positions of arguments that are
    not differentiated by, which ``backward`` gets first.

    >>> import numpy as np, weft
    >>> @weft.custom_vjp
    ... def clipped(x):
    ...     return x
    >>> clipped.defvjp(lambda x: (x, None), lambda _, ct: (np.clip(ct, -1, 1),))
    >>> weft.grad(lambda x: np.sum(clipped(x) ** 2))(np.array([0.25, 3.0]))
    array([0.5, 1. ])
    """

    _title = "custom_vjp"
    _forward: Function | None = None
    _backward: Function | None = None

    def defvjp(self, forward: Function, backward: Function) -> None:
        """Set the rule."""
        self._forward, self._backward = forward, backward

    def _apply(self, fn: Function, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        if self._forward is None or self._backward is None:
            raise UnsupportedError(
                f"{self.__name__} has no derivative yet", origin=caller_origin(), expected="a rule",
                repair=f"give it with {self.__name__}.defvjp")
        leaves, tree, function, fixed = self._apart(fn, args, kwargs)
        _, _, forward, _ = self._apart(self._forward, args, kwargs)
        name, types = function_name(self), _specs(leaves)
        sub = subtrace(lambda xs: function(*unflatten(tree, xs)), types, name)
        count = len(sub.graph.results)

        @functools.cache
        def ahead() -> Subtrace:
            made = subtrace(lambda xs: self._pair(forward(*unflatten(tree, xs))), types,
                            f"{name}.forward")
            self._check_value(sub, made, made.tree[2])
            return made

        @functools.cache
        def back() -> Subtrace:
            residuals = [Spec(r.tensor, k if not r.shape else "array", f"r{i}") for i, (r, k) in
                         enumerate(zip(ahead().graph.results[count:], ahead().kinds[count:]))]
            cts = [Spec(r.tensor, "array" if r.shape else "scalar", f"ct{i}")
                   for i, r in enumerate(sub.graph.results) if r.dtype.is_inexact]
            return subtrace(lambda xs: self._run(fixed, sub, ahead().tree[3], len(residuals), tree,
                                                 types, xs), [*residuals, *cts], f"{name}.backward")

        rules = Rules(name, len(leaves), forward=lambda: (ahead().graph, ahead().captured),
                      backward=lambda: (back().graph, back().captured), outer=sub.captured)
        return _called(sub, [*(x.node for x in leaves), *sub.captured], _rules=rules)

    def _pair(self, out: Any) -> tuple[Any, Any]:
        if not isinstance(out, tuple | list) or len(out) != 2:
            raise ShapeError(f"the forward rule of {self.__name__} must give two results",
                             expected="(value, residuals)", origin=caller_origin())
        return tuple(out)

    def _check_value(self, sub: Subtrace, ahead: Subtrace, tree: Tree) -> None:
        if tree != sub.tree:
            raise ShapeError(
                f"the forward rule of {self.__name__} gives a value of structure "
                f"{tree_text(tree)}, the function {tree_text(sub.tree)}",
                expected="equal structures", origin=caller_origin())
        for want, got in zip(sub.graph.results, ahead.graph.results):
            _check_type(self, "value", want.tensor, got.tensor)

    def _run(self, fixed: Sequence[Any], sub: Subtrace, residual_tree: Tree, count: int, tree: Tree,
             types: Sequence[Spec], values: list[Tracer]) -> list[Tracer]:
        """The backward rule's cotangents of the leaves that can have one."""
        assert self._backward is not None
        b = the_trace().builder
        rest = iter(values[count:])
        cts = [next(rest) if r.dtype.is_inexact else wrap(zeros(b, r.tensor))
               for r in sub.graph.results]
        out = self._backward(*fixed, unflatten(residual_tree, values[:count]),
                             unflatten(sub.tree, cts))
        if isinstance(out, list):
            out = tuple(out)
        if not isinstance(out, tuple) or len(out) != len(tree) - 2:
            raise ShapeError(
                f"the backward rule of {self.__name__} must give a tuple of {len(tree) - 2}",
                expected="a cotangent for each argument", origin=caller_origin(),
                repair="return (ct,) for one argument")
        return self._cotangents(out, tree, types)

    def _cotangents(self, out: tuple[Any, ...], tree: Tree, types: Sequence[Spec]
                    ) -> list[Tracer]:
        """One for each leaf that can have one; None in the place of an argument means zeros."""
        b, rest = the_trace().builder, iter(types)
        found: list[Tracer] = []
        for given, subtree in zip(out, tree[2:]):
            mine = [next(rest).type for _ in leaf_paths(subtree)]
            if given is None:
                found += [wrap(zeros(b, t)) for t in mine if t.dtype.is_inexact]
                continue
            cts, got = tracers_of(given)
            if got != subtree:
                raise ShapeError(
                    f"the backward rule of {self.__name__} gives a cotangent of structure "
                    f"{tree_text(got)}, its argument is {tree_text(subtree)}",
                    expected="cotangents built like the arguments", origin=caller_origin())
            for t, ct in zip(mine, cts):
                if not t.dtype.is_inexact:
                    continue
                if ct.node.shape != t.shape:
                    _check_type(self, "cotangent", t, ct.node.tensor)
                found.append(wrap(b.convert(ct.node, t.dtype)))
        return found
