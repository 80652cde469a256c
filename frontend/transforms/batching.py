"""Batching: `vmap`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from weft.compiler.errors import ShapeError, UnsupportedError, caller_origin
from weft.compiler.ir import Node
from weft.compiler.lazy_dataclass import replace
from weft.compiler.transforms import batch_into
from weft.compiler.transforms.batch import lead
from weft.compiler.types import Dim, TensorType
from weft.frontend.numpy.common import the_trace
from weft.frontend.pytree import LEAF, Tree, flatten, leaf_paths, tree_text, unflatten
from weft.frontend.subtrace import Spec, spec_of, wrap
from weft.frontend.tracer import Tracer
from weft.frontend.transforms.arguments import Inputs, function_name, inputs_of
from weft.frontend.transforms.wrapper import Transformed, transformed

__all__ = ["vmap"]

Axes = Any     # an int, None, or a container of these that stands for an argument or its parts
_NONE = flatten(None)[1]


def vmap(fn: Callable[..., Any], in_axes: Axes = 0, out_axes: Axes = 0) -> Transformed:
    """The function mapped over an axis of its arguments, as one batched computation.

    Args:
        fn: a function of arrays, numbers and containers of them, written for one element.
        in_axes: the axis to map over, for all positional arguments; or a tuple or list with an
            entry for each: an int, None for what every element gets as it is, or a container
            like the argument. Arguments given by keyword are mapped over their first axis.
        out_axes: where the new axis stands in the results, in the same way; None for results that
            are the same for all elements.

    Nests, and works on functions with loops, gradients and random numbers. Raises `ShapeError`
    where the mapped axes differ in size, are not there, or nothing is mapped.

    >>> import numpy as np, weft
    >>> weft.vmap(np.dot)(np.ones((3, 4)), np.arange(12.0).reshape(3, 4))
    array([ 6., 22., 38.])
    """
    key = _axes_key(in_axes), _axes_key(out_axes)

    def apply(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        inputs = inputs_of(fn, "vmap", (), args, kwargs)
        axes = _input_axes(fn, inputs, in_axes, len(args))
        size = _size(fn, inputs, axes)
        specs = [_element(leaf, name, a)
                 for leaf, name, a in zip(inputs.leaves, inputs.names, axes)]
        sub = inputs.trace_as(specs)
        b = the_trace().builder
        operands = [_axis_first(leaf.node, a) for leaf, a in zip(inputs.leaves, axes)]
        flags = [a is not None for a in axes] + [False] * len(sub.captured)
        outs, mapped = batch_into(b, sub.graph, [*operands, *sub.captured], flags)
        places = _spread(out_axes, sub.tree, "out_axes", function_name(fn))
        nodes = [_placed(fn, o, m, a, size) for o, m, a in zip(outs, mapped, places)]
        results = [wrap(n, "array" if a is not None else k)
                   for n, k, a in zip(nodes, sub.kinds, places)]
        return unflatten(sub.tree, results)

    return transformed(fn, "vmap", key, apply)


def _axes_key(axes: Axes) -> Any:
    leaves, tree = flatten(axes)
    for leaf in leaves:
        if not isinstance(leaf, int) or isinstance(leaf, bool):
            raise UnsupportedError(f"weft.vmap: an axis is {leaf!r}", origin=caller_origin(),
                                   expected="ints, None, or containers of them")
    return tuple(leaves), tree


def _spread(axes: Axes, tree: Tree, what: str, name: str) -> list[int | None]:
    """The axis of every leaf of `tree`, where an entry of `axes` stands for all leaves below it."""
    leaves, given = flatten(axes)
    rest = iter(leaves)

    def walk(pattern: Tree, tree: Tree) -> list[int | None]:
        if pattern is LEAF or pattern == _NONE:
            axis = next(rest) if pattern is LEAF else None
            return [axis] * len(leaf_paths(tree))
        alike = isinstance(tree, tuple) and (pattern[0] is tree[0]
                                      or {pattern[0], tree[0]} <= {list, tuple})
        if not alike or len(pattern) != len(tree) or pattern[1] != tree[1]:
            raise ShapeError(
                f"weft.vmap: {what} of {name} has the structure {tree_text(given)}, where there is "
                f"{tree_text(tree)}", origin=caller_origin(),
                expected="one axis for all, or a container of axes built like the values")
        return [a for p, t in zip(pattern[2:], tree[2:]) for a in walk(p, t)]

    return walk(given, tree)


def _input_axes(fn: Callable[..., Any], inputs: Inputs, in_axes: Axes, count: int
                ) -> list[int | None]:
    name = function_name(fn)
    if isinstance(in_axes, tuple | list):
        if len(in_axes) != count:
            raise ShapeError(
                f"weft.vmap: in_axes has {len(in_axes)} entries, but {name} is called with {count} "
                "positional argument(s)", expected="an entry for each", origin=caller_origin())
        axes = [a for given, tree in zip(in_axes, inputs.args)
                for a in _spread(given, tree, "in_axes", name)]
    else:
        axes = [a for tree in inputs.args for a in _spread(in_axes, tree, "in_axes", name)]
    return axes + [0] * (len(inputs.leaves) - len(axes))


def _size(fn: Callable[..., Any], inputs: Inputs, axes: list[int | None]) -> Dim:
    """The size of the mapped axes; `axes` become axes counted from the front."""
    found: dict[Dim, str] = {}
    for i, (leaf, name, axis) in enumerate(zip(inputs.leaves, inputs.names, axes)):
        if axis is None:
            continue
        rank = len(leaf.node.shape)
        if not -rank <= axis < rank:
            raise ShapeError(
                f"weft.vmap: axis {axis} of {name} is to be mapped over, but it has {rank} "
                f"dimension(s)", expected=f"an axis in [{-rank}, {rank})" if rank else
                "an array with an axis", origin=caller_origin(),
                repair=f"give in_axes None for {name}, so that every element gets all of it")
        axes[i] = axis % rank
        found.setdefault(leaf.node.shape[axis % rank], name)
    if not found:
        raise ShapeError(f"weft.vmap: nothing of {function_name(fn)}'s arguments is mapped over",
                         expected="at least one argument with an axis to map over",
                         origin=caller_origin())
    if len(found) > 1:
        sizes = ", ".join(f"{name} has {size}" for size, name in found.items())
        raise ShapeError(f"weft.vmap: the mapped axes differ in size: {sizes}",
                         expected="one size", origin=caller_origin())
    return next(iter(found))


def _element(leaf: Tracer, name: str, axis: int | None) -> Spec:
    """One element of a mapped argument, as NumPy gives it."""
    if axis is None:
        return spec_of(leaf, name)
    shape = tuple(d for a, d in enumerate(leaf.node.shape) if a != axis)
    return replace(spec_of(leaf, name, known=False), type=TensorType(shape, leaf.node.dtype),
                   kind="array" if shape else "scalar")


def _axis_first(node: Node, axis: int | None) -> Node:
    if not axis:
        return node
    rest = [a for a in range(len(node.shape)) if a != axis]
    return the_trace().builder.transpose(node, perm=(axis, *rest))


def _placed(fn: Callable[..., Any], node: Node, mapped: bool, axis: int | None, size: Dim) -> Node:
    """A result with the new axis where `out_axes` wants it."""
    b = the_trace().builder
    if axis is None:
        if mapped:
            raise ShapeError(
                f"weft.vmap: out_axes is None for a result of {function_name(fn)} that differs "
                "between elements", expected="an int", origin=caller_origin())
        return node
    if not mapped:
        node = lead(b, node, size)
    rank = len(node.shape)
    if not -rank <= axis < rank:
        raise ShapeError(
            f"weft.vmap: out_axes has {axis} for a result with {rank} dimension(s)",
            expected=f"an axis in [{-rank}, {rank})", origin=caller_origin())
    at = axis % rank
    order: Sequence[int] = [*range(1, at + 1), 0, *range(at + 1, rank)]
    return b.transpose(node, perm=tuple(order)) if at else node
