"""Derivatives where formulas break: ties, zeros, infinities, far tails, overflow.

What is decided here, and what JAX 0.10 gives, where that differs:

- Of a choice between equals (maximum, minimum, max over axes), each has its share; |x| and lengths
  have derivative 0 at 0, as the mean of their one-sided ones. JAX gives NaN for np.linalg.norm
  and np.std there.
- Infinite slopes are infinite: sqrt and cbrt at 0, log at 0, arcsin at 1.
- Derivatives of saturating functions are computed from the result (tanh: 1 - y*y), so far out they
  are exact to half a unit in the last place of 1, not of themselves, as in JAX.
- A branch of np.where that is not taken adds nothing to a derivative unless its own is not finite:
  0 * inf is NaN, as in JAX; the remedy is to choose the argument, too.
"""

import numpy as np
import pytest

import weft

INF, NAN = np.inf, np.nan
E, PI = np.e, np.pi

FIRST = [
    # ---- ties and kinks
    ("abs at 0", np.abs, 0.0, 0.0), ("abs at -0", np.abs, -0.0, 0.0),
    ("sign", np.sign, 0.0, 0.0),
    ("maximum tie", lambda x: np.maximum(x, 1.0), 1.0, 0.5),
    ("minimum tie", lambda x: np.minimum(x, 1.0), 1.0, 0.5),
    ("maximum with itself", lambda x: np.maximum(x, x), 1.0, 1.0),
    ("maximum of NaN", lambda x: np.maximum(x, 1.0), NAN, 0.0),
    ("fmax of NaN", lambda x: np.fmax(x, 1.0), NAN, 0.0),
    ("maximum at inf", lambda x: np.maximum(x, INF), INF, 0.5),
    ("relu below", lambda x: np.maximum(x, 0.0), -1.0, 0.0),
    ("copysign", lambda x: np.copysign(x, -1.0), 2.0, -1.0),
    ("floor", np.floor, 1.0, 0.0), ("rint", np.rint, 0.5, 0.0),
    ("remainder at a multiple", lambda x: np.remainder(x, 2.0), 4.0, 1.0),
    # ---- infinite slopes
    ("sqrt at 0", np.sqrt, 0.0, INF), ("cbrt at 0", np.cbrt, 0.0, INF),
    ("log at 0", np.log, 0.0, INF), ("log1p at -1", np.log1p, -1.0, INF),
    ("arcsin at 1", np.arcsin, 1.0, INF), ("arccos at -1", np.arccos, -1.0, -INF),
    ("arctanh at 1", np.arctanh, 1.0, INF), ("arccosh at 1", np.arccosh, 1.0, INF),
    # ---- powers
    ("x ** 0 at 0", lambda x: np.power(x, 0.0), 0.0, 0.0),
    ("x ** 1 at 0", lambda x: np.power(x, 1.0), 0.0, 1.0),
    ("x ** 2 at 0", lambda x: np.power(x, 2.0), 0.0, 0.0),
    ("x ** 2 below 0", lambda x: np.power(x, 2.0), -3.0, -6.0),
    ("x ** 0.5 at 0", lambda x: np.power(x, 0.5), 0.0, INF),
    ("0 ** y at 0", lambda y: np.power(0.0, y), 0.0, 0.0),
    ("0 ** y at 2", lambda y: np.power(0.0, y), 2.0, 0.0),
    ("2 ** y at 0", lambda y: np.power(2.0, y), 0.0, np.log(2)),
    ("x * x ** -1 at 1e300", lambda x: x * np.power(x, -1.0), 1e300, 0.0),
    # ---- lengths and deviations
    ("norm of 0", lambda x: np.linalg.norm(x * np.ones(3)), 0.0, 0.0),
    ("norm along axes of 0", lambda x: np.linalg.norm(x * np.ones((2, 3)), axis=1).sum(), 0.0, 0.0),
    ("3-norm of 0", lambda x: np.linalg.norm(x * np.ones(3), 3), 0.0, 0.0),
    ("norm", lambda x: np.linalg.norm(x * np.ones(4)), 2.0, 2.0),
    ("std of equals", lambda x: np.std(x * np.ones(3)), 2.0, 0.0),
    ("std of one", lambda x: np.std(x), 2.0, 0.0),
    ("hypot at the origin", lambda x: np.hypot(x, 0.0), 0.0, 0.0),
    ("hypot far out", lambda x: np.hypot(x, 1e200), 1e200, np.sqrt(0.5)),
    ("arctan2 far out", lambda x: np.arctan2(x, 1e200) * 1e200, 1e200, 0.5),
    ("arctan2 close in", lambda x: np.arctan2(x, 1e-200) / 1e200, 1e-200, 0.5),
    ("arcsinh far out", lambda x: np.arcsinh(x) * 1e200, 1e200, 1.0),
    # ---- exponentials and logarithms
    ("logaddexp of equals", lambda x: np.logaddexp(x, 1.0), 1.0, 0.5),
    ("logaddexp far apart", lambda x: np.logaddexp(x, -1000.0), 1000.0, 1.0),
    ("logaddexp at inf", lambda x: np.logaddexp(x, INF), INF, 0.5),
    ("logaddexp at -inf", lambda x: np.logaddexp(x, -INF), -INF, 0.5),
    ("logaddexp of inf", lambda x: np.logaddexp(x, 3.0), INF, 1.0),
    ("logaddexp with inf", lambda x: np.logaddexp(x, INF), 3.0, 0.0),
    ("softplus far out", lambda x: np.logaddexp(x, 0.0), -700.0, np.exp(-700.0)),
    ("logaddexp2 of equals", lambda x: np.logaddexp2(x, 1.0), 1.0, 0.5),
    ("log1p near 0", np.log1p, 1e-30, 1.0), ("expm1 near 0", np.expm1, 1e-30, 1.0),
    ("exp at -inf", np.exp, -INF, 0.0), ("exp overflowing", np.exp, 800.0, INF),
    ("sigmoid far below", lambda x: 1 / (1 + np.exp(-x)), -30.0, np.exp(-30.0)),
    ("tanh far out", np.tanh, 800.0, 0.0), ("tanh at 0", np.tanh, 0.0, 1.0),
    ("sinc at 0", np.sinc, 0.0, 0.0),
    # ---- quotients
    ("chain of quotients", lambda x: x / 1e200 * 1e200 / 1e-200 * 1e-200, 1.0, 1.0),
    ("quotient by small", lambda x: 1e-300 / x, 1e-200, -1e100),
    ("x / x", lambda x: x / x, 1e200, 0.0),
    ("0 / x at 0", lambda x: 0.0 / (x + 1.0), 0.0, 0.0),
    # ---- choices
    ("where, finite branch", lambda x: np.where(x > 0, x * x, 3.0), -1.0, 0.0),
    ("where, safe argument", lambda x: np.where(x > 0, np.log(np.where(x > 0, x, 1.0)), 0.0), 0.0,
     0.0),
    ("clip inside", lambda x: np.clip(x, 0.0, 1.0), 0.5, 1.0),
    ("clip outside", lambda x: np.clip(x, 0.0, 1.0), 2.0, 0.0),
    ("nan_to_num of NaN", np.nan_to_num, NAN, 0.0),
]


@pytest.mark.parametrize(("fn", "x", "want"), [row[1:] for row in FIRST],
                         ids=[row[0] for row in FIRST])
def test_first_derivatives(fn, x, want):
    reverse = weft.grad(lambda x: fn(x) * 1.0)(np.float64(x))
    np.testing.assert_allclose(reverse, want, rtol=1e-12, atol=1e-15)
    forward = weft.jvp(fn, (np.float64(x),), (np.float64(1.0),))[1]
    np.testing.assert_allclose(forward, want, rtol=1e-12, atol=1e-15)


def test_branches_not_taken():
    """Reverse mode multiplies the 0 that comes back with the branch's own slope; see above."""
    def unsafe(x):
        return np.where(x > 0, np.sqrt(x), 0.0)

    assert np.isnan(weft.grad(unsafe)(0.0)) and weft.jvp(unsafe, (0.0,), (1.0,))[1] == 0
    mixed = np.array([1.0, NAN])
    assert np.isnan(weft.grad(lambda x: np.nansum(x * mixed))(1.0))
    np.testing.assert_array_equal(weft.grad(lambda x: np.nansum(x * x))(mixed), [2.0, NAN * 0])
    assert weft.grad(lambda x: np.nansum(np.where(np.isnan(mixed), 0.0, mixed) * x))(1.0) == 1


SECOND = [
    ("logaddexp of equals", lambda x: np.logaddexp(x, 1.0), 1.0, 0.25),
    ("logaddexp far apart", lambda x: np.logaddexp(x, -1000.0), 1000.0, 0.0),
    ("x ** 0 at 0", lambda x: np.power(x, 0.0), 0.0, 0.0),
    ("x ** 1 at 0", lambda x: np.power(x, 1.0), 0.0, 0.0),
    ("x ** 2 at 0", lambda x: np.power(x, 2.0), 0.0, 2.0),
    ("x ** 3 at 0", lambda x: np.power(x, 3.0), 0.0, 0.0),
    ("0 ** y", lambda y: np.power(0.0, y), 2.0, 0.0),
    ("x ** y by both", lambda x: np.power(x, x), 1.0, 2.0),
    ("norm of 0", lambda x: np.linalg.norm(x * np.ones(3)), 0.0, 0.0),
    ("std of equals", lambda x: np.std(x * np.ones(3)), 2.0, 0.0),
    ("maximum tie", lambda x: np.maximum(x * x, 1.0), 1.0, 1.0),
    ("tanh at 0", np.tanh, 0.0, 0.0), ("abs", lambda x: np.abs(x) ** 2, 0.0, 0.0),
]


@pytest.mark.parametrize(("fn", "x", "want"), [row[1:] for row in SECOND],
                         ids=[row[0] for row in SECOND])
def test_second_derivatives(fn, x, want):
    x = np.float64(x)
    for second in (weft.grad(weft.grad(fn)), weft.hessian(fn),
                   lambda x: weft.jvp(weft.grad(fn), (x,), (np.float64(1.0),))[1]):
        np.testing.assert_allclose(second(x), want, rtol=1e-12, atol=1e-15)


def test_mixed_derivatives_of_powers():
    """d²(x**y)/dx dy at y = 0 is 1/x."""
    assert weft.grad(weft.grad(np.power, 0), 1)(2.0, 0.0) == pytest.approx(0.5)
    assert weft.grad(weft.grad(np.power, 1), 0)(2.0, 0.0) == pytest.approx(0.5)


@pytest.mark.parametrize(("fn", "x", "want"), [
    (np.arcsinh, 300.0, 1 / 300), (lambda x: np.hypot(x, np.float16(300)), 400.0, 0.8),
    (lambda x: np.arctan2(x, np.float16(300)), 300.0, 1 / 600),
    (lambda x: x * np.float16(2) / np.float16(60000), 1.0, 2 / 60000),
    (lambda x: np.logaddexp(x, np.float16(0)), 30.0, 1.0), (np.tanh, 200.0, 0.0),
    (lambda x: np.mean(x * np.full(4096, 30, np.float16)), 1.0, 30.0),
])
def test_half_precision_does_not_overflow(fn, x, want):
    got = weft.grad(fn)(np.float16(x))
    assert got.dtype == np.float16
    np.testing.assert_allclose(got, want, rtol=4e-3)
