"""Reading by index: `x[...]` with ints, slices, newaxis, Ellipsis, and arrays of indices.

The basic part becomes slice, reverse and reshape; the index arrays that are left, one gather. The
new axes stand where NumPy puts them: in place of the index arrays if those are side by side (ints
among them count), in front otherwise.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from weft.compiler.errors import DataDependentError, IndexOutOfBoundsError, UnsupportedError
from weft.compiler.ir import Node
from weft.compiler.lazy_dataclass import dataclass
from weft.compiler.types import DTYPES, Dim, Shape, Size
from weft.frontend.numpy.common import (
    as_array,
    as_dim,
    broadcast,
    build,
    lift,
    result,
    view,
)
from weft.frontend.problems import problem
from weft.frontend.table import HOOKS
from weft.frontend.tracer import Tracer

__all__ = ["ADVANCED", "PLANNERS", "Item", "Plan", "check_bound", "getitem", "index_error",
           "index_node", "is_mask", "items_of", "plan_of", "refuse_mask", "sliced", "take_axis"]

_VALID = ("only integers, slices (`:`), ellipsis (`...`), numpy.newaxis (`None`) and integer or "
          "boolean arrays are valid indices")
_I64 = DTYPES["i64"]


@dataclass
class Item:
    """One element of an index: `kind` int, slice, new, ellipsis, array, or flag (a bool)."""

    kind: str
    value: Any = None


def index_error(what: str, repair: str | None = None) -> IndexOutOfBoundsError:
    """An `IndexError` at the user's line."""
    return problem(IndexOutOfBoundsError, what, repair=repair)


def is_mask(value: Tracer) -> bool:
    """Whether this is a traced boolean array."""
    return value.node.dtype.kind == "bool"


def refuse_mask(what: str) -> Exception:
    """The error for reading through a mask that is not known while tracing."""
    return problem(
        DataDependentError, f"{what} picks as many elements as the mask has True ones, which is "
        "not known while tracing", expected="results whose shapes follow from shapes alone",
        repair="use np.where(mask, x, 0), or give sums and means where=mask")


# ---- reading an index

def _items(index: Any) -> list[Item]:
    parts = index if type(index) is tuple else (index,)
    out: list[Item] = []
    for part in parts:
        out.extend(_item(part))
    return out


def _item(part: Any) -> list[Item]:
    if part is None:
        return [Item("new")]
    if part is Ellipsis:
        return [Item("ellipsis")]
    if isinstance(part, slice):
        return [Item("slice", part)]
    if type(part) is Tracer:
        return [_traced_item(part)]
    if isinstance(part, (bool, np.bool_)):
        return [Item("flag", bool(part))]
    if isinstance(part, (list, tuple)) and not isinstance(part, np.ndarray):
        return _concrete_item(part) if not HOOKS.holds_tracer(part) else [
            _traced_item(lift(part))]
    if isinstance(part, np.ndarray):
        return _concrete_item(part)
    try:
        return [Item("int", operator.index(part))]
    except TypeError:
        raise index_error(_VALID) from None


def _traced_item(part: Tracer) -> Item:
    if isinstance(part.value, Size):
        raise index_error(f"the symbolic size {part.value} cannot be an index")
    if is_mask(part):
        if part.weak:
            return Item("flag", bool(part))
        raise refuse_mask("x[mask]")
    if not part.node.dtype.is_integer:
        raise index_error(_VALID if not part.node.shape else
                          "arrays used as indices must be of integer (or boolean) type")
    return Item("array", part.node)


def _concrete_item(part: Any) -> list[Item]:
    array = np.asarray(part)
    if isinstance(part, (list, tuple)) and array.size == 0:
        array = array.astype(np.intp)
    if array.dtype.kind == "b":
        if array.ndim == 0:
            return [Item("flag", bool(array))]
        return [Item("mask", (array, i)) for i in range(array.ndim)]
    if array.dtype.kind not in "iu":
        raise index_error("arrays used as indices must be of integer (or boolean) type")
    if array.ndim == 0:
        return [Item("int", int(array))]
    if not isinstance(part, np.ndarray):
        array.flags.writeable = False              # nobody else has it: a constant
    return [Item("array", array)]


_CONSUMES = frozenset(("int", "slice", "array", "mask"))


def _expand(items: list[Item], rank: int) -> list[Item]:
    """The items with the ellipsis (written or not) replaced by full slices."""
    used = sum(i.kind in _CONSUMES for i in items)
    dots = [k for k, i in enumerate(items) if i.kind == "ellipsis"]
    if len(dots) > 1:
        raise index_error("an index can only have a single ellipsis ('...')")
    if used > rank:
        raise index_error(f"too many indices for array: array is {rank}-dimensional, but {used} "
                          "were indexed")
    fill = [Item("slice", slice(None))] * (rank - used)
    if not dots:
        return items + fill
    return items[:dots[0]] + (fill or [Item("gap")]) + items[dots[0] + 1:]


# ---- bounds

def check_bound(i: int, axis: int, size: Dim) -> None:
    """Refuse an int outside an axis of known size."""
    if isinstance(size, int) and not -size <= i < size:
        raise index_error(f"index {i} is out of bounds for axis {axis} with size {size}")


def _slice_bounds(s: slice, size: Dim, axis: int) -> tuple[Dim, Dim, int, bool]:
    """start, limit, stride and whether to turn the axis round."""
    if isinstance(size, Size) or isinstance(_dim_or_none(s.start), Size) \
            or isinstance(_dim_or_none(s.stop), Size):
        return _symbolic_bounds(s, size, axis)
    start, stop, step = s.indices(size)
    n = len(range(start, stop, step))
    if n == 0:
        return 0, 0, 1, False
    last = start + (n - 1) * step
    low, high = min(start, last), max(start, last)
    return low, high + 1, abs(step) if n > 1 else 1, step < 0


def _dim_or_none(value: Any) -> Any:
    return value.value if type(value) is Tracer and isinstance(value.value, Size) else value


def _symbolic_bounds(s: slice, size: Dim, axis: int) -> tuple[Dim, Dim, int, bool]:
    step = 1 if s.step is None else operator.index(s.step)
    if step in (1, -1) and s.start is None and s.stop is None:
        return 0, size, 1, step < 0
    low = _symbolic_end(s.start, size, 0)
    high = _symbolic_end(s.stop, size, size)
    if step != 1 or low is None or high is None:
        raise problem(
            UnsupportedError, f"a slice {_slice_text(s)} of axis {axis}, whose size {size} is "
            "symbolic, has a length that is no polynomial in it",
            expected="slices such as x[1:], x[:-1], x[:, ::-1]",
            repair="compile for fixed sizes, or reshape first")
    return low, high, 1, False


def _slice_text(s: slice) -> str:
    ends = ["" if e is None else str(_dim_or_none(e)) for e in (s.start, s.stop)]
    return ":".join(ends) + ("" if s.step is None else f":{s.step}")


def _symbolic_end(end: Any, size: Dim, default: Dim) -> Dim | None:
    if end is None:
        return default
    end = as_dim(end)
    if isinstance(end, int):
        if end < 0:
            return size + end
        return end if default == 0 else None
    rest = size - end
    return end if isinstance(rest, int) and rest >= 0 else None


# ---- the work

@dataclass
class Plan:
    """What to do: the slice of each source axis, the shape after it, the gather after that."""

    bounds: list[tuple[Dim, Dim, int, bool]]
    shape: list[Dim]
    arrays: list[tuple[int, Node, str]]        # axis after the reshape, indices, mode
    kept: int = 0                              # axes so far that no index array takes
    position: int | None = None                # where the axes of the index arrays go
    parted: bool = False                       # whether something stands between index arrays


Planner: TypeAlias = Callable[[Plan, Any, Shape], None]


def getitem(x: Tracer, index: Any) -> Tracer:
    """`x[index]`: a view (in NumPy) for basic indices, a new array for index arrays."""
    items = items_of(index, len(x.node.shape))
    plan = plan_of(items, x.node.shape)
    node = sliced(x.node, plan)
    if not plan.arrays and x.kind != "array":
        return result(node) if index == () else as_array(node)
    if not plan.arrays:
        if node.shape == () and all(i.kind == "int" for i in items):
            return result(node)
        return view(x, node)
    node = _gathered(node, plan)
    dots = index is Ellipsis or (type(index) is tuple and any(i is Ellipsis for i in index))
    return as_array(node) if dots else result(node)


ADVANCED = frozenset(("array", "mask", "flag"))
"""The kinds of items with which NumPy's index is an advanced one."""


def items_of(index: Any, rank: int) -> list[Item]:
    """The elements of an index into an array of this rank, its ellipsis written out."""
    return _expand(_items(index), rank)


def plan_of(items: Sequence[Item], shape: Shape,
            planners: Mapping[str, Planner] | None = None) -> Plan:
    """What to do for these elements of an index into an array of this shape."""
    plan = Plan([], [], [])
    fancy = any(i.kind in ADVANCED for i in items)
    waiting = False                            # an index array was seen, then something else
    for item in items:
        takes_part = item.kind in ADVANCED or (fancy and item.kind == "int")
        if takes_part:
            plan.parted = plan.parted or waiting
            if plan.position is None:
                plan.position = plan.kept
        else:
            waiting = waiting or plan.position is not None
        (planners or PLANNERS)[item.kind](plan, item.value, shape)
    return plan


def _plan_int(plan: Plan, i: int, shape: Shape) -> None:
    axis = len(plan.bounds)
    size = shape[axis]
    check_bound(i, axis, size)
    if isinstance(size, int):
        i = i % size
        plan.bounds.append((i, i + 1, 1, False))
        return
    plan.bounds.append((0, size, 1, False))    # only the call knows whether it is in bounds
    plan.arrays.append((len(plan.shape), build().scalar(i, "i64"), "raise"))
    plan.shape.append(size)


def _plan_slice(plan: Plan, s: slice, shape: Shape) -> None:
    axis = len(plan.bounds)
    if s == slice(None):
        bounds: tuple[Dim, Dim, int, bool] = (0, shape[axis], 1, False)
    else:
        bounds = _slice_bounds(s, shape[axis], axis)
    low, high, stride, _ = bounds
    plan.bounds.append(bounds)
    plan.shape.append(high - low if stride == 1 else -(-(high - low) // stride))
    plan.kept += 1


def _plan_new(plan: Plan, _: Any, shape: Shape) -> None:
    plan.shape.append(1)
    plan.kept += 1


def _plan_array(plan: Plan, indices: Any, shape: Shape) -> None:
    axis = len(plan.bounds)
    size = shape[axis]
    plan.bounds.append((0, size, 1, False))
    node, mode = index_node(indices, axis, size)
    plan.arrays.append((len(plan.shape), node, mode))
    plan.shape.append(size)


def _plan_mask(plan: Plan, value: tuple[Any, int], shape: Shape) -> None:
    mask, k = value
    axis = len(plan.bounds)
    if mask.shape[k] != shape[axis]:
        raise index_error("boolean index did not match indexed array along axis "
                          f"{axis}; size of axis is {shape[axis]} but size of corresponding "
                          f"boolean axis is {mask.shape[k]}")
    _plan_array(plan, mask.nonzero()[k].tolist(), shape)


def _plan_flag(plan: Plan, flag: bool, shape: Shape) -> None:
    indices = build().constant(np.zeros(int(flag), np.int64))
    plan.arrays.append((len(plan.shape), indices, "clip"))
    plan.shape.append(1)


PLANNERS: dict[str, Planner] = {
    "int": _plan_int, "slice": _plan_slice, "new": _plan_new, "array": _plan_array,
    "mask": _plan_mask, "flag": _plan_flag, "gap": lambda plan, value, shape: None}


def index_node(indices: Any, axis: int, size: Dim) -> tuple[Node, str]:
    """Indices into an axis as an i64 node, and the gather mode that keeps NumPy's errors."""
    b = build()
    if isinstance(indices, Node):
        return b.convert(indices, _I64), "raise"
    lifted = lift(indices) if isinstance(indices, np.ndarray) else None
    if lifted is not None and lifted.node.op is None:    # a capture: its values may change
        return b.convert(lifted.node, _I64), "raise"
    array = np.asarray(indices, np.int64)
    if not isinstance(size, int):
        return b.constant(array), "raise"
    wrong = array[(array < -size) | (array >= size)]
    if wrong.size:
        raise index_error(f"index {wrong.flat[0]} is out of bounds for axis {axis} with size "
                          f"{size}")
    return b.constant(np.where(array < 0, array + size, array)), "clip"


def sliced(node: Node, plan: Plan) -> Node:
    """The part of an array that the plan's slices leave, in the shape after them."""
    b, shape = build(), node.shape
    if any(bound[:3] != (0, d, 1) for bound, d in zip(plan.bounds, shape)):
        starts, limits, strides, _ = zip(*plan.bounds)
        node = b.slice(node, start=starts, limit=limits, stride=strides)
    turned = tuple(a for a, bound in enumerate(plan.bounds) if bound[3])
    if turned:
        node = b.reverse(node, axes=turned)
    return b.reshape(node, tuple(plan.shape))


def _gathered(node: Node, plan: Plan) -> Node:
    axes = tuple(axis for axis, _, _ in plan.arrays)
    indices = broadcast([n for _, n, _ in plan.arrays])
    mode = "raise" if any(m == "raise" for _, _, m in plan.arrays) else "clip"
    position = 0 if plan.parted or plan.position is None else plan.position
    return build().gather(node, *indices, axes=axes, position=position, mode=mode)


def take_axis(x: Node, indices: Node, axis: int, mode: str = "raise") -> Node:
    """`x` indexed along one axis by an array of any shape, which takes the axis's place."""
    return build().gather(x, indices, axes=(axis,), position=axis, mode=mode)


HOOKS.getitem = getitem
