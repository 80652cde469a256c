"""`weft.linalg` is what SciPy's functions are, in compiled functions and outside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import weft

linalg = pytest.importorskip("scipy.linalg")
RNG = np.random.default_rng(3)
A, B, V = RNG.normal(size=(4, 4)) + 3 * np.eye(4), RNG.normal(size=(4, 2)), RNG.normal(size=4)
C = A + 1j * RNG.normal(size=(4, 4))
P = A @ A.T


def both(fn: Any, *args: Any) -> list[Any]:
    return [fn(*args), weft.jit(lambda *xs: fn(*xs))(*args)]


@pytest.mark.parametrize("dtype", ["f4", "f8", "c16", "i8"])
@pytest.mark.parametrize("trans", [0, 1, 2, "C"])
@pytest.mark.parametrize("lower", [False, True])
def test_solve_triangular(dtype: str, trans: Any, lower: bool) -> None:
    a = (C if dtype[0] == "c" else np.rint(A * 3)).astype(dtype)
    for b in (B.astype(dtype), V.astype(dtype)):
        want = linalg.solve_triangular(a, b, trans=trans, lower=lower)
        for got in both(lambda x, y: weft.linalg.solve_triangular(x, y, trans, lower), a, b):
            assert got.dtype == want.dtype
            np.testing.assert_allclose(got, want, rtol=1e-4 if dtype == "f4" else 1e-11)


def test_stacks_of_triangles() -> None:
    a = np.stack([A, 2 * A])
    got = weft.linalg.solve_triangular(a, B, lower=True)
    for x, y in zip(got, a):
        np.testing.assert_allclose(x, linalg.solve_triangular(y, B, lower=True), rtol=1e-12)


def test_cholesky() -> None:
    for lower in (False, True):
        for got in both(lambda a, b, w=lower: weft.linalg.cho_solve(
                weft.linalg.cho_factor(a, w), b), P, B):
            np.testing.assert_allclose(got, np.linalg.solve(P, B), rtol=1e-11)
    with pytest.raises(np.linalg.LinAlgError, match="Matrix is not positive definite"):
        weft.linalg.cho_factor(-P)


@pytest.mark.parametrize("x", [A, C, RNG.normal(size=(6, 3)), RNG.normal(size=(3, 6)),
                               A.astype("f4")], ids=lambda x: f"{x.dtype}{x.shape}")
def test_lu(x: Any) -> None:
    want = linalg.lu(x)
    for got in both(weft.linalg.lu, x):
        for g, w in zip(got, want):
            assert g.dtype == w.dtype
            np.testing.assert_allclose(g, w, atol=1e-5 if x.dtype == "f4" else 1e-13)


@pytest.mark.parametrize("scale", [0.0, 0.01, 1.0, 30.0])
def test_expm(scale: float) -> None:
    for x in (A, C, np.stack([A, 0.1 * A, 3 * A]), np.zeros((0, 0))):
        x = x * scale / 10
        want = linalg.expm(x)
        for got in both(weft.linalg.expm, x):
            assert got.dtype == want.dtype
            size = np.abs(want).max(initial=1)
            np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12 * size)


def test_derivative_of_expm() -> None:
    t = RNG.normal(size=(4, 4))
    value, dot = weft.jvp(weft.linalg.expm, (A * 3,), (t,))
    want = linalg.expm_frechet(A * 3, t)
    np.testing.assert_allclose(value, want[0], rtol=1e-10)
    np.testing.assert_allclose(dot, want[1], rtol=1e-9)
    w = RNG.normal(size=(4, 4))
    back = weft.grad(lambda x: (weft.linalg.expm(x) * w).sum())(A * 3)
    np.testing.assert_allclose((back * t).sum(), (want[1] * w).sum(), rtol=1e-9)


def test_errors() -> None:
    with pytest.raises(weft.errors.ShapeError, match="solve_triangular got trans=7"):
        weft.linalg.solve_triangular(A, B, trans=7)
    with pytest.raises(weft.errors.ShapeError, match="are incompatible"):
        weft.linalg.solve_triangular(A, B[:3])
    with pytest.raises(np.linalg.LinAlgError, match="must be square"):
        weft.linalg.expm(B)
