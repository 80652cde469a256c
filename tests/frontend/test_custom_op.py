"""Ops from outside: fused LLVM, C functions, NumPy through Python; derivatives, batches, errors."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import weft
from weft.compiler.ops.registry import OPS, OUTSIDE
from weft.devices.cpu import lower

X = np.array([-2.0, -0.5, 0.25, 3.0])


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Take the ops away again that a test declares."""
    before = set(OUTSIDE)
    yield
    for name in OUTSIDE - before:
        OUTSIDE.discard(name)
        dict.pop(OPS, name)
        lower.REAL.pop(name, None)
        lower.CUSTOM.discard(name)


def test_written_in_llvm() -> None:
    """It fuses, in every real type, and its derivatives go to any order."""
    @weft.custom_op(partials=("2 * x",), kernels={"cpu": lambda e, x: x * x})
    def squared_(x: Any) -> Any:
        return x * x

    f = weft.jit(lambda x: squared_(x) + 1)
    for dtype in (np.float64, np.float32, np.float16):
        np.testing.assert_array_equal(f(X.astype(dtype)), X.astype(dtype) ** 2 + dtype(1))
    assert f.lower(X).text().count("call k") == 1
    np.testing.assert_array_equal(weft.vmap(weft.grad(squared_))(X), 2 * X)
    assert weft.grad(weft.grad(squared_))(3.0) == 2.0
    np.testing.assert_array_equal(weft.jit(squared_, device="reference")(X), X * X)


def test_through_python() -> None:
    """Without a kernel, the reference is called, also from loops; explain tells of it."""
    @weft.custom_op(partials=("y", "x"))
    def product_(x: Any, y: Any) -> Any:
        return x * y

    np.testing.assert_array_equal(product_(X, 2), X * 2)
    np.testing.assert_array_equal(weft.grad(lambda x: product_(x, x).sum())(X), 2 * X)
    total, _ = weft.scan(lambda c, x: (product_(c, x), None), 1.0, X)
    assert total == np.prod(X)
    f = weft.jit(lambda x: product_(x, x))
    assert "product_ has no kernel for the CPU" in str(weft.explain(f, X))
    np.testing.assert_array_equal(f(np.zeros((0, 3))), np.zeros((0, 3)))


def test_shapes_of_its_own() -> None:
    """`result` says what comes out; `vectorized` lets vmap through; custom_vjp differentiates."""
    @weft.custom_op(result=lambda a: (a.shape[:-1], a.dtype), vectorized=True)
    def middle_(a: Any) -> Any:
        return np.median(a, axis=-1)

    a = np.arange(24.0).reshape(2, 3, 4) ** 2
    np.testing.assert_array_equal(middle_(a), np.median(a, axis=-1))
    np.testing.assert_array_equal(weft.vmap(middle_)(a), np.median(a, axis=-1))
    g = weft.custom_vjp(lambda a: middle_(a))
    g.defvjp(lambda a: (middle_(a), None), lambda _, ct: (ct[..., None] * np.full(4, 0.25),))
    np.testing.assert_array_equal(weft.grad(lambda a: g(a).sum())(a), np.full(a.shape, 0.25))


def test_a_c_function() -> None:
    """A function with the C signature; no Python runs."""
    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_void_p),
                      ctypes.POINTER(ctypes.c_longlong))
    def reverse(buffers: Any, sizes: Any) -> int:
        n = sizes[0]
        source = (ctypes.c_double * n).from_address(buffers[0])
        target = (ctypes.c_double * n).from_address(buffers[1])
        target[:] = source[::-1]
        return 0

    flip = weft.custom_op(lambda a: a[::-1], name="flip_", result=lambda a: (a.shape, a.dtype),
                          kernels={"cpu": reverse})
    np.testing.assert_array_equal(flip(X), X[::-1])
    assert ", 0 fallbacks" in str(weft.explain(weft.jit(lambda x: flip(x)), X))


def test_errors() -> None:
    """What goes wrong in a reference, in names and in operands is told with the user's line."""
    @weft.custom_op(result=lambda a: (a.shape, a.dtype))
    def failing_(a: Any) -> Any:
        raise ValueError("no way")

    for _ in range(3):
        with pytest.raises(weft.errors.WeftError) as caught:
            failing_(X)
        assert str(caught.value).startswith("the op failing_ failed: ValueError: no way\n  at test")
        assert isinstance(caught.value.__cause__, ValueError)

    @weft.custom_op(result=lambda a: ((2,), a.dtype))
    def short_(a: Any) -> Any:
        return a

    with pytest.raises(weft.errors.WeftError, match=r"it gave shape \(4,\) where \(2,\) was"):
        short_(X)
    with pytest.raises(TypeError, match=r"short_\(\) takes 1 argument\(s\), got 2"):
        short_(X, X)
    with pytest.raises(weft.errors.UnsupportedError, match="there is an op named 'sin' already"):
        weft.custom_op(np.sin, name="sin")
    with pytest.raises(weft.errors.WeftError, match="there is no device named 'cpi'"):
        weft.custom_op(lambda x: x, name="x_", kernels={"cpi": None})
    with pytest.raises(weft.errors.UnsupportedError, match="the op short_ has no derivative"):
        weft.grad(lambda x: short_(x).sum())(X)
    with pytest.raises(weft.errors.UnsupportedError, match="the op short_ cannot be batched"):
        weft.vmap(short_)(np.stack([X, X]))
