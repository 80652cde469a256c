"""Arrays with some elements changed: what NumPy writes in place, as new values.

`updated` is `x[index] = value` and its like for all of NumPy's indices, as a function from node to
node. The functions that write into an argument, `np.put` and `np.add.at` among them, bind the new
value to an array that was made inside the trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from weft.compiler.errors import UnsupportedError
from weft.compiler.ir import Node
from weft.compiler.ops.updates import COMBINE, picked_shape
from weft.compiler.types import DTYPES, Dim, Shape, Size
from weft.frontend.numpy.common import Array, as_array, axis_of, broadcast, build, key_of, lift
from weft.frontend.numpy.indexing import (
    ADVANCED,
    PLANNERS,
    Plan,
    check_bound,
    getitem,
    index_error,
    index_node,
    items_of,
    plan_of,
    sliced,
)
from weft.frontend.numpy.promote import check_range, find_loop
from weft.frontend.numpy.ufuncs import (
    METHODS,
    apply,
    assign,
    broadcast_shape,
    check_writable,
    shape_str,
)
from weft.frontend.problems import dtype_error, problem, shape_error
from weft.frontend.recording import Trace
from weft.frontend.table import implements, method
from weft.frontend.tracer import Tracer

__all__ = ["dynamic_slice", "dynamic_update_slice", "updated"]

_I64 = DTYPES["i64"]


# ---- x[index] = value, x[index] += value, …

def updated(x: Tracer, index: Any, value: Any, combine: str = "set") -> Node:
    """`x` with `value`, broadcast, combined with the elements at a NumPy index."""
    new = _converted(x, value)
    if type(index) is Tracer and index.element.kind == "bool" and index.node.shape:
        return _at_mask(x.node, index.node, new, combine)
    items = items_of(index, len(x.node.shape))
    fancy = any(i.kind in ADVANCED for i in items)
    plan = plan_of(items, x.node.shape, {**PLANNERS, "int": _plan_int} if fancy else PLANNERS)
    if not plan.arrays:
        return _write(x.node, plan, _fitted(new, tuple(plan.shape)), combine)
    inner = sliced(x.node, plan)
    indices = broadcast([n for _, n, _ in plan.arrays])
    position = 0 if plan.parted or plan.position is None else plan.position
    mode = "raise" if any(m == "raise" for _, _, m in plan.arrays) else "clip"
    axes = tuple(axis for axis, _, _ in plan.arrays)
    shape = picked_shape(inner.shape, indices[0].shape, axes, position)
    new = _fitted(new, shape, "shape mismatch: value array of shape {} could not be broadcast to "
                  "indexing result of shape {}")
    out = build().scatter(inner, *indices, new, axes=axes, position=position, mode=mode,
                          combine=combine)
    return _write(x.node, plan, out, "set")


def _converted(x: Tracer, value: Any) -> Node:
    v = lift(value)
    if v.weak and isinstance(v.value, int):
        check_range(v.value, x.element)
    return build().convert(v.node, x.element)


def _fitted(value: Node, shape: Shape, error: str =
            "could not broadcast input array from shape {} into shape {}") -> Node:
    """The value broadcast to the place that it is for; axes of size 1 in front may be too many."""
    given = value.shape
    while len(value.shape) > len(shape) and value.shape[0] == 1:
        value = build().reshape(value, value.shape[1:])
    fits = len(value.shape) <= len(shape) and all(
        d in (1, n) for d, n in zip(value.shape[::-1], shape[::-1]))
    if not fits:
        raise shape_error(error.format(shape_str(given), shape_str(shape)))
    return build().broadcast(value, shape)


def _plan_int(plan: Plan, i: int, shape: Shape) -> None:
    """Beside index arrays, an int is one more of them."""
    axis = len(plan.bounds)
    check_bound(i, axis, shape[axis])
    size = shape[axis]
    known = isinstance(size, int)
    plan.bounds.append((0, size, 1, False))
    plan.arrays.append((len(plan.shape), build().scalar(i % size if isinstance(size, int) else i,
                                                        _I64), "clip" if known else "raise"))
    plan.shape.append(size)


def _write(x: Node, plan: Plan, new: Node, combine: str) -> Node:
    """`x` with the part that the plan's slices take replaced by, or combined with, `new`."""
    b = build()
    part = tuple(_length(*bound[:3]) for bound in plan.bounds)
    new = b.reshape(new, part)
    turned = tuple(a for a, bound in enumerate(plan.bounds) if bound[3])
    if turned:
        new = b.reverse(new, axes=turned)
    axes = tuple(a for a, bound in enumerate(plan.bounds) if bound[:3] != (0, x.shape[a], 1))
    if not axes:
        return new if combine == "set" else b.add(COMBINE[combine], x, new)  # type: ignore[arg-type]
    if combine == "set" and all(plan.bounds[a][2] == 1 for a in axes):
        starts = [_number(bound[0]) for bound in plan.bounds]
        return b.dynamic_update_slice(x, new, *starts)
    shape = tuple(part[a] for a in axes)
    places = [_steps(shape, k, *plan.bounds[a][::2]) for k, a in enumerate(axes)]
    rest = [a for a in range(len(part)) if a not in axes]
    order = (*axes, *rest)
    new = b.transpose(new, perm=order) if list(order) != sorted(order) else new
    return b.scatter(x, *places, new, axes=axes, position=0, mode="clip", combine=combine)


def _length(low: Dim, high: Dim, stride: int) -> Dim:
    return high - low if stride == 1 else -(-(high - low) // stride)


def _number(d: Dim) -> Node:
    return build().scalar(d, _I64) if isinstance(d, int) else build().size(size=d)


def _steps(shape: Shape, axis: int, low: Dim, stride: int) -> Node:
    """low, low + stride, … along an axis."""
    b = build()
    at = b.iota(shape=shape, axis=axis, dtype=_I64)
    if stride != 1:
        at = b.mul(at, b.scalar(stride, _I64))
    return at if low == 0 else b.add("add", at, _number(low))


def _at_mask(x: Node, mask: Node, new: Node, combine: str) -> Node:
    """Where a traced mask is true: only values that are the same for all of its elements."""
    b, rank = build(), len(mask.shape)
    if x.shape[:rank] != mask.shape:
        raise index_error(f"boolean index did not match indexed array; shape of the array is "
                          f"{shape_str(x.shape)}, of the index {shape_str(mask.shape)}")
    rest = x.shape[rank:]
    if len(new.shape) > len(rest):
        raise shape_error(f"as many values as a traced mask has True ones, shape "
                          f"{shape_str(new.shape)}", f"one value for all, shape {shape_str(rest)}",
                          "use np.place(x, mask, values), or np.where(mask, values, x)")
    new = b.broadcast(_fitted(new, rest), x.shape)
    op = COMBINE[combine]
    changed = new if op is None else b.add(op, x, new)
    return b.select(b.broadcast(mask, x.shape, range(rank)), changed, x)


# ---- parts at computed places

def dynamic_slice(x: Tracer, starts: Sequence[Any], sizes: Sequence[Any]) -> Node:
    """The part of these sizes that begins at `starts`."""
    return build().dynamic_slice(x.node, *_starts(x, starts), sizes=tuple(sizes))


def dynamic_update_slice(x: Tracer, update: Any, starts: Sequence[Any]) -> Node:
    """`x` with `update` in the place that begins at `starts`."""
    return build().dynamic_update_slice(x.node, _converted(x, update), *_starts(x, starts))


def _starts(x: Tracer, starts: Sequence[Any]) -> list[Node]:
    """Starts as nodes; negative ones count from the end."""
    b, out = build(), []
    for start, size in zip(starts, x.node.shape):
        s = lift(start)
        if s.node.shape or not s.element.is_integer:
            raise dtype_error(f"a start is {s.dtype} of shape {shape_str(s.node.shape)}",
                              "single integers")
        if type(s.value) is int and not s.deps and isinstance(size, int):
            out.append(b.scalar(s.value + size if s.value < 0 else s.value, _I64))
            continue
        node = b.convert(s.node, _I64)
        negative = b.lt(node, b.scalar(0, _I64))
        out.append(b.select(negative, b.add("add", node, _number(size)), node))
    return out


# ---- NumPy's functions that write into an argument

def _writes(x: Any, how: str) -> None:
    check_writable(x, how, "write to a copy")


def _flat(value: Array) -> Node:
    """The elements in a row (not as a view, under which an array could not be written)."""
    node = lift(value).node
    return build().reshape(node, (node.tensor.size,))


def _values(a: Tracer, values: Array, count: Dim) -> Node:
    """`count` of the values to be written to an array, beginning anew where there are fewer."""
    return build().convert(_cycled(_flat(values), count), a.element)


@implements(np.put)
def _put(a: Any, ind: Array, v: Array, mode: str = "raise") -> None:
    _writes(a, "np.put")
    b, flat = build(), _flat(a)
    if mode == "raise" and type(ind) is not Tracer:
        where, mode = index_node(np.asarray(ind).ravel(), 0, flat.shape[0])
    else:
        where = b.convert(_flat(ind), _I64)
    new = b.scatter(flat, where, _values(a, v, where.shape[0]), axes=(0,), position=0, mode=mode,
                    combine="set")
    assign(a, as_array(b.reshape(new, a.node.shape)), True, "unsafe")


@method("put")
def _put_method(x: Tracer, indices: Array, values: Array, mode: str = "raise") -> None:
    _put(x, indices, values, mode)


def _cycled(node: Node, count: Dim) -> Node:
    b, n = build(), node.shape[0]
    if n == count:
        return node
    if n == 1:
        return b.broadcast(node, (count,))
    if n == 0:
        raise shape_error("no values to write")
    at = b.remainder(b.iota(shape=(count,), axis=0, dtype=_I64), _number(n))
    return b.gather(node, at, axes=(0,), position=0, mode="clip")


@implements(np.putmask)
def _putmask(a: Any, mask: Array, values: Array) -> None:
    _writes(a, "np.putmask")
    b, m = build(), _flat(mask)
    if m.tensor.size != a.node.tensor.size:
        raise shape_error("putmask: mask and data must be the same size")
    if lift(values).node.tensor.size == 0:
        return
    new = b.reshape(_values(a, values, m.shape[0]), a.node.shape)
    chosen = b.reshape(b.convert(m, "bool"), a.node.shape)
    assign(a, as_array(new), as_array(chosen), "unsafe")


@implements(np.place)
def _place(arr: Any, mask: Array, vals: Array) -> None:
    """The first value goes where the mask is first true, and so on, beginning anew at the end."""
    _writes(arr, "np.place")
    b, values = build(), _flat(vals)
    m = b.convert(_flat(mask), "bool")
    if m.tensor.size != arr.node.tensor.size:
        raise shape_error("place: mask and data must be the same size")
    if values.tensor.size == 0:
        raise shape_error("Cannot insert from an empty array!")
    before = b.sub(b.cumsum(b.convert(m, _I64), axis=0), b.scalar(1, _I64))
    at = b.remainder(before, _number(values.shape[0]))
    new = b.gather(values, at, axes=(0,), position=0, mode="clip")
    assign(arr, as_array(b.reshape(b.convert(new, arr.element), arr.node.shape)),
           as_array(b.reshape(m, arr.node.shape)), "unsafe")


@implements(np.put_along_axis)
def _put_along_axis(arr: Any, indices: Array, values: Array, axis: Any) -> None:
    _writes(arr, "np.put_along_axis")
    i = lift(indices)
    x = _flat(arr) if axis is None else arr.node
    if not i.element.is_integer:
        raise index_error("`indices` must be an integer array")
    if len(i.node.shape) != len(x.shape):
        raise shape_error("when axis=None, `indices` must have a single dimension." if axis is None
                          else "`indices` and `arr` must have the same number of dimensions")
    out = _scattered_along(x, i.node, _converted(arr, values), axis_of(axis or 0, len(x.shape)))
    assign(arr, as_array(build().reshape(out, arr.node.shape)), True, "unsafe")


def _scattered_along(x: Node, indices: Node, values: Node, axis: int) -> Node:
    """Values put at indices along one axis, the other axes matched (or broadcast)."""
    b, rank = build(), len(x.shape)
    rest = [n.shape[:axis] + (1,) + n.shape[axis + 1:] for n in (x, indices)]
    shape = list(broadcast_shape(rest))
    for a, d in enumerate(x.shape):
        if a != axis and d != shape[a]:
            raise index_error("shape mismatch: indexing arrays could not be broadcast together "
                              f"with shapes {shape_str(x.shape)} {shape_str(indices.shape)}")
    shape[axis] = indices.shape[axis]
    picks = [b.broadcast(b.convert(indices, _I64), tuple(shape)) if a == axis
             else b.iota(shape=tuple(shape), axis=a, dtype=_I64) for a in range(rank)]
    return b.scatter(x, *picks, _fitted(values, tuple(shape)), axes=tuple(range(rank)), position=0,
                     mode="raise", combine="set")


@implements(np.fill_diagonal)
def _fill_diagonal(a: Any, val: Array, wrap: bool = False) -> None:
    _writes(a, "np.fill_diagonal")
    shape = a.node.shape
    if len(shape) < 2:
        raise shape_error("array must be at least 2-d")
    if any(isinstance(d, Size) for d in shape):
        raise problem(UnsupportedError, "np.fill_diagonal of an array of symbolic size")
    if len(shape) > 2 and len(set(shape)) > 1:
        raise shape_error("All dimensions of input must be of equal length")
    step = shape[1] + 1 if len(shape) == 2 else 1 + int(np.cumprod(shape[:-1]).sum())
    end = None if wrap or len(shape) > 2 else shape[1] * shape[1]
    where = np.arange(int(np.prod(shape)))[:end:step]
    _put(a, where, val)


# ---- ufunc.at

_AT = {"add": "add", "multiply": "mul", "maximum": "max", "minimum": "min"}


def _ufunc_at(trace: Trace, ufunc: Any, a: Any, indices: Any, b: Any = None) -> None:
    name = ufunc.__name__
    _writes(a, f"np.{name}.at")
    operands: tuple[Tracer, ...] = () if ufunc.nin == 1 else (lift(b),)
    _check_loop(ufunc, a, operands)
    if name == "subtract":
        name, operands = "add", (apply(trace, np.negative, (as_array(_converted(a, b)),)),)
    if name in _AT and ufunc.nin == 2:
        node = updated(a, indices, operands[0], _AT[name])
    elif not any(i.kind in ADVANCED for i in items_of(indices, len(a.node.shape))):
        # places that are met once each: read, compute, write
        node = updated(a, indices, apply(trace, ufunc, (getitem(a, indices), *operands)))
    else:
        raise problem(UnsupportedError, f"np.{name}.at with index arrays is not traced",
                      expected=", ".join(f"np.{n}.at" for n in (*_AT, "subtract")),
                      repair="where no place is met twice, x[i] = f(x[i]) says the same")
    assign(a, as_array(node))


def _check_loop(ufunc: Any, a: Tracer, operands: Sequence[Tracer]) -> None:
    """The element type in which NumPy computes must be the array's: it converts at every step."""
    out = find_loop(ufunc, (key_of(a), *map(key_of, operands)))[1][-1]
    exact = out.is_integer and a.element.is_integer and ufunc.__name__ in (
        "add", "subtract", "multiply")
    if out is a.element or exact:
        return
    raise problem(UnsupportedError, f"np.{ufunc.__name__}.at of {a.element.numpy} values computes "
                  f"in {out.numpy} and is not traced",
                  repair=f"convert the operand: values.astype({str(a.element.numpy)!r})")


METHODS["at"] = _ufunc_at
