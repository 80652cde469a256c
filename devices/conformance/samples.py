"""Inputs for every op: the declarations' own samples, and special values in every element type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from weft.compiler.build import Builder
from weft.compiler.errors import WeftError
from weft.compiler.ir import Node
from weft.compiler.ops import Op
from weft.compiler.ops.updates import COMBINE
from weft.compiler.types import DTYPES, DType, TensorType, TupleType, dtype_of

__all__ = ["Case", "accepts", "cases", "results_of", "types_of", "values"]

Array = np.ndarray[Any, Any]
Case = tuple[tuple[Array, ...], dict[str, Any]]

_SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, 3.0, -3.0, 7.25, -7.75, 1e-3, -1e-3, 10.0, 88.5,
            -87.0, 104.0, -104.0, 710.0, -745.0, 1e-8, 1e8, -1e8, 0.9999999, 1.0000001, 2.5, 3.5,
            np.pi, -np.pi / 2, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 1e-310, 65504.0, 1e30]
_INTS = [0, 1, 2, 3, 5, 7, 8, 63, 64, 100, 127, -1, -2, -3, -7, -8, -100, -128]


def values(dtype: DType, seed: int = 0) -> Array:
    """Special and random values of an element type, 1-d, of an awkward length."""
    rng = np.random.default_rng(seed)
    with np.errstate(all="ignore"):
        if dtype.kind == "bool":
            return rng.integers(0, 2, 77).astype(np.bool_)
        if dtype.is_integer:
            info = np.iinfo(dtype.numpy)
            edge = np.array([info.min, info.min + 1, info.max, info.max - 1], dtype.numpy)
            plain = np.array(_INTS).astype(dtype.numpy)
            more = rng.integers(info.min, info.max, 50, dtype=dtype.numpy)
            out = np.concatenate([edge, plain, more])
        elif dtype.is_complex:
            parts = [np.concatenate([_SPECIAL, rng.normal(size=40) * 3]) for _ in range(2)]
            rng.shuffle(parts[1])
            out = (parts[0] + 1j * np.where(np.isfinite(parts[1]), parts[1], 1.5)
                   ).astype(dtype.numpy)
            return np.asarray(out[np.isfinite(parts[0])])
        else:
            out = np.concatenate([_SPECIAL, rng.normal(size=40) * 3]).astype(np.float64)
            out = out.astype(np.float32).astype(dtype.numpy) if dtype.name == "bf16" \
                else out.astype(dtype.numpy)
    return np.asarray(out[rng.permutation(len(out))])


def _elementwise_cases(op: Op, dtype: DType) -> Iterator[Case]:
    """Pairs of all kinds for one element type: full operands, and 0-d ones on either side."""
    assert op.arity is not None
    arrays = tuple(values(dtype, seed) for seed in range(op.arity))
    if op.name == "pow" and dtype.is_integer:       # NumPy refuses negative integer exponents
        arrays = (arrays[0], np.abs(arrays[1] % 11))
    yield arrays, {}
    if op.arity == 2:
        a, b = arrays
        yield (a, b[3]), {}
        yield (a[5], b), {}
        yield (a[:1], b[:1]), {}
    yield tuple(a[:0] for a in arrays), {}
    yield tuple(a[2] for a in arrays), {}


def cases(op: Op) -> Iterator[tuple[str, Case]]:
    """All cases of an op, with a label each; none for calls, which no device ever sees."""
    if op.name == "call":
        return
    if op.samples is not None:
        for i, (arrays, attrs) in enumerate(op.samples()):
            yield f"sample{i}", (tuple(map(np.asarray, arrays)), attrs)
    elif op.kind == "elementwise":
        for dtype in DTYPES.values():
            for i, case in enumerate(_elementwise_cases(op, dtype)):
                if accepts(op, *case):
                    yield f"{dtype}-{i}", case
    if op.kind == "reduction":
        for name, dtype in DTYPES.items():
            for axis in (0, 1):
                attrs = {"axis": axis} if op.name.startswith("arg") else {"axes": (axis,)}
                x = values(dtype)[:66].reshape(6, 11)
                if op.name == "reduce_prod" and dtype.is_inexact:
                    # a product through subnormals depends on the order of its factors
                    x = np.where((np.abs(x) < 1e-3) & (x != 0), x.dtype.type(1.5), x)
                if accepts(op, (x,), attrs):
                    yield f"{name}-axis{axis}", ((x,), attrs)
    if op.kind == "indexing":
        yield from _indexing_cases(op)


def _indexing_cases(op: Op) -> Iterator[tuple[str, Case]]:
    """Special values of every element type, at places met once, several times or never."""
    rng = np.random.default_rng(0)
    twice, once = rng.integers(-7, 7, 16), rng.permutation(7)[:5]
    start, zero = np.array(3), np.array(0)
    for name, dtype in DTYPES.items():
        x = values(dtype)[:63].reshape(7, 9)
        more = values(dtype, 1)
        if op.name == "gather":
            yield name, ((x, twice), {"axes": (0,), "position": 0, "mode": "raise"})
        elif op.name == "dynamic_slice":
            yield name, ((x, start, zero), {"sizes": (2, 9)})
        elif op.name == "dynamic_update_slice":
            yield name, ((x, more[:18].reshape(2, 9), start, zero), {})
        elif op.name == "scatter":
            for combine in COMBINE:
                attrs = {"axes": (0,), "mode": "drop", "combine": combine}
                yield f"{name}-{combine}-rows", (
                    (x, once, more[:45].reshape(5, 9)), {**attrs, "position": 0})
                yield f"{name}-{combine}-columns", (
                    (x, twice[:6], more[:54].reshape(9, 6)), {**attrs, "position": 1})
                yield f"{name}-{combine}-elements", (
                    (x, rng.integers(-8, 8, 50), rng.integers(-9, 9, 50), more[:50]),
                    {**attrs, "axes": (0, 1), "position": 0})


def types_of(arrays: tuple[Array, ...]) -> tuple[TensorType, ...]:
    """The types of operands."""
    return tuple(TensorType(np.shape(a), dtype_of(a.dtype)) for a in arrays)


def accepts(op: Op, arrays: tuple[Array, ...], attrs: dict[str, Any]) -> bool:
    """Whether the op's type rule takes these operands."""
    try:
        op.infer(types_of(arrays), attrs)
    except WeftError:
        return False
    return True


def results_of(b: Builder, node: Node) -> list[Node]:
    """The results of a node, each as an array."""
    if not isinstance(node.type, TupleType):
        return [node]
    return [b.get(node, index=i) for i in range(len(node.type.elements))]
