"""Reading and writing at computed places, sorting, searching."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from jax import lax

from weft.compiler.types import dtype_of
from weft.devices.xla.elementwise import is_nan, less, maximum, minimum
from weft.devices.xla.program import Site
from weft.devices.xla.tools import Lowering, both, invert, kind, like, negative, pick, to
from weft.devices.xla.views import first_failure

__all__ = ["INDEXING"]


# ---- indices

def _settled(site: Site, x: Any, indices: tuple[Any, ...]) -> tuple[Any, Any]:
    """Indices as a table, one row for each place, of which those out of bounds are outside the
    array; and which places count."""
    axes, mode = site.attrs["axes"], site.attrs["mode"]
    rows, valid = [], None
    for axis, i in zip(axes, indices):
        size = x.shape[axis]
        inside = both(lax.ge(i, like(i, -size)), lax.lt(i, like(i, size)))
        if mode == "raise":
            site.check(*first_failure(invert(inside), i), "index", axis, size)
        if mode in ("raise", "drop"):
            at = pick(negative(i), lax.add(i, like(i, size)), i)
            valid = inside if valid is None else both(valid, inside)
        elif mode == "clip":
            at = lax.clamp(like(i, 0), i, like(i, max(size - 1, 0)))
        else:
            rest = lax.rem(i, like(i, max(size, 1)))
            at = pick(negative(rest), lax.add(rest, like(rest, size)), rest)
        rows.append(at)
    table = [lax.clamp(like(at, -1), at, like(at, x.shape[a])) for a, at in zip(axes, rows)]
    columns = [lax.expand_dims(to(at, "i32"), (at.ndim,)) for at in table]
    return lax.concatenate(columns, columns[0].ndim - 1), valid


def _window_axes(site: Site, x: Any, k: int) -> tuple[int, ...]:
    """The axes of the result that are the operand's own, where indices have `k` axes."""
    left = x.ndim - len(site.attrs["axes"])
    position = site.attrs["position"]
    return tuple(a if a < position else a + k for a in range(left))


def _gather(site: Site, x: Any, *indices: Any) -> Any:
    axes = site.attrs["axes"]
    table, valid = _settled(site, x, indices)
    if 0 in site.shape or 0 in x.shape:
        return lax.full(site.shape, 0, x.dtype)
    offset = _window_axes(site, x, indices[0].ndim)
    numbers = lax.GatherDimensionNumbers(
        offset_dims=offset, collapsed_slice_dims=tuple(sorted(axes)), start_index_map=axes)
    sizes = [1 if a in axes else d for a, d in enumerate(x.shape)]
    out = lax.gather(x, table, numbers, sizes, mode=lax.GatherScatterMode.CLIP)
    if site.attrs["mode"] != "drop":
        return out
    dims = tuple(a for a in range(out.ndim) if a not in offset)
    return pick(lax.broadcast_in_dim(valid, out.shape, dims), out, 0)


def _scatter(site: Site, x: Any, *operands: Any) -> Any:
    *indices, updates = operands
    axes, combine = site.attrs["axes"], site.attrs["combine"]
    table, _ = _settled(site, x, tuple(indices))
    if not updates.size or 0 in x.shape:
        return x
    numbers = lax.ScatterDimensionNumbers(
        update_window_dims=_window_axes(site, x, indices[0].ndim),
        inserted_window_dims=tuple(sorted(axes)), scatter_dims_to_operand_dims=axes)
    if combine == "set":
        if site.walk.platform != "cpu":     # which is the last of several is not told elsewhere
            table = _last_only(x, axes, table)
        fn: Any = lax.scatter
    elif kind(x) == "bool":
        fn = {"add": lax.scatter_max, "mul": lax.scatter_min, "min": lax.scatter_min,
              "max": lax.scatter_max}[combine]
        return to(fn(to(x, "u8"), table, to(updates, "u8"), numbers,
                     mode=lax.GatherScatterMode.FILL_OR_DROP), "bool")
    elif kind(x) == "complex" and combine in ("min", "max"):
        return _one_by_one(x, axes, table, updates, numbers, combine)
    else:
        fn = {"add": lax.scatter_add, "mul": lax.scatter_mul, "min": lax.scatter_min,
              "max": lax.scatter_max}[combine]
    return fn(x, table, updates, numbers, mode=lax.GatherScatterMode.FILL_OR_DROP)


def _last_only(x: Any, axes: tuple[int, ...], table: Any) -> Any:
    """Places of which each is met once: all but the last of several are moved out of bounds."""
    count = prod(table.shape[:-1])
    flat = lax.reshape(table, (count, len(axes)))
    number = lax.iota(np.int32, count)
    numbers = lax.ScatterDimensionNumbers((), tuple(range(len(axes))), tuple(range(len(axes))))
    space = lax.full([x.shape[a] for a in axes], -1, np.int32)
    last = lax.scatter_max(space, flat, number, numbers,
                           mode=lax.GatherScatterMode.FILL_OR_DROP)
    reads = lax.GatherDimensionNumbers((), tuple(range(len(axes))), tuple(range(len(axes))))
    winner = lax.gather(last, flat, reads, (1,) * len(axes),
                        mode=lax.GatherScatterMode.FILL_OR_DROP, fill_value=-1)
    keep = lax.broadcast_in_dim(lax.eq(winner, number), flat.shape, (0,))
    return lax.reshape(pick(keep, flat, -1), table.shape)


def _one_by_one(x: Any, axes: tuple[int, ...], table: Any, updates: Any, numbers: Any,
                combine: str) -> Any:
    """For what XLA's scatter cannot combine: a loop over the places."""
    join = maximum if combine == "max" else minimum
    window = numbers.update_window_dims
    places = [a for a in range(updates.ndim) if a not in window]
    count = prod(table.shape[:-1])
    rest = [x.shape[a] for a in range(x.ndim) if a not in axes]
    values = lax.reshape(lax.transpose(updates, (*places, *window)), (count, *rest))
    order = (*axes, *(a for a in range(x.ndim) if a not in axes))
    flat = lax.reshape(table, (count, len(axes)))
    target = lax.transpose(x, order)

    def turn(i: Any, out: Any) -> Any:
        at = flat[i]
        inside = lax.reduce_and(both(lax.ge(at, like(at, 0)), lax.lt(at, np.asarray(
            [x.shape[a] for a in axes], np.int32))), (0,))
        starts = [*(at[j] for j in range(len(axes))), *(np.int32(0) for _ in rest)]
        sizes = (*(1 for _ in axes), *rest)
        old = lax.dynamic_slice(out, starts, sizes)
        new = join(old, lax.reshape(values[i], sizes))
        return lax.dynamic_update_slice(out, lax.select(inside, new, old), starts)

    out = lax.fori_loop(0, count, turn, target)
    return lax.transpose(out, tuple(order.index(a) for a in range(x.ndim)))


# ---- slices at computed places

def _starts(x: Any, sizes: tuple[int, ...], starts: tuple[Any, ...]) -> list[Any]:
    return [to(lax.clamp(like(s, 0), s, like(s, d - n)), "i32")
            for s, d, n in zip(starts, x.shape, sizes)]


def _dynamic_slice(site: Site, x: Any, *starts: Any) -> Any:
    sizes = site.attrs["sizes"]
    return lax.dynamic_slice(x, _starts(x, sizes, starts), sizes) if sizes else x


def _dynamic_update_slice(site: Site, x: Any, update: Any, *starts: Any) -> Any:
    if not x.ndim:
        return update
    return lax.dynamic_update_slice(x, update, _starts(x, update.shape, starts))


# ---- sorting and searching

def _sort(site: Site, x: Any) -> Any:
    axis, dtype = site.attrs["axis"], dtype_of(x.dtype)
    if dtype.kind == "bool":
        return to(lax.sort(to(x, "u8"), dimension=axis), "bool")
    return lax.sort(x, dimension=axis, is_stable=True)


def _argsort(site: Site, x: Any) -> Any:
    axis = site.attrs["axis"]
    if kind(x) == "bool":
        x = to(x, "u8")
    number = lax.broadcasted_iota(np.int64, x.shape, axis)
    return lax.sort((x, number), dimension=axis, is_stable=True, num_keys=1)[1]


def _before(x: Any, y: Any) -> Any:
    """Whether x is sorted before y, where NaN is last."""
    if kind(x) not in ("float", "complex"):
        return lax.lt(x, y)
    return lax.bitwise_or(less(x, y), both(invert(is_nan(x)), is_nan(y)))


def _searchsorted(site: Site, a: Any, v: Any) -> Any:
    """Halving, for all values at once."""
    batch, left = site.attrs.get("batch") or 0, site.attrs["side"] == "left"
    n = a.shape[batch]
    low, high = like(to(v, "i32"), 0), like(to(v, "i32"), n)
    if not n or not v.size:
        return to(low, "i64")
    leads = tuple(range(batch))
    numbers = lax.GatherDimensionNumbers((), (batch,), (batch,), leads, leads)

    def turn(_: Any, bounds: Any) -> Any:
        low, high = bounds
        middle = lax.div(lax.add(low, high), like(low, 2))
        at = lax.expand_dims(lax.min(middle, like(middle, n - 1)), (middle.ndim,))
        found = lax.gather(a, at, numbers, (1,) * a.ndim, mode=lax.GatherScatterMode.CLIP)
        right = _before(found, v) if left else invert(_before(v, found))
        right = both(right, lax.lt(low, high))
        return (pick(right, lax.add(middle, like(middle, 1)), low),
                pick(right, high, lax.min(middle, high)))

    low, _ = lax.fori_loop(0, int(n).bit_length(), turn, (low, high))
    return to(low, "i64")


INDEXING: dict[str, Lowering] = {
    "gather": _gather, "scatter": _scatter, "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice, "sort": _sort, "argsort": _argsort,
    "searchsorted": _searchsorted,
}
