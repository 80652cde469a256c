"""Rules of views and creation: chains of them merged, idle ones dropped. All are exact."""

from __future__ import annotations

from typing import Any

import numpy as np

from weft.compiler.ir import Node
from weft.compiler.rewrite.driver import Rewriter, Rule, rule
from weft.compiler.rewrite.match import is_op, same_bits, scalar_value, unit_map, without

__all__ = ["RULES"]

RULES: list[Rule] = []
_SPLAT_LIMIT = 1 << 20     # elements looked at to see that they are all the same


# --------------------------------------------------------------------------- nothing to do

@rule(RULES, "a view that keeps everything in place → its operand", "reshape", "broadcast_in_dim",
      "slice", "concatenate")
def _idle_view(n: Node, b: Rewriter) -> Node | None:
    x = n.inputs[0]
    if len(n.inputs) > 1 or x.type != n.type:
        return None
    same = n.opname != "slice" or not any(n.attrs["start"]) or n.tensor.size == 0
    return x if same else None


@rule(RULES, "transpose(x), perm 0 1 2… → x; one that moves unit axes only → reshape(x)",
      "transpose")
def _idle_transpose(n: Node, b: Rewriter) -> Node | None:
    (x,), perm = n.inputs, n.attrs["perm"]
    moved = [p for p in perm if x.shape[p] != 1]
    return b.reshape(x, n.shape) if moved == sorted(moved) else None


@rule(RULES, "reverse(x) over axes of size 1 → x without those axes", "reverse")
def _idle_reverse(n: Node, b: Rewriter) -> Node | None:
    (x,), axes = n.inputs, n.attrs["axes"]
    kept = tuple(a for a in axes if x.shape[a] not in (0, 1))
    if axes and len(kept) == len(axes):
        return None
    return b.add("reverse", x, axes=kept) if kept else x


@rule(RULES, "pad(x) with no width → x", "pad")
def _idle_pad(n: Node, b: Rewriter) -> Node | None:
    return n.inputs[0] if not any(n.attrs["low"]) and not any(n.attrs["high"]) else None


# --------------------------------------------------------------------------- chains

@rule(RULES, "transpose(transpose(x)) → transpose(x)", "transpose", on=("transpose",))
def _transpose_twice(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    if not is_op(x, "transpose"):
        return None
    inner = x.attrs["perm"]
    return b.add("transpose", x.inputs[0], perm=tuple(inner[p] for p in n.attrs["perm"]))


@rule(RULES, "reshape(reshape(x)) → reshape(x)", "reshape", on=("reshape",))
def _reshape_twice(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    return b.reshape(x.inputs[0], n.shape) if is_op(x, "reshape") else None


@rule(RULES, "reverse(reverse(x)) → reverse(x) over the axes reversed once", "reverse",
      on=("reverse",))
def _reverse_twice(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    if not is_op(x, "reverse"):
        return None
    axes = tuple(sorted(set(x.attrs["axes"]) ^ set(n.attrs["axes"])))
    return b.add("reverse", x.inputs[0], axes=axes) if axes else x.inputs[0]


@rule(RULES, "broadcast(broadcast(x)) → broadcast(x)", "broadcast_in_dim",
      on=("broadcast_in_dim",))
def _broadcast_twice(n: Node, b: Rewriter) -> Node | None:
    (x,), dims = n.inputs, n.attrs["dims"]
    if not is_op(x, "broadcast_in_dim"):
        return None
    return b.broadcast(x.inputs[0], n.shape, [dims[d] for d in x.attrs["dims"]])


def _static(*bounds: Any) -> bool:
    return all(isinstance(v, int) for bound in bounds for v in bound)


@rule(RULES, "slice(slice(x)) → slice(x)", "slice", on=("slice",))
def _slice_twice(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    if not is_op(x, "slice") or not _static(x.shape, n.shape, x.attrs["start"], n.attrs["start"]):
        return None
    start, limit, stride = [], [], []
    for lo, st, lo2, st2, size in zip(x.attrs["start"], x.attrs["stride"], n.attrs["start"],
                                      n.attrs["stride"], n.shape):
        start.append(lo + lo2 * st if size else 0)
        stride.append(st * st2)
        limit.append(start[-1] + (size - 1) * stride[-1] + 1 if size else 0)
    return b.add("slice", x.inputs[0], start=tuple(start), limit=tuple(limit),
                 stride=tuple(stride))


@rule(RULES, "pad(pad(x, v), v) → pad(x, v)", "pad", on=("pad",))
def _pad_twice(n: Node, b: Rewriter) -> Node | None:
    x, v = n.inputs
    if not is_op(x, "pad"):
        return None
    a, c = scalar_value(v), scalar_value(x.inputs[1])
    if v is not x.inputs[1] and (a is None or c is None or not same_bits(a, c)):
        return None
    low, high = (tuple(i + j for i, j in zip(n.attrs[k], x.attrs[k])) for k in ("low", "high"))
    return b.add("pad", x.inputs[0], v, low=low, high=high)


@rule(RULES, "concatenate(concatenate(x, y), z) → concatenate(x, y, z); empty operands drop out",
      "concatenate")
def _concatenate_flat(n: Node, b: Rewriter) -> Node | None:
    axis = n.attrs["axis"]
    parts: list[Node] = []
    for x in n.inputs:
        inner = is_op(x, "concatenate") and x.attrs["axis"] == axis
        parts += x.inputs if inner else () if x.shape[axis] == 0 else (x,)
    if tuple(parts) == n.inputs or not parts:
        return None
    return b.add("concatenate", *parts, axis=axis)


@rule(RULES, "slice(concatenate(x, y)) → slice(x), where nothing of y is taken", "slice",
      on=("concatenate",))
def _slice_of_concatenate(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    if not is_op(x, "concatenate") or not _static(x.shape, n.shape) or 0 in n.shape:
        return None
    axis, at = x.attrs["axis"], 0
    start, limit = list(n.attrs["start"]), list(n.attrs["limit"])
    for part in x.inputs:
        end = at + part.shape[axis]
        if at <= start[axis] and limit[axis] <= end:
            start[axis], limit[axis] = start[axis] - at, limit[axis] - at
            return b.add("slice", part, start=tuple(start), limit=tuple(limit),
                         stride=n.attrs["stride"])
        at = end
    return None


# --------------------------------------------------------------------------- unit axes

@rule(RULES, "broadcast(x) that only inserts unit axes → reshape(x)", "broadcast_in_dim")
def _broadcast_is_reshape(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    if x.shape == ():
        return None
    only_units = without(n.shape, n.attrs["dims"]).count(1) == n.tensor.rank - x.tensor.rank
    kept = all(x.shape[i] == n.shape[d] for i, d in enumerate(n.attrs["dims"]))
    return b.reshape(x, n.shape) if only_units and kept else None


@rule(RULES, "reshape(s) → broadcast(s), for 0-d s: as one form of it is enough", "reshape")
def _reshape_of_scalar(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    return b.broadcast(x, n.shape, ()) if x.shape == () and n.shape != () else None


@rule(RULES, "broadcast(reshape(x)) → broadcast(x), where the reshape inserts unit axes: "
      "[N] → [N, 1] → [N, M] becomes [N] → [N, M]", "broadcast_in_dim", on=("reshape",))
def _broadcast_of_reshape(n: Node, b: Rewriter) -> Node | None:
    (x,), dims = n.inputs, n.attrs["dims"]
    if not is_op(x, "reshape"):
        return None
    source = x.inputs[0]
    at = 0  # match the source's axes one by one among those of the reshape
    kept = []
    for size in source.shape:
        while at < len(x.shape) and x.shape[at] != size:
            if x.shape[at] != 1:
                return None
            at += 1
        if at == len(x.shape):
            return None
        kept.append(at)
        at += 1
    if any(d != 1 for d in x.shape[at:]):
        return None
    return b.broadcast(source, n.shape, [dims[a] for a in kept])


@rule(RULES, "reshape(broadcast(x)) → broadcast(reshape(x)), where it adds and drops unit axes",
      "reshape", on=("broadcast_in_dim",))
def _reshape_of_broadcast(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    if not is_op(x, "broadcast_in_dim"):
        return None
    moved = unit_map(x.shape, n.shape)
    if moved is None:
        return None
    source, dims = x.inputs[0], x.attrs["dims"]
    gone = [i for i, d in enumerate(dims) if d not in moved]
    inner = b.reshape(source, without(source.shape, gone))
    return b.broadcast(inner, n.shape, [moved[d] for d in without(dims, gone)])


# --------------------------------------------------------------------------- views of broadcasts

@rule(RULES, "transpose(broadcast(x)) → broadcast(transpose(x))", "transpose",
      on=("broadcast_in_dim",))
def _transpose_of_broadcast(n: Node, b: Rewriter) -> Node | None:
    (x,), perm = n.inputs, n.attrs["perm"]
    if not is_op(x, "broadcast_in_dim"):
        return None
    target = [perm.index(d) for d in x.attrs["dims"]]
    order = tuple(sorted(range(len(target)), key=target.__getitem__))
    inner = x.inputs[0]
    if order != tuple(range(len(order))):
        inner = b.add("transpose", inner, perm=order)
    return b.broadcast(inner, n.shape, sorted(target))


@rule(RULES, "slice(broadcast(x)) → broadcast(slice(x))", "slice", on=("broadcast_in_dim",))
def _slice_of_broadcast(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    if not is_op(x, "broadcast_in_dim") or not _static(n.shape, x.shape) or 0 in n.shape:
        return None
    source, dims = x.inputs[0], x.attrs["dims"]
    repeated = [source.shape[i] != x.shape[d] for i, d in enumerate(dims)]
    start, limit, stride = (
        tuple(idle if r else n.attrs[k][d] for r, d in zip(repeated, dims))
        for k, idle in (("start", 0), ("limit", 1), ("stride", 1)))
    inner = b.add("slice", source, start=start, limit=limit, stride=stride)
    return b.broadcast(inner, n.shape, dims)


@rule(RULES, "reverse(broadcast(x)) → broadcast(reverse(x)) over the axes that x has", "reverse",
      on=("broadcast_in_dim",))
def _reverse_of_broadcast(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    if not is_op(x, "broadcast_in_dim"):
        return None
    source, dims = x.inputs[0], x.attrs["dims"]
    axes = tuple(i for i, d in enumerate(dims)
                 if d in n.attrs["axes"] and source.shape[i] == n.shape[d])
    inner = b.add("reverse", source, axes=axes) if axes else source
    return b.broadcast(inner, n.shape, dims)


# --------------------------------------------------------------------------- creation

@rule(RULES, "constant, the same everywhere → broadcast of a 0-d constant", "constant")
def _splat(n: Node, b: Rewriter) -> Node | None:
    value = n.attrs["value"]
    if n.shape == () or not 0 < value.size <= _SPLAT_LIMIT:
        return None
    raw = np.ascontiguousarray(value).reshape(-1)
    first = raw[:1].tobytes()
    if raw[-1:].tobytes() != first or raw.tobytes() != first * raw.size:
        return None
    return b.broadcast(b.constant(raw[0]), n.shape)


@rule(RULES, "any value of size 0 → broadcast of 0: there is nothing to compute", "*")
def _nothing(n: Node, b: Rewriter) -> Node | None:
    shape = getattr(n.type, "shape", ())
    if 0 not in shape or (is_op(n, "broadcast_in_dim") and is_op(n.inputs[0], "constant")):
        return None
    return b.broadcast(b.scalar(0, n.dtype), n.shape)


@rule(RULES, "convert(iota) → iota, of the other type", "convert", on=("iota",))
def _convert_iota(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    if is_op(x, "iota") and x.dtype.name == "i64" and n.dtype.kind != "bool":
        return b.replace(x, (), dtype=n.dtype)
    return None


@rule(RULES, "transpose(iota) → iota along the axis where it went", "transpose", on=("iota",))
def _transpose_iota(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    if not is_op(x, "iota"):
        return None
    return b.replace(x, (), shape=n.shape, axis=n.attrs["perm"].index(x.attrs["axis"]))


@rule(RULES, "broadcast(iota) → iota of the whole shape", "broadcast_in_dim", on=("iota",))
def _broadcast_iota(n: Node, b: Rewriter) -> Node | None:
    (x,) = n.inputs
    if not is_op(x, "iota"):
        return None
    axis = x.attrs["axis"]
    to = n.attrs["dims"][axis]
    return b.replace(x, (), shape=n.shape, axis=to) if x.shape[axis] == n.shape[to] else None


@rule(RULES, "iota along an axis of size 1 → 0", "iota")
def _iota_of_one(n: Node, b: Rewriter) -> Node | None:
    return b.fill(n, 0) if n.shape[n.attrs["axis"]] == 1 else None
