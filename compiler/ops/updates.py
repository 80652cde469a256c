"""Reading and writing at computed places: gather, scatter, dynamic_slice, dynamic_update_slice."""

from __future__ import annotations

from typing import Any

import numpy as np

from weft.compiler.errors import DTypeError, ShapeError, UnsupportedError
from weft.compiler.ops.elementwise import check_kind
from weft.compiler.ops.registry import Attrs, Op, get_op, register
from weft.compiler.ops.update_rules import BATCHES, JVPS, TRANSPOSES
from weft.compiler.ops.views import check_axes
from weft.compiler.types import DTYPES, Shape, TensorType, shape_text

__all__ = ["COMBINE", "MODES", "picked_shape"]

Types = tuple[TensorType, ...]
_A = np.sin(np.arange(1.0, 61.0)).reshape(4, 3, 5)    # (numpy.random is slow to import)

MODES = ("raise", "clip", "wrap", "drop")
"""What becomes of indices out of bounds. In `raise` and `drop`, negative ones count from the end;
others then raise, or read as 0 and are not written. `clip` takes the nearest element, `wrap` goes
round."""

COMBINE = {"set": None, "add": "add", "mul": "mul", "min": "minimum", "max": "maximum"}
"""The elementwise op that joins an update to what stands in its place; None: it replaces it."""


# ---- gather and scatter

def _check_indices(name: str, x: TensorType, indices: Types, attrs: Attrs) -> None:
    axes, mode = tuple(attrs["axes"]), attrs["mode"]
    check_axes(name, axes, x.rank)
    if len(indices) != len(axes) or not indices:
        raise ShapeError(f"{name} got {len(indices)} index arrays for {len(axes)} axes")
    shape = indices[0].shape
    for t in indices:
        if t.dtype is not DTYPES["i64"] or t.shape != shape:
            raise DTypeError(f"{name} got an index {t}",
                             expected=f"i64 indices of shape {shape_text(shape)}")
    if not 0 <= attrs["position"] <= x.rank - len(axes):
        raise ShapeError(f"{name} got position {attrs['position']}",
                         expected=f"in [0, {x.rank - len(axes)}]")
    if mode not in MODES:
        raise UnsupportedError(f"{name} got mode {mode!r}", expected=", ".join(MODES))


def picked_shape(x: Shape, indices: Shape, axes: tuple[int, ...], position: int) -> Shape:
    """The shape of what indices pick: theirs, at `position` of the axes that are left."""
    rest = [d for a, d in enumerate(x) if a not in axes]
    return (*rest[:position], *indices, *rest[position:])


def _gather(types: Types, attrs: Attrs) -> TensorType:
    x, *indices = types
    _check_indices("gather", x, tuple(indices), attrs)
    return TensorType(picked_shape(x.shape, indices[0].shape, tuple(attrs["axes"]),
                                   attrs["position"]), x.dtype)


def _scatter(types: Types, attrs: Attrs) -> TensorType:
    x, *indices, updates = types
    _check_indices("scatter", x, tuple(indices), attrs)
    want = picked_shape(x.shape, indices[0].shape, tuple(attrs["axes"]), attrs["position"])
    if updates.shape != want:
        raise ShapeError(f"scatter into {x} got updates of shape {shape_text(updates.shape)}",
                         expected=shape_text(want))
    if updates.dtype is not x.dtype:
        raise DTypeError(f"scatter into {x} got updates of type {updates.dtype}",
                         expected=str(x.dtype))
    if attrs["combine"] not in COMBINE:
        raise UnsupportedError(f"scatter got combine={attrs['combine']!r}",
                               expected=", ".join(COMBINE))
    check_kind("scatter", x.dtype, "bifc")
    return x


def _flat_indices(xp: Any, sizes: list[int], indices: tuple[Any, ...], mode: str
                  ) -> tuple[tuple[Any, ...], Any]:
    """1-d indices that are in bounds, unless the mode is `raise`, and which of them count."""
    flat = [i.reshape(-1) for i in indices]
    valid = xp.ones(flat[0].shape, bool)
    if mode == "clip":
        flat = [xp.clip(i, 0, d - 1) for i, d in zip(flat, sizes)]
    elif mode == "wrap":
        flat = [xp.remainder(i, d) for i, d in zip(flat, sizes)]
    elif mode == "drop":
        for i, d in zip(flat, sizes):
            valid &= (i >= -d) & (i < d)
        flat = [xp.where(valid, i, 0) for i in flat]
    return tuple(flat), valid


def _gather_ref(xp: Any, x: Any, *indices: Any, axes: tuple[int, ...], position: int,
                mode: str) -> Any:
    order = [*axes, *(a for a in range(x.ndim) if a not in axes)]
    flat, valid = _flat_indices(xp, [x.shape[a] for a in axes], indices, mode)
    source, k = x.transpose(order), indices[0].ndim
    if valid.all():
        picked = source[flat]
    else:
        picked = xp.zeros((valid.size, *source.shape[len(axes):]), x.dtype)
        picked[valid] = source[tuple(i[valid] for i in flat)]
    picked = picked.reshape((*indices[0].shape, *source.shape[len(axes):]))
    rest = list(range(k, picked.ndim))
    return xp.asarray(picked.transpose(rest[:position] + list(range(k)) + rest[position:])).copy()


def _scatter_ref(xp: Any, x: Any, *operands: Any, axes: tuple[int, ...], position: int, mode: str,
                 combine: str) -> Any:
    *indices, updates = operands
    out, k = xp.array(x), indices[0].ndim
    rest = [a for a in range(updates.ndim) if not position <= a < position + k]
    values = updates.transpose((*range(position, position + k), *rest))
    target = out.transpose((*axes, *(a for a in range(x.ndim) if a not in axes)))
    flat, valid = _flat_indices(xp, [x.shape[a] for a in axes], tuple(indices), mode)
    values = values.reshape((valid.size, *target.shape[len(axes):]))[valid]
    where = tuple(i[valid] for i in flat)
    op = COMBINE[combine]
    if op is None:
        target[where] = values
    else:
        with np.errstate(all="ignore"):
            getattr(xp, {"mul": "multiply"}.get(op, op)).at(target, where, values)
    return out


_GATHERS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((_A, np.array([0, -1, 2])), {"axes": (0,), "position": 0, "mode": "raise"}),
    ((_A, np.array([[0, 4], [2, -5]])), {"axes": (2,), "position": 1, "mode": "raise"}),
    ((_A, np.array([1, 0]), np.array([-2, 4])), {"axes": (1, 2), "position": 1, "mode": "raise"}),
    ((_A, np.array([9, -9])), {"axes": (1,), "position": 1, "mode": "clip"}),
    ((_A, np.array([9, -9])), {"axes": (1,), "position": 1, "mode": "wrap"}),
    ((_A, np.array([3, 1, -3, -1, -4])), {"axes": (1,), "position": 2, "mode": "drop"}),
    ((_A, np.array([3, 1, -3]), np.array([0, 9, 2])), {"axes": (1, 0), "position": 0,
                                                       "mode": "drop"}),
    ((_A, np.array(2)), {"axes": (0,), "position": 0, "mode": "raise"}),
    ((_A, np.zeros((2, 0), np.int64)), {"axes": (1,), "position": 1, "mode": "raise"})]


def _updates(arrays: tuple[Any, ...], attrs: dict[str, Any]) -> Any:
    x, *indices = arrays
    shape = picked_shape(x.shape, indices[0].shape, attrs["axes"], attrs["position"])
    return np.cos(np.indices(shape).sum(axis=0) * 7.0 + 1)  # type: ignore[arg-type]


def _scatter_samples() -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    out: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    twice = np.array([2, 0, 2, -1, 2, -2])          # places 2 and 3 are met several times
    cases = [*_GATHERS, ((_A, twice), {"axes": (0,), "position": 0, "mode": "raise"}),
             ((_A, twice % 3), {"axes": (1,), "position": 2, "mode": "raise"}),
             ((_A[0, 0], twice), {"axes": (0,), "position": 0, "mode": "clip"})]
    for k, (arrays, attrs) in enumerate(cases):
        for combine in COMBINE if k >= len(_GATHERS) else ("add", "set"):
            out.append(((*arrays, _updates(arrays, attrs)), {**attrs, "combine": combine}))
    return out


_WRONG = {"axes": (0,), "position": 0, "mode": "raise", "combine": "add"}
_X, _I = TensorType((4, 3), DTYPES["f32"]), TensorType((2,), DTYPES["i64"])

register(Op("gather", "indexing", None, "the operand indexed along `axes` by index arrays; their "
            "shape stands at `position` of the result, before the axes left. Modes: `raise` "
            "(negative indices count from the end, others out of bounds raise), `clip`, `wrap`, "
            "`drop` (out of bounds reads 0)",
            _gather, _gather_ref, attrs=("axes", "position", "mode"), cost=2,
            linear="jointly", transpose=TRANSPOSES["gather"], batch=BATCHES["gather"],
            samples=lambda: _GATHERS))
register(Op("scatter", "indexing", None, "the first operand with updates, the last one, combined "
            "with its elements where a gather with these indices reads; in order, so that of "
            "several with one place the last is `set`. `combine`: set, add, mul, min, max",
            _scatter, _scatter_ref, attrs=("axes", "position", "mode", "combine"), cost=2,
            samples=_scatter_samples, jvp=JVPS["scatter"], transpose=TRANSPOSES["scatter"],
            batch=BATCHES["scatter"],
            errors=(((_X, _I, TensorType((3, 2), DTYPES["f32"])), _WRONG,
                     "scatter into f32[4, 3] got updates of shape [3, 2]"),
                    ((_X, _I, TensorType((2, 3), DTYPES["f64"])), _WRONG,
                     "scatter into f32[4, 3] got updates of type f64"),
                    ((_X, _I, TensorType((2, 3), DTYPES["f32"])), {**_WRONG, "combine": "sub"},
                     "scatter got combine='sub'"))))


# ---- slices at computed places

def _check_starts(name: str, x: TensorType, starts: Types) -> None:
    if len(starts) != x.rank:
        raise ShapeError(f"{name} of {x} got {len(starts)} starts", expected="one for every axis")
    for t in starts:
        if t.dtype is not DTYPES["i64"] or t.shape != ():
            raise DTypeError(f"{name} got a start {t}", expected="i64[]")


def _check_part(name: str, x: TensorType, sizes: Shape) -> None:
    fits = len(sizes) == x.rank and all(
        not (isinstance(n, int) and isinstance(d, int)) or 0 <= n <= d
        for n, d in zip(sizes, x.shape))
    if not fits:
        raise ShapeError(f"{name} of {x} got a part of shape {shape_text(sizes)}",
                         expected="for every axis, a size from 0 to the array's")


def _dynamic_slice(types: Types, attrs: Attrs) -> TensorType:
    x, *starts = types
    _check_starts("dynamic_slice", x, tuple(starts))
    _check_part("dynamic_slice", x, tuple(attrs["sizes"]))
    return TensorType(tuple(attrs["sizes"]), x.dtype)


def _dynamic_update_slice(types: Types, attrs: Attrs) -> TensorType:
    x, update, *starts = types
    _check_starts("dynamic_update_slice", x, tuple(starts))
    _check_part("dynamic_update_slice", x, update.shape)
    if update.dtype is not x.dtype:
        raise DTypeError(f"dynamic_update_slice of {x} got an update of type {update.dtype}",
                         expected=str(x.dtype))
    return x


def _window(x: Any, starts: tuple[Any, ...], sizes: tuple[int, ...]) -> tuple[slice, ...]:
    begins = [min(max(int(s), 0), d - n) for s, d, n in zip(starts, x.shape, sizes)]
    return tuple(slice(s, s + n) for s, n in zip(begins, sizes))


def _dynamic_slice_ref(xp: Any, x: Any, *starts: Any, sizes: tuple[int, ...]) -> Any:
    return xp.asarray(x[_window(x, starts, sizes)]).copy()


def _dynamic_update_slice_ref(xp: Any, x: Any, update: Any, *starts: Any) -> Any:
    out = xp.array(x)
    out[_window(x, starts, update.shape)] = update
    return out


def _at(*starts: int) -> tuple[Any, ...]:
    return tuple(np.array(s, np.int64) for s in starts)


_START = TensorType((), DTYPES["i64"])
_STARTS = ((1, 0, 2), (-5, 9, 9), (3, 2, 4), (0, 0, 0))

register(Op("dynamic_slice", "indexing", None, "the part of shape `sizes` that begins at starts, "
            "0-d operands; these are moved so that the part lies inside",
            _dynamic_slice, _dynamic_slice_ref, attrs=("sizes",), cost=0, linear="jointly",
            transpose=TRANSPOSES["dynamic_slice"], batch=BATCHES["dynamic_slice"],
            samples=lambda: [((_A, *_at(*s)), {"sizes": n}) for s in _STARTS
                             for n in ((2, 1, 3), (4, 3, 5), (0, 2, 5))],
            errors=(((_X, _START), {"sizes": (1, 1)}, "dynamic_slice of f32[4, 3] got 1 starts"),
                    ((_X, _START, _START), {"sizes": (1, 4)},
                     "dynamic_slice of f32[4, 3] got a part of shape [1, 4]"))))
register(Op("dynamic_update_slice", "indexing", None, "the first operand with the second in the "
            "place that begins at starts, 0-d operands; these are moved so that it lies inside",
            _dynamic_update_slice, _dynamic_update_slice_ref, cost=1, linear="jointly",
            transpose=TRANSPOSES["dynamic_update_slice"], batch=BATCHES["dynamic_update_slice"],
            samples=lambda: [((_A, -_A[:n, :m], *_at(*s)), {}) for s in _STARTS
                             for n, m in ((2, 1), (4, 3), (0, 2))]
            + [((np.array(1.0), np.array(2.0)), {})],
            errors=(((_X, _X, _START), {}, "dynamic_update_slice of f32[4, 3] got 1 starts"),)))

assert all(op is None or get_op(op) for op in COMBINE.values())
