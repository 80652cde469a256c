"""`weft.numpy.r_` and `c_` against NumPy's own."""

import numpy as np
import pytest

import weft
import weft.numpy as wnp

X = np.arange(6.0).reshape(3, 2)
V = np.array([1.5, 2.5, 3.5])

CASES = {
    "r_": lambda r, x, v: r[v], "r_ twice": lambda r, x, v: r[v, v * 2],
    "r_ matrices": lambda r, x, v: r[x, x + 1], "r_ numbers": lambda r, x, v: r[v, 0, 1.5],
    "r_ slices": lambda r, x, v: r[v, 1:4, :3, 0:1:0.25], "r_ points": lambda r, x, v: r[v, 0:1:5j],
    "r_ axis": lambda r, x, v: r["-1", x, x], "r_ ndmin": lambda r, x, v: r["0,2", v, v],
    "r_ trans1d": lambda r, x, v: r["0,2,0", v, v], "r_ middle": lambda r, x, v: r["1,3,1", v, v],
    "r_ negative": lambda r, x, v: r["1,3,-2", v, v],
    "c_": lambda c, x, v: c[v, v * 2], "c_ mixed": lambda c, x, v: c[x, v, x],
    "c_ numbers": lambda c, x, v: c[1.0, 2, v[0]],
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("case", CASES)
def test_against_numpy(case, dtype):
    fn, name = CASES[case], case[:2]
    x, v = X.astype(dtype), V.astype(dtype)
    want = fn(getattr(np, name), x, v)
    for got in (weft.jit(lambda x, v: fn(getattr(wnp, name), x, v))(x, v),
                fn(getattr(wnp, name), x, v)):
        assert got.shape == want.shape and got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


def test_matrices_are_refused():
    with pytest.raises(weft.errors.UnsupportedError, match="directive 'r' makes a matrix"):
        weft.jit(lambda v: wnp.r_["r", v])(V)
