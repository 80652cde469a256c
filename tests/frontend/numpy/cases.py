"""The cases of every NumPy function: an expression, and the arrays its names stand for.

A row is an expression. `X` in it stands, in turn, for each of the arrays named after the `|`; other
names are looked up in `ARRAYS`. NumPy's own result is the expected one, or the error it raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from case_tables import CREATION, PRODUCTS, REDUCTIONS, SCANS, SHAPES

_RNG = np.random.default_rng(7)
_NAN = np.array([[1.5, np.nan, -np.inf, 0.0], [-0.0, 2.0, 7.25, np.nan], [3.0, 3.0, -1.0, np.inf]])

ARRAYS: dict[str, Any] = {
    "xb": np.array([[True, False, True, True], [False] * 4, [True] * 4]),
    "xi1": np.array([[1, -2, 3, 100], [5, 6, -128, 8], [127, 10, 0, -12]], "i1"),
    "xu1": np.array([[1, 2, 3, 200], [5, 6, 255, 8], [9, 10, 0, 12]], "u1"),
    "xi4": np.array([[1, -2, 3, 9], [5, 6, -7, 8], [9, 10, 0, -12]], "i4"),
    "xi": np.array([[4, -2, 3, 9], [5, 6, -7, 8], [9, 10, 0, -12]]),
    "xh": np.array([[1.5, -2.0, 0.25, 3.0], [5.0, 6.5, -7.0, 8.0], [9.0, 1.0, 0.0, -3.0]], "f2"),
    "xf": _RNG.normal(size=(3, 4)).astype("f4"),
    "x": _RNG.normal(size=(3, 4)),
    "y": _RNG.normal(size=(3, 4)),
    "xn": _NAN,
    "xc": (_RNG.normal(size=(3, 4)) + 1j * _RNG.normal(size=(3, 4))),
    "xc8": (_RNG.normal(size=(3, 4)) + 1j * _RNG.normal(size=(3, 4))).astype("c8"),
    "xr": _RNG.normal(size=(6, 8))[::-2, ::2],
    "xt": _RNG.normal(size=(4, 3)).T,
    "e": np.empty((0, 3)),
    "e1": np.empty(0),
    "z": np.array(2.5),
    "zi": np.array(-3),
    "s": np.float64(1.25),
    "si": np.int64(2),
    "v": _RNG.normal(size=4),
    "vf": _RNG.normal(size=4).astype("f4"),
    "vi": np.array([3, 1, -2, 1]),
    "vb": np.array([True, False, True, True]),
    "w": _RNG.normal(size=3),
    "u": np.array([0.5, 1.0, 1.5, 4.0]),              # increasing
    "i": np.array([2, 0, 1, -1]),
    "ii": np.array([[0, 1], [-1, 2]]),
    "iu": np.array([0, 2], "u1"),
    "m": np.array([True, False, True]),
    "t": _RNG.normal(size=(2, 3, 4)),
    "tf": _RNG.normal(size=(2, 3, 4)).astype("f4"),
    "t5": _RNG.normal(size=(2, 4, 5)),
    "q": _RNG.normal(size=(3, 3)),
    "qi": np.arange(9).reshape(3, 3) - 4,
    "c": _RNG.normal(size=(4, 5)),
    "long": _RNG.normal(size=40),
    "n": 2,
    "k": 3,
    "r": 0.5,
    "flag": True,
}
INDEXING = """
X[0] | x v xi
X[-1] | x
X[1, 2] | x xb
X[3] | x
X[0, 0, 0] | x
X[1:] | x v
X[:, 1] | x
X[::-1] | x
X[::-2, 1:-1] | x
X[2:0:-1, ::2] | x
X[5:] | x
X[None] | x z s v
X[:, None, 0] | x
X[..., 1] | x t
X[1, ...] | x v
X[0, ..., None, :2] | t
X[..., ...] | x
X[()] | x z s
X[...] | z s x
X[n] | x
X[n - 3:n] | x
X[np.int64(1)] | x
X[si] | x v
X[zi] | x
X[i] | v
X[i, i] | q c
X[ii] | x v
X[:, ii] | x
X[0, ii] | x
X[ii, 1] | x
X[ii, :, 0] | t
X[0, :, ii] | t
X[:, ii, 0] | t
X[0, ..., ii] | x t
X[ii, ..., ii] | q
X[:, [0, 1], [1, 2]] | t
X[[0, 1], :, [1, 2]] | t
X[None, [0, 1], [1, 2]] | t
X[[0, 1], None, [1, 2]] | t
X[iu] | x
X[[2, 0]] | x
X[[0, -1], ::2] | x
X[[9]] | x
X[[]] | x
X[np.array([1, 0])] | x
X[np.array(1)] | x v
X[np.array(1), ...] | v
X[[True, False, True]] | x
X[[True, False]] | x
X[np.array([[True, False, True, False]] * 3)] | x
X[:, np.array([True, False, True, True])] | x
X[1, np.array([True, False, True, True])] | x
X[True] | x
X[False, ..., 1] | x
X[r] | x
X['a'] | x
X[1.0] | x
X[v] | x
X[(slice(None), 1)] | x
X[:1][0][1] | x
x[[n, 0]] | x
x[i[:2], X] | i[:2]
[row.sum() for row in X] | x
[a for a in X] | v
sum(X) | v x
max(X.tolist() if 0 else [1]) | x
np.take(X, [0, 2]) | x v
np.take(X, i) | x v
np.take(X, ii, axis=1) | x
np.take(X, 1, axis=0) | x
np.take(X, [5, -7], axis=1, mode='clip') | x
np.take(X, [5, -7], axis=1, mode='wrap') | x
np.take(X, [5], axis=1) | x
np.take(X, i.astype(float)) | x
X.take([1, 0], axis=1) | x
np.take_along_axis(X, np.argsort(x, axis=1), axis=1) | x y
np.take_along_axis(X, i[None], axis=1) | x
np.take_along_axis(X, ii[:, :1], axis=0) | v[:,None]
np.take_along_axis(X, i, axis=None) | x
np.compress([True, False, True], X, axis=0) | x
np.compress([True, False, True], X) | x
X.compress([False, True], axis=1) | x
np.extract(np.array([True, False, True, True]), X) | v
np.choose(X, [v, v * 2, 7.0]) | np.abs(i)
np.choose([0, 1, 0, 1], [X, v]) | v
np.choose(X, (v, v * 2), mode='wrap') | vi
np.choose(X, (v, v * 2), mode='clip') | vi
np.where(X > 0, X, 0) | x xi xf
np.where(X, 1, 2.5) | xb x
np.where(xb, X, v) | x xi4 xf
np.where(m[:, None], X, w) | q
np.where(X > 0, 300, X) | xu1
np.where(z > 0, z, 1.0) | x
np.where(vb, X, 1) | v[:3]
np.select([X > 1, X > 0], [X, X * 2], default=-1) | x xi
np.select([X > 1], [1]) | x
np.clip(X, 0, 1) | x xi xf xn z s
np.clip(X, -1, None) | x
np.clip(X, None, v) | x
np.clip(X, v, v + 1) | x
np.clip(X, min=0.5) | x
np.clip(X, 300, 400) | xu1
X.clip(0) | x xi
X.clip(max=1) | x
np.piecewise(X, [X < 0, X >= 0], [lambda t: -t, 2.0]) | x
np.piecewise(X, [X < 0], [lambda t: -t, lambda t: t * 10]) | x
"""

SORTING = """
np.sort(X) | xi xf x xn xr xc xb xu1
np.sort(X, axis=0) | x xi
np.sort(X, axis=None) | x
np.sort(X, kind='stable') | x
np.argsort(X, axis=1) | x xf
np.argsort(X, axis=0, kind='stable') | xi xb x
X.argsort() | x
np.partition(np.sort(X, axis=None), 3) | x
np.lexsort((X, vi)) | v
np.sort_complex(X) | v vi vf
np.searchsorted(u, X) | x z s v xf xi r
np.searchsorted(u, X, side='right') | u x
np.searchsorted(X, [0.0, 2.0]) | u
np.searchsorted(X[::-1], 1.0, sorter=np.array([3, 2, 1, 0])) | u
X.searchsorted(v) | u
np.searchsorted(x, X) | v
np.digitize(X, u) | x v
np.digitize(X, [0.0, 1.0, 2.0], right=True) | x
np.digitize(X, [2.0, 1.0, 0.0]) | x
np.digitize(X, u[::-1]) | x
np.isin(X, [1, 2, 5]) | xi x
np.isin(X, vi, invert=True) | xi
np.histogram(X, bins=4, range=(-2, 2)) | x
np.histogram(X, bins=3) | x xi
np.histogram(X, bins=[-1.0, 0.0, 1.0, 3.0]) | x
np.histogram(X, bins=3, range=(-2, 2), density=True) | x
np.histogram(X, bins=3, range=(-2, 2), weights=y) | x
np.histogram_bin_edges(X, 4) | x
"""

NUMERIC = """
np.round(X) | x xi xh xf xc xb z s n r
np.round(X, 1) | x xf
np.round(X, -1) | x xi
np.around(X, 2) | x xf
X.round(1) | x z s
round(X, 2) | x
np.fix(X) | x xi z
np.nan_to_num(X) | xn x xi xc z s r
np.nan_to_num(X, nan=1.0, posinf=9.0, neginf=-9.0) | xn
np.isposinf(X), np.isneginf(X) | xn xi z
np.isclose(X, x + 1e-9) | x xn xf
np.isclose(X, xn, equal_nan=True) | xn
np.isclose(X, 1.5, rtol=0.5, atol=0.1) | x z r xi
np.allclose(X, x) | x xn
np.allclose(X, xn, equal_nan=True) | xn
np.array_equal(X, x) | x y v
np.array_equal(X, xn, equal_nan=True) | xn
np.array_equiv(X, v) | x v w
np.isreal(X), np.iscomplex(X) | x xc z
np.angle(X) | xc x xc8
np.angle(X, deg=True) | xc
np.conj(X) | xc x
np.sinc(X) | x xi z r xf
np.i0(X) | x xi v z
np.interp(X, u, v) | x z s r xn v
np.interp(X, u, v, left=-1.0, right=9.0) | x
np.interp(X, u, v + 1j) | x
np.interp(X, u, v, period=3.0) | x
np.interp(X, u, w) | x
np.unwrap(X) | long x
np.unwrap(X, axis=0, period=4) | x
np.convolve(X, w) | v vi vf
np.convolve(w, X) | v
np.convolve(X, w, 'same') | long v
np.convolve(X, v, mode='valid') | long
np.convolve(long, X) | long
np.convolve(X, [1, 2]) | e1
np.correlate(X, w) | v long
np.correlate(w, X) | v
np.correlate(X, w, 'full') | v
np.correlate(X, w[:2], mode='same') | v
np.correlate(v + 1j, X + 2j, 'full') | w
np.polyval([1.0, 2.0, 3.0], X) | x z s r xi xf
np.polyval(X, 2.0) | v
np.polyval(X, x) | w
np.polyadd(X, w) | v
np.polysub(w, X) | v
np.polymul(X, w) | v
np.polyder(X) | v
np.polyder(X, 2) | v
np.polyint(X) | v
np.polyint(X, 2, k=[1.0, 2.0]) | v
np.cov(X) | x v xc
np.cov(X, y) | x
np.cov(X, rowvar=False, bias=True) | x
np.cov(X, ddof=0) | x
np.cov(X, dtype=X.dtype) | x
np.corrcoef(X) | x
np.corrcoef(X, dtype=X.dtype) | x
np.corrcoef(X, w) | w + x[:, 0]
np.apply_over_axes(np.sum, X, [0, 2]) | t
np.add(X, 1), -X, abs(X), X ** 2, X // 2, X % 2 | x xi4
X + v, v - X, X * 2, 2 / X, X > 0, X == x | x xf
divmod(X, 2) | x xi
X & 1 | xi xb
X | xb | xb
~X | xb xi
X << 1 | xi
np.asarray(X) if 0 else X | x
X | x z s r n flag
(X, 1, 'text', None) | x
np.exp(X).max() - X.min() | x
X + 1j | x xf
X.dtype.type(2) * X | xf x
"""


def _expand(table: str) -> Iterator[str]:
    for line in filter(None, table.splitlines()):
        expression, _, names = line.rpartition(" | ")
        for name in names.split(" ") if "(" not in names and "+" not in names else [names]:
            yield re.sub(r"\bX\b", name, expression)


TABLES = {"reductions": REDUCTIONS, "scans": SCANS, "shapes": SHAPES, "creation": CREATION,
          "products": PRODUCTS, "indexing": INDEXING, "sorting": SORTING, "numeric": NUMERIC}
CASES: list[str] = [e for table in TABLES.values() for e in dict.fromkeys(_expand(table))]


def arguments(expression: str) -> list[str]:
    """The names of the arrays an expression takes, in order of appearance."""
    words = re.findall(r"(?<![\w.'\"])([A-Za-z_]\w*)(?!\w*\s*=[^=])(?!['\"])", expression)
    return list(dict.fromkeys(w for w in words if w in ARRAYS))
