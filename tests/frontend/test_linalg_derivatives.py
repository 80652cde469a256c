"""Gradients, second derivatives and batches of functions written with numpy.linalg and numpy.fft.

Gradients are held against central differences of the NumPy function itself. (The ops' own rules are
tested in `tests/compiler/transforms`.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import weft

RNG = np.random.default_rng(17)
W = RNG.normal(size=(4, 4))
B = RNG.normal(size=(4, 2))
V = RNG.normal(size=6)
SQUARE = RNG.normal(size=(4, 4)) + 2 * np.eye(4)
TALL = RNG.normal(size=(6, 3))
LINE = RNG.normal(size=12)
STEP = 1e-6

FUNCTIONS: dict[str, tuple[Callable[..., Any], Any]] = {
    "solve": (lambda a: (np.linalg.solve(a, B) ** 2).sum(), SQUARE),
    "solve_right": (lambda b: (np.linalg.solve(W, b) ** 2).sum(), B),
    "solve_vector": (lambda b: (np.linalg.solve(W, b) ** 2).sum(), B[:, 0]),
    "inv": (lambda a: (np.linalg.inv(a) * W).sum(), SQUARE),
    "det": (np.linalg.det, SQUARE),
    "slogdet": (lambda a: np.linalg.slogdet(a).logabsdet, SQUARE),
    "slogdet_complex": (lambda a: np.linalg.slogdet(a + 1j * W)[0].real, SQUARE),
    "cholesky": (lambda a: (np.linalg.cholesky(a @ a.T + np.eye(4)) * W).sum(), SQUARE),
    "cholesky_upper": (lambda a: (np.linalg.cholesky(a @ a.T + np.eye(4), upper=True) * W).sum(),
                       SQUARE),
    "qr": (lambda a: (np.linalg.qr(a).Q ** 3).sum() + (np.linalg.qr(a).R ** 3).sum(), TALL),
    "qr_wide": (lambda a: (np.linalg.qr(a.T).R ** 3).sum(), TALL),
    "qr_r": (lambda a: (np.linalg.qr(a, mode="r") ** 3).sum(), TALL),
    "svd": (lambda a: (np.linalg.svd(a, full_matrices=False).U ** 3).sum(), TALL),
    "svd_full": (lambda a: (np.linalg.svd(a).Vh ** 3).sum(), TALL),
    "svdvals": (lambda a: (np.linalg.svdvals(a) ** 3).sum(), TALL),
    "eigh": (lambda a: (np.linalg.eigh(a @ a.T).eigenvectors ** 4).sum(), SQUARE),
    "eigh_triangle": (lambda a: (np.linalg.eigvalsh(a, UPLO="U") ** 3).sum(), SQUARE),
    "eigvalsh_complex": (lambda a: (np.linalg.eigvalsh(a + 1j * W) ** 3).sum(), SQUARE),
    "eigvals": (lambda a: (abs(np.linalg.eigvals(a)) ** 3).sum(), SQUARE),
    "pinv": (lambda a: (np.linalg.pinv(a) ** 3).sum(), TALL),
    "pinv_of_equal_values": (lambda a: (np.linalg.pinv(a) * W).sum(), np.eye(4) * 2),
    "lstsq": (lambda a: (np.linalg.lstsq(a, V)[0] ** 2).sum(), TALL),
    "lstsq_residuals": (lambda a: np.linalg.lstsq(a, V)[1].sum(), TALL),
    "lstsq_wide": (lambda a: (np.linalg.lstsq(a.T, V[:3])[0] ** 3).sum(), TALL),
    "norm": (lambda a: np.linalg.norm(a, 2) + np.linalg.norm(a, "nuc") + np.linalg.norm(a), TALL),
    "cond": (lambda a: np.linalg.cond(a) + np.linalg.cond(a, 1), SQUARE),
    "matrix_power": (lambda a: (np.linalg.matrix_power(a, -2) * W).sum(), SQUARE),
    "tensorsolve": (lambda a: np.linalg.tensorsolve(a, B[:, 0]).sum(), SQUARE),
    "stack": (lambda a: np.linalg.det(np.stack([a, 2 * a])).sum(), SQUARE),
    "fft": (lambda x: (abs(np.fft.fft(x)) ** 2 * np.arange(12)).sum(), LINE),
    "fft_odd": (lambda x: (abs(np.fft.ifft(x, 7, norm="ortho")) ** 3).sum(), LINE),
    "rfft": (lambda x: (abs(np.fft.rfft(x, 9)) ** 2 * np.arange(5)).sum(), LINE),
    "irfft": (lambda x: (np.fft.irfft(x + 1j * x ** 2) ** 3).sum(), LINE),
    "irfft_odd": (lambda x: (np.fft.irfft(x * 1j + x, 9, norm="forward") ** 3).sum(), LINE),
    "hfft": (lambda x: (np.fft.hfft(x * (1 + 2j)) ** 3).sum(), LINE),
    "ihfft": (lambda x: (abs(np.fft.ihfft(x)) ** 3).sum(), LINE),
    "rfft2": (lambda x: (abs(np.fft.rfft2(x.reshape(3, 4))) ** 3).sum(), LINE),
    "irfftn": (lambda x: (np.fft.irfftn(x.reshape(3, 4) * 1j + 1) ** 3).sum(), LINE),
    "fftshift": (lambda x: (np.fft.fftshift(x) * np.arange(12)).sum(), LINE),
}
# second derivatives that do not exist, or that differences cannot see
ONCE = {"pinv_of_equal_values": "its singular values are equal"}


def along(fn: Callable[..., Any], x: Any, t: Any, step: float = STEP) -> Any:
    return (fn(x + step * t) - fn(x - step * t)) / (2 * step)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients(name: str) -> None:
    fn, x = FUNCTIONS[name]
    t = np.random.default_rng(1).normal(size=x.shape)
    want = along(fn, x, t)
    got = weft.grad(fn)(x)
    assert got.shape == x.shape and got.dtype == x.dtype
    assert (got * t).sum() == pytest.approx(want, rel=1e-6, abs=1e-6)
    value, dot = weft.jvp(fn, (x,), (t,))
    assert value == pytest.approx(fn(x), rel=1e-13)
    assert dot == pytest.approx((got * t).sum(), rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if n not in ONCE])
def test_second_derivatives(name: str) -> None:
    fn, x = FUNCTIONS[name]
    t, u = np.random.default_rng(2).normal(size=(2, *x.shape))
    slope = weft.jit(lambda z: (weft.grad(fn)(z) * u).sum())
    want = along(slope, x, t)
    assert (weft.grad(slope)(x) * t).sum() == pytest.approx(want, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_batches(name: str) -> None:
    fn, x = FUNCTIONS[name]
    many = np.stack([x, x * 1.01, x * 1.02])
    np.testing.assert_allclose(weft.vmap(fn)(many), [fn(y) for y in many], rtol=1e-12)
    np.testing.assert_allclose(weft.vmap(weft.grad(fn))(many), [weft.grad(fn)(y) for y in many],
                               rtol=1e-8, atol=1e-10)


def test_one_matrix_and_many_right_sides() -> None:
    """These stand beside each other: the matrix is taken apart once."""
    many = RNG.normal(size=(5, 4, 2))
    compiled = weft.jit(lambda b: weft.vmap(lambda y: np.linalg.solve(SQUARE, y))(b))
    np.testing.assert_allclose(compiled(many), [np.linalg.solve(SQUARE, y) for y in many],
                               rtol=1e-13)
    assert "solve" in compiled.lower(many).text()
    assert "f64[4, 10]" in compiled.trace(many).text()


def test_determinants_of_singular_matrices() -> None:
    """The gradient is the transposed adjugate, without dividing by the determinant."""
    x = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 10.0]])
    x[2] = 2 * x[1] - x[0]
    cofactors = np.array([[np.linalg.det(np.delete(np.delete(x, i, 0), j, 1)) * (-1) ** (i + j)
                           for j in range(3)] for i in range(3)])
    np.testing.assert_allclose(weft.grad(np.linalg.det)(x), cofactors, atol=1e-12)
    np.testing.assert_array_equal(weft.grad(np.linalg.det)(np.zeros((3, 3))), np.zeros((3, 3)))
    np.testing.assert_array_equal(weft.grad(np.linalg.det)(np.array([[3.0]])), [[1.0]])


def test_eigenvectors_keep_lapacks_choice() -> None:
    """Length 1, and the greatest element real: the derivative moves them so. (The sign is left to
    rounding by LAPACK; here it is made that of the vectors at the point.)"""
    x = np.array([[1.0, 2.0, 0.0], [-2.0, 1.0, 0.5], [0.3, 0.0, 3.0]])
    t = RNG.normal(size=(3, 3))
    at, dot = weft.jvp(lambda a: np.linalg.eig(a)[1], (x,), (t,))

    def vectors(a: Any) -> Any:
        v = np.linalg.eig(a)[1]
        return v * np.sign((at.conj() * v).sum(axis=0).real)
    np.testing.assert_allclose(dot, along(vectors, x, t), atol=1e-7)


def test_equal_eigenvalues() -> None:
    """Their sum has a derivative, their vectors have none."""
    x = np.eye(3)
    np.testing.assert_allclose(weft.grad(lambda a: np.linalg.eigvalsh(a).sum())(x), np.eye(3))
    vectors = weft.grad(lambda a: (np.linalg.eigh(a).eigenvectors ** 3).sum())(x)
    assert not np.isfinite(vectors).all()


def test_reflectors_have_no_derivative() -> None:
    with pytest.raises(TypeError, match="the reflectors of a QR factorization have no derivative"):
        weft.grad(lambda a: np.linalg.qr(a, mode="raw")[0].sum())(TALL)
