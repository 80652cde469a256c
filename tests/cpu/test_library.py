"""Scans, sorts and searches in native code give what NumPy gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from weft.compiler.build import Builder
from weft.compiler.ir import Node
from weft.compiler.ops import OPS
from weft.compiler.types import DTYPES, Dim, Size, TensorType
from weft.devices.cpu import library_sort, numpy_sorts
from weft.devices.cpu.device import CpuDevice

Array = np.ndarray[Any, Any]
DEVICE = CpuDevice()
B, N = Size.symbol("B"), Size.symbol("N")
FLOATS = ("f16", "bf16", "f32", "f64")
INTS = tuple(d for d in DTYPES if d[0] in "iu")
COMPLEX = ("c64", "c128")
SHAPES = [(7,), (1,), (0,), (5, 37), (3, 4, 19), (2, 0, 3), (4, 1, 5), (0, 3), (1, 70, 1)]


def compiled(make: Callable[..., Node], *types: TensorType) -> Callable[..., Array]:
    """The native function of one op."""
    b = Builder()
    node = make(b, *(b.param(f"x{i}", t) for i, t in enumerate(types)))
    code = DEVICE.lower(b.graph([node]), DEVICE.target()).compile()
    return lambda *arrays: code.run(arrays)[0]


def native(op: str, *arrays: Array, shapes: list[tuple[Dim, ...]] | None = None, **attrs: Any
           ) -> Array:
    """The op applied to arrays, by native code."""
    by_type = {d.numpy: d for d in DTYPES.values()}
    types = [TensorType(s, by_type[a.dtype])
             for a, s in zip(arrays, shapes or [a.shape for a in arrays])]
    return compiled(lambda b, *xs: b.add(op, *xs, **attrs), *types)(*arrays)


def values(shape: tuple[int, ...], dtype: str, seed: int = 0) -> Array:
    """Numbers with repetitions, NaN, infinities and both zeros among them."""
    rng = np.random.default_rng(seed)
    d = DTYPES[dtype]
    if d.kind == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if d.is_integer:
        info = np.iinfo(d.numpy)
        return np.where(rng.random(shape) < 0.5, rng.integers(0, 5, shape).astype(d.numpy),
                        rng.integers(info.min, info.max, shape, d.numpy, endpoint=True))
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0])
    x = rng.normal(size=shape)
    x = np.where(rng.random(shape) < 0.3, special[rng.integers(0, 7, shape)], x)
    if d.is_complex:
        out = x.astype(d.numpy)
        out.imag = values(shape, "f64", seed + 1)
        return out
    return x.astype(d.numpy)


def same(got: Array, want: Array) -> None:
    """Equal bit by bit, any NaN being as good as another."""
    assert got.dtype == want.dtype and got.shape == want.shape
    if got.dtype.kind == "c":
        got, want = (np.stack([a.real, a.imag]) for a in (got, want))
    if got.dtype.kind in "biu":
        np.testing.assert_array_equal(got, want)
        return
    nan = np.isnan(want)
    np.testing.assert_array_equal(np.isnan(got), nan)
    bits = np.dtype(f"u{got.dtype.itemsize}")
    np.testing.assert_array_equal(*(np.where(nan, 0, a.view(bits)) for a in (got, want)))


# ---- scans

UFUNC = {"cumsum": np.add, "cumprod": np.multiply, "cummax": np.maximum, "cummin": np.minimum}
SCANNED = [(op, d) for op in UFUNC for d in (*INTS, *FLOATS, *COMPLEX)
           if op in ("cumsum", "cumprod") or d[0] != "c"] + [("cummax", "bool"), ("cummin", "bool")]


def accumulated(op: str, x: Array, axis: int) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray(UFUNC[op].accumulate(x, axis=axis, dtype=x.dtype))


@pytest.mark.parametrize("op, dtype", SCANNED)
def test_scans_of_all_types(op, dtype):
    for shape, axis in (((9, 33), 1), ((9, 33), 0)):
        x = values(shape, dtype) if op != "cumsum" or dtype in INTS else \
            np.random.default_rng(0).normal(size=shape).astype(DTYPES[dtype].numpy)
        got, want = native(op, x, axis=axis), accumulated(op, x, axis)
        if op in ("cummax", "cummin"):      # NumPy's own choice between 0.0 and -0.0 varies
            got, want = got + got.dtype.type(0), want + want.dtype.type(0)
        same(got, want)


@pytest.mark.parametrize("dtype", (*INTS, *FLOATS, *COMPLEX))
def test_recurrences(dtype):
    """y[k] = a[k]*y[k-1] + b[k], rounded after each operation."""
    for shape in ((9, 33), (1,), (0,), (3, 4, 19)):
        a, b = (values(shape, dtype, s) for s in (0, 1))
        for axis in range(len(shape)):
            got = native("linear_recurrence", a, b, axis=axis)
            with np.errstate(all="ignore"):
                want = OPS["linear_recurrence"].reference(np, a, b, axis=axis)
            if dtype in COMPLEX:            # NumPy's own products of infinities vary
                keep = np.isfinite(want)
                np.testing.assert_allclose(got[keep], want[keep], rtol=1e-4)
            else:
                same(got, want)


@pytest.mark.parametrize("shape", SHAPES)
def test_scans_along_every_axis(shape):
    x = np.random.default_rng(1).normal(size=shape)
    for axis in range(len(shape)):
        for op in UFUNC:
            same(native(op, x, axis=axis), accumulated(op, x, axis))


@pytest.mark.parametrize("shape, axis", [((7, 20011), 1), ((50, 3000), 0), ((3, 40, 2500), 1)])
def test_long_scans_on_several_threads(shape, axis):
    x = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    same(native("cumsum", x, axis=axis), np.add.accumulate(x, axis=axis))


def test_scans_meet_special_values():
    for op in UFUNC:
        for axis in (0, 1):
            x = values((40, 23), "f32", 3)
            got, want = native(op, x, axis=axis), accumulated(op, x, axis)
            np.testing.assert_array_equal(got, want)


# ---- sorts

@pytest.mark.parametrize("stable", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_sorts_of_all_types(dtype, stable):
    # bfloat16 has no sorts in NumPy's tables, and its comparison leaves NaN anywhere; ours for it
    # is always stable and orders as float32's does
    kind = "stable" if stable or dtype == "bf16" else None
    for shape, axis in (((3, 300), 1), ((70, 19), 0)):
        x = values(shape, dtype)
        wide = x.astype(np.float32) if dtype == "bf16" else x
        same(native("sort", x, axis=axis, stable=stable),
             np.sort(wide, axis=axis, kind=kind).astype(x.dtype))
        same(native("argsort", x, axis=axis, stable=stable), np.argsort(wide, axis=axis, kind=kind))


@pytest.mark.parametrize("shape", SHAPES)
def test_sorts_along_every_axis(shape):
    x = values(shape, "f64")
    for axis in range(len(shape)):
        for stable, kind in ((False, None), (True, "stable")):
            same(native("sort", x, axis=axis, stable=stable), np.sort(x, axis=axis, kind=kind))
            same(native("argsort", x, axis=axis, stable=stable),
                 np.argsort(x, axis=axis, kind=kind))


@pytest.mark.parametrize("shape, axis", [((9, 10007), 1), ((3000, 50), 0)])
def test_long_sorts_on_several_threads(shape, axis):
    x = np.random.default_rng(2).integers(0, 1000, shape).astype(np.int32)
    for op, reference in (("sort", np.sort), ("argsort", np.argsort)):
        same(native(op, x, axis=axis, stable=False), reference(x, axis=axis))


@pytest.mark.parametrize("dtype", ["f16", "f32", "i8", "u64", "bool", "c64"])
def test_the_merge_sort(dtype, monkeypatch):
    """Where NumPy's functions cannot be had, a stable sort of our own stands in."""
    monkeypatch.setattr(library_sort, "symbols", dict)
    for n in (0, 1, 2, 3, 100, 129):
        x = values((n,), dtype, n)
        np.testing.assert_array_equal(native("sort", x, axis=0, stable=True),
                                      np.sort(x, kind="stable"))
        same(native("argsort", x, axis=0, stable=False), np.argsort(x, kind="stable"))


def test_numpy_has_its_sorts_where_expected():
    found = numpy_sorts.symbols()
    assert {f"weft_np_{op}_{d}_{kind}" for op in numpy_sorts.OPS for kind in numpy_sorts.KINDS
            for d in DTYPES if d != "bf16"} <= found.keys()


# ---- searches

@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("dtype", [*INTS, *FLOATS, "bool"])
def test_searches_of_all_types(dtype, side):
    for n in (0, 1, 2, 7, 64, 100):
        by = np.float32 if dtype == "bf16" else DTYPES[dtype].numpy
        a, v = np.sort(values((n,), dtype).astype(by)), values((5, 13), dtype, 1)
        got = native("searchsorted", a.astype(v.dtype), v, side=side)
        same(got, np.searchsorted(a, v.astype(by), side=side))


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 4), (40000,)])
def test_searches_of_all_shapes(shape):
    a, v = np.sort(values((1000,), "f64")), np.asarray(values(shape, "f64", 1))
    for side in ("left", "right"):
        same(native("searchsorted", a, v, side=side), np.asarray(np.searchsorted(a, v, side=side)))


# ---- symbolic sizes

def test_symbolic_sizes():
    kind = TensorType((B, N, 3), DTYPES["f32"])
    for op, attrs, want in (
            ("cumsum", {}, lambda x, axis: accumulated("cumsum", x, axis)),
            ("sort", {"stable": True}, lambda x, axis: np.sort(x, axis, kind="stable")),
            ("argsort", {"stable": False}, lambda x, axis: np.argsort(x, axis))):
        for axis in (0, 1, 2):
            def make(b, x, op=op, axis=axis, attrs=attrs):
                return b.add(op, x, axis=axis, **attrs)
            run = compiled(make, kind)
            for shape in ((4, 5, 3), (0, 2, 3), (1, 0, 3), (6, 1, 3)):
                x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
                same(run(x), want(x, axis))


def test_symbolic_searches():
    f64 = DTYPES["f64"]
    run = compiled(lambda b, a, v: b.searchsorted(a, v, side="left"),
                   TensorType((N,), f64), TensorType((B,), f64))
    for n, keys in ((0, 3), (1, 1), (5, 0), (100, 17)):
        a, v = np.sort(values((n,), "f64")), values((keys,), "f64", 1)
        same(run(a, v), np.searchsorted(a, v))
