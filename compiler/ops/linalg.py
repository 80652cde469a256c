"""Matrices taken apart, and systems solved: the ops that LAPACK's routines stand behind.

Operands are stacks of matrices: the last two axes are a matrix, those before them count matrices.
The meaning of each is NumPy's function of that name. Like NumPy, single precision is computed in
double and rounded once, but for `triangular_solve` and `lu`, which NumPy does not have.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from weft.compiler.errors import DTypeError, LinAlgError, ShapeError
from weft.compiler.ops.registry import Attrs, Op, register
from weft.compiler.types import DTYPES, Dim, DType, TensorType, TupleType, shape_text

__all__ = ["smaller"]

Types = tuple[TensorType, ...]
_FLOATS = ("f32", "f64", "c64", "c128")
_TRANSPOSES = ("NO_TRANSPOSE", "TRANSPOSE", "ADJOINT")


# ---- types

def smaller(m: Dim, n: Dim) -> Dim:
    """The smaller of two sizes; a `ShapeError` where that is not known."""
    if isinstance(m, int) and isinstance(n, int):
        return min(m, n)
    if m == n:
        return m
    raise ShapeError(f"which of the sizes {m} and {n} is the smaller is not known",
                     expected="known sizes, or a square matrix")


def _matrix(name: str, t: TensorType, square: bool = False) -> tuple[tuple[Dim, ...], Dim, Dim]:
    """Leading axes, rows and columns of a stack of matrices, refused in NumPy's words."""
    if t.dtype.name not in _FLOATS:
        raise DTypeError(f"array type {t.dtype.numpy.name} is unsupported in linalg",
                         expected=f"one of {', '.join(_FLOATS)}")
    if t.rank < 2:
        raise LinAlgError(f"{t.rank}-dimensional array given. Array must be at least "
                          "two-dimensional", expected=f"a matrix for {name}")
    *lead, m, n = t.shape
    if square and m != n:
        raise LinAlgError("Last 2 dimensions of the array must be square",
                          expected=f"a square matrix for {name}, not {shape_text((m, n))}")
    return tuple(lead), m, n


def _complex(d: DType) -> DType:
    return DTYPES["c64" if d.itemsize == 4 or d.name == "c64" else "c128"]


def _tensors(dtype: DType, *shapes: tuple[Dim, ...]) -> TupleType:
    return TupleType(tuple(TensorType(s, dtype) for s in shapes))


def _square(name: str) -> Callable[[Types, Attrs], TensorType]:
    def infer(types: Types, attrs: Attrs) -> TensorType:
        _matrix(name, types[0], square=True)
        return types[0]
    return infer


def _det(types: Types, attrs: Attrs) -> TensorType:
    lead, _, _ = _matrix("det", types[0], square=True)
    return TensorType(lead, types[0].dtype)


def _slogdet(types: Types, attrs: Attrs) -> TupleType:
    lead, _, _ = _matrix("slogdet", types[0], square=True)
    dtype = types[0].dtype
    return TupleType((TensorType(lead, dtype), TensorType(lead, dtype.real)))


def _pair(name: str, types: Types, left: bool = True) -> TensorType:
    """The right-hand side of a system, whose matrices go with those of the first operand."""
    a, b = types
    lead, m, _ = _matrix(name, a, square=True)
    other, rows, columns = _matrix(name, b)
    if a.dtype is not b.dtype:
        raise DTypeError(f"{name} got {a.dtype} and {b.dtype}", expected="one element type")
    if lead != other or (rows if left else columns) != m:
        raise ShapeError(f"{name} got {a} and {b}",
                         expected="the same leading axes, and a size that fits the matrix")
    return b


def _triangular_solve(types: Types, attrs: Attrs) -> TensorType:
    if attrs["transpose_a"] not in _TRANSPOSES:
        raise ShapeError(f"triangular_solve got transpose_a={attrs['transpose_a']!r}",
                         expected=f"one of {', '.join(_TRANSPOSES)}")
    return _pair("triangular_solve", types, attrs["left_side"])


def _lu(types: Types, attrs: Attrs) -> TupleType:
    lead, m, n = _matrix("lu", types[0])
    i32 = DTYPES["i32"]
    return TupleType((types[0], TensorType((*lead, smaller(m, n)), i32),
                      TensorType((*lead, m), i32)))


def _qr(types: Types, attrs: Attrs) -> TupleType:
    lead, m, n = _matrix("qr", types[0])
    mode, dtype = attrs["mode"], types[0].dtype
    if mode not in ("reduced", "complete", "r", "raw"):
        raise ShapeError(f"Unrecognized mode '{mode}'", expected="reduced, complete, r or raw")
    k = m if mode == "complete" else smaller(m, n)
    if mode == "raw":
        return _tensors(dtype, (*lead, n, m), (*lead, k))
    r = (*lead, k, n)
    return _tensors(dtype, r) if mode == "r" else _tensors(dtype, (*lead, m, k), r)


def _svd(types: Types, attrs: Attrs) -> TupleType:
    lead, m, n = _matrix("svd", types[0])
    k, dtype = smaller(m, n), types[0].dtype
    s = TensorType((*lead, k), dtype.real)
    if not attrs["compute_uv"]:
        return TupleType((s,))
    full = attrs["full_matrices"]
    return TupleType((TensorType((*lead, m, m if full else k), dtype), s,
                      TensorType((*lead, n if full else k, n), dtype)))


def _eigh(types: Types, attrs: Attrs) -> TupleType:
    lead, m, _ = _matrix("eigh", types[0], square=True)
    w = TensorType((*lead, m), types[0].dtype.real)
    return TupleType((w, types[0]) if attrs["vectors"] else (w,))


def _eig(types: Types, attrs: Attrs) -> TupleType:
    lead, m, _ = _matrix("eig", types[0], square=True)
    shapes = ((*lead, m), (*lead, m, m)) if attrs["vectors"] else ((*lead, m),)
    return _tensors(_complex(types[0].dtype), *shapes)


def _lstsq(types: Types, attrs: Attrs) -> TupleType:
    a, b = types
    lead, m, n = _matrix("lstsq", a)
    other, rows, k = _matrix("lstsq", b)
    if a.dtype is not b.dtype:
        raise DTypeError(f"lstsq got {a.dtype} and {b.dtype}", expected="one element type")
    if lead != other or m != rows:
        raise LinAlgError("Incompatible dimensions", expected=f"as many rows in {b} as in {a}")
    real = a.dtype.real
    out = (TensorType((*lead, n, k), a.dtype), TensorType((*lead, k), real),
           TensorType(lead, DTYPES["i32"]), TensorType((*lead, smaller(m, n)), real))
    return TupleType(out)


def _pinv(types: Types, attrs: Attrs) -> TensorType:
    lead, m, n = _matrix("pinv", types[0])
    return TensorType((*lead, n, m), types[0].dtype)


# ---- meanings

def _adjoint(xp: Any, a: Any) -> Any:
    return xp.conj(xp.swapaxes(a, -1, -2))


def _triangular_ref(xp: Any, a: Any, b: Any, left_side: bool, lower: bool, transpose_a: str,
                    unit_diagonal: bool) -> Any:
    """Forward substitution; the other cases are brought to that one."""
    if transpose_a != "NO_TRANSPOSE":
        a = xp.swapaxes(a, -1, -2) if transpose_a == "TRANSPOSE" else _adjoint(xp, a)
        lower = not lower
    if not left_side:
        turned = _triangular_ref(xp, xp.swapaxes(a, -1, -2), xp.swapaxes(b, -1, -2), True,
                                 not lower, "NO_TRANSPOSE", unit_diagonal)
        return xp.swapaxes(turned, -1, -2).copy()
    rows = range(a.shape[-1])
    x = b.copy()
    for i in rows if lower else reversed(rows):
        known = slice(0, i) if lower else slice(i + 1, None)
        x[..., i, :] -= xp.einsum("...k,...kn->...n", a[..., i, known], x[..., known, :])
        if not unit_diagonal:
            x[..., i, :] /= a[..., i, i][..., None]
    return x


def _solve_ref(xp: Any, a: Any, b: Any, check: bool) -> Any:
    try:
        return xp.linalg.solve(a, b)
    except np.linalg.LinAlgError:
        if check:
            raise
    if a.ndim == 2:
        return xp.full_like(b, np.nan)
    return xp.stack([_solve_ref(xp, p, q, check) for p, q in zip(a, b)])


def _lu_ref(xp: Any, x: Any) -> Any:
    """Gaussian elimination, the greatest of a column as pivot (complex: by |re| + |im|)."""
    *lead, m, n = x.shape
    flat = x.reshape(math.prod(lead), m, n).copy()
    pivots = np.zeros((len(flat), min(m, n)), np.int32)
    order = np.tile(np.arange(m, dtype=np.int32), (len(flat), 1))
    for a, pivot, perm in zip(flat, pivots, order):
        for j in range(min(m, n)):
            column = a[j:, j]
            size = xp.abs(column.real) + xp.abs(column.imag)
            p = pivot[j] = j + (int(xp.argmax(size)) if not xp.isnan(size[0]) else 0)
            a[[j, p]], perm[[j, p]] = a[[p, j]], perm[[p, j]]
            if a[j, j] != 0:
                a[j + 1:, j] /= a[j, j]
            a[j + 1:, j + 1:] -= a[j + 1:, j, None] * a[j, None, j + 1:]
    return (flat.reshape(x.shape), pivots.reshape(*lead, min(m, n)), order.reshape(*lead, m))


def _qr_ref(xp: Any, x: Any, mode: str) -> Any:
    found = xp.linalg.qr(x, mode)
    return tuple(found) if isinstance(found, tuple) else (found,)


def _svd_ref(xp: Any, x: Any, full_matrices: bool, compute_uv: bool) -> Any:
    found = xp.linalg.svd(x, full_matrices, compute_uv)
    return tuple(found) if compute_uv else (found,)


def _eigh_ref(xp: Any, x: Any, lower: bool, vectors: bool) -> Any:
    triangle = "L" if lower else "U"
    if not vectors:
        return (xp.linalg.eigvalsh(x, triangle),)
    return tuple(xp.linalg.eigh(x, triangle))


def _eig_ref(xp: Any, x: Any, vectors: bool) -> Any:
    found = tuple(xp.linalg.eig(x)) if vectors else (xp.linalg.eigvals(x),)
    kind = np.complex64 if x.dtype.name in ("float32", "complex64") else np.complex128
    return tuple(part.astype(kind) for part in found)


def _lstsq_ref(xp: Any, a: Any, b: Any, rcond: float | None, full_rank: bool) -> Any:
    *lead, m, n = a.shape
    k, count = b.shape[-1], math.prod(lead)
    real = a.real.dtype
    outs = (np.empty((count, n, k), a.dtype), np.full((count, k), np.nan, real),
            np.empty(count, np.int32), np.empty((count, min(m, n)), real))
    for i, (p, q) in enumerate(zip(a.reshape(count, m, n), b.reshape(count, m, k))):
        x, residuals, rank, s = xp.linalg.lstsq(p, q, rcond)
        if full_rank and rank < n:
            raise np.linalg.LinAlgError(_RANK)
        if m >= n and rank == n:
            outs[1][i] = residuals if m > n else 0
        outs[0][i], outs[2][i], outs[3][i] = x, rank, s
    return tuple(o.reshape((*lead, *o.shape[1:])) for o in outs)


# ---- samples

def _sine(*shape: int, seed: float = 1.0) -> Any:
    """Numbers without a pattern that would make matrices special."""
    n = math.prod(shape)
    return np.sin(seed + 1.7 * np.arange(1.0, n + 1.0) ** 1.3).reshape(shape)


def _stacks(*shapes: tuple[int, ...]) -> list[Any]:
    """Matrices of these shapes in all four element types, the first shape in each."""
    out = [_sine(*s).astype(t) for t in ("f8", "f4") for s in shapes[:1 if t == "f4" else None]]
    wide = [_sine(*s) + 1j * _sine(*s, seed=2.0) for s in shapes]
    return [*out, *wide, wide[0].astype("c8")]


_SQUARE = ((3, 3), (2, 4, 4), (1, 1), (0, 3, 3), (2, 0, 0), (1, 17, 17))
_OBLONG = ((5, 3), (3, 5), (2, 4, 4), (2, 3, 1), (0, 2, 3), (2, 0, 3), (20, 7))


def _definite() -> list[Any]:
    return [x @ x.conj().swapaxes(-1, -2) + x.shape[-1] * np.eye(x.shape[-1], dtype=x.dtype)
            for x in _stacks(*_SQUARE)]


def _each(arrays: list[Any], *attrs: dict[str, Any]) -> list[Any]:
    return [((x,), dict(a)) for x in arrays for a in attrs]


def _systems() -> list[Any]:
    definite = _definite()
    singular = np.stack([definite[0], np.ones((3, 3))])
    return [*(((a, _sine(*a.shape[:-1], n).astype(a.dtype)), {"check": True})
              for a in definite for n in (1, 3)),
            ((definite[0], np.empty((3, 0))), {"check": True}),
            ((singular, _sine(2, 3, 2)), {"check": False})]


def _triangular_samples() -> list[Any]:
    out = []
    for number, a in enumerate([*_definite(), _definite()[0]]):
        for left in (True, False):
            for i, how in enumerate(_TRANSPOSES):
                shape = (*a.shape[:-1], 5) if left else (*a.shape[:-2], 2, a.shape[-1])
                attrs = {"left_side": left, "lower": bool((number + i) % 2), "transpose_a": how,
                         "unit_diagonal": (number + left) % 3 == 0}
                out.append(((a, _sine(*shape).astype(a.dtype)), attrs))
    return out


def _least_squares() -> list[Any]:
    return [((a, _sine(*a.shape[:-1], 2).astype(a.dtype)), {"rcond": None, "full_rank": False})
            for a in _stacks((5, 3), (3, 5), (2, 4, 4), (2, 6, 1), (0, 2, 3))]


# ---- declarations

def _rule(name: str) -> Any:
    """A rule of `linalg_rules`, which is loaded when the first is used: most programs need none."""
    def rule(*args: Any) -> Any:
        from weft.compiler.ops import linalg_rules  # see above

        return getattr(linalg_rules, name)(*args)
    return rule


_RANK = ("the matrix does not have full column rank, so that NumPy's residuals are empty, and a "
         "traced result cannot change its shape")
_SINGULAR, _EIGENVALUES = "Singular matrix", "Eigenvalues did not converge"
_INFINITE = "Array must not contain infs or NaNs"
_batch = _rule("batch")

register(Op("cholesky", "factorization", 1, "the triangle L (`lower`) with x = L L^H, or U with "
            "x = U^H U, of which the other triangle is 0; reads that triangle of x only",
            _square("cholesky"), lambda xp, x, lower: xp.linalg.cholesky(x, upper=not lower),
            attrs=("lower",), cost=0.33, fails=("Matrix is not positive definite",),
            samples=lambda: _each(_definite(), {"lower": True}, {"lower": False}),
            jvp=_rule("cholesky_jvp"), batch=_batch))

register(Op("triangular_solve", "factorization", 2, "x with op(a) x = b (`left_side`) or "
            "x op(a) = b, where op is `transpose_a` and only the `lower` or upper triangle of a "
            "is read; with `unit_diagonal` its diagonal is taken for ones. No error for zeros on "
            "the diagonal: the result is infinite or NaN", _triangular_solve, _triangular_ref,
            attrs=("left_side", "lower", "transpose_a", "unit_diagonal"), cost=1,
            samples=_triangular_samples, jvp=_rule("triangular_solve_jvp"),
            transpose=_rule("triangular_solve_transpose"), batch=_rule("triangular_solve_batch")))

register(Op("lu", "factorization", 1, "the factors L (below the diagonal, whose ones are left out) "
            "and U of x with its rows permuted, the row that each was swapped with, and the "
            "permutation", _lu, _lu_ref, cost=0.67,
            samples=lambda: _each(_stacks(*_OBLONG), {}),
            jvp=_rule("lu_jvp"), batch=_batch))

register(Op("solve", "factorization", 2, "x with a x = b; both are matrices. Singular ones are an "
            "error with `check`, else their x is NaN",
            lambda types, attrs: _pair("solve", types), _solve_ref, attrs=("check",), cost=2.67,
            fails=(_SINGULAR,), samples=_systems, jvp=_rule("solve_jvp"),
            transpose=_rule("solve_transpose"), batch=_rule("solve_batch")))

register(Op("det", "factorization", 1, "the determinant", _det, lambda xp, x: xp.linalg.det(x),
            cost=0.67, samples=lambda: _each(_stacks(*_SQUARE), {}),
            jvp=_rule("det_jvp"), batch=_batch))

register(Op("slogdet", "factorization", 1, "the determinant's sign (or its point on the unit "
            "circle) and the logarithm of its absolute value", _slogdet,
            lambda xp, x: tuple(xp.linalg.slogdet(x)), cost=0.67,
            samples=lambda: _each(_stacks(*_SQUARE), {}),
            jvp=_rule("slogdet_jvp"), batch=_batch))

register(Op("qr", "factorization", 1, "the orthonormal Q and the upper triangle R with x = Q R; "
            "of `mode` reduced, complete, r (R alone), raw (the reflectors, transposed, and their "
            "factors)", _qr, _qr_ref, attrs=("mode",), cost=2,
            fails=("Incorrect argument found while performing QR factorization",),
            samples=lambda: _each(_stacks(*_OBLONG), *({"mode": m} for m in (
                "reduced", "complete", "r", "raw"))), jvp=_rule("qr_jvp"), batch=_batch))

register(Op("svd", "factorization", 1, "U, the singular values in descending order, and V^H; the "
            "values alone without `compute_uv`", _svd, _svd_ref,
            attrs=("full_matrices", "compute_uv"), cost=10, fails=("SVD did not converge",),
            samples=lambda: _each(_stacks(*_OBLONG), *(
                {"full_matrices": f, "compute_uv": u}
                for f, u in ((True, True), (False, True), (False, False)))),
            jvp=_rule("svd_jvp"), batch=_batch))

register(Op("eigh", "factorization", 1, "the eigenvalues of a Hermitian matrix in ascending order "
            "and its eigenvectors, as columns; reads the `lower` or the upper triangle only",
            _eigh, _eigh_ref, attrs=("lower", "vectors"), cost=9, fails=(_EIGENVALUES,),
            samples=lambda: _each(_stacks(*_SQUARE), *(
                {"lower": low, "vectors": v} for low in (True, False) for v in (True, False))),
            jvp=_rule("eigh_jvp"), batch=_batch))

register(Op("eig", "factorization", 1, "the eigenvalues of a matrix and its right eigenvectors, as "
            "columns; both complex", _eig, _eig_ref, attrs=("vectors",), cost=25,
            fails=(_EIGENVALUES, _INFINITE),
            samples=lambda: _each(_stacks(*_SQUARE), {"vectors": True}, {"vectors": False}),
            jvp=_rule("eig_jvp"), batch=_batch))

register(Op("lstsq", "factorization", 2, "the shortest x that makes |b - a x| least, the squares "
            "of that for each column, the rank of a, and its singular values; those below "
            "`rcond` times the greatest count as 0. With `full_rank`, less rank is an error; "
            "without, the squares are NaN then", _lstsq, _lstsq_ref,
            attrs=("rcond", "full_rank"), cost=10,
            fails=("SVD did not converge in Linear Least Squares", _RANK),
            samples=_least_squares, jvp=_rule("lstsq_jvp"), batch=_batch))

register(Op("pinv", "factorization", 1, "the pseudo-inverse; singular values up to `rcond` times "
            "the greatest count as 0", _pinv, lambda xp, x, rcond: xp.linalg.pinv(x, rcond),
            attrs=("rcond",), cost=12, decompose=_rule("pinv_parts"),
            samples=lambda: _each(_stacks(*_OBLONG[:4]), {"rcond": 1e-15}),
            jvp=_rule("pinv_jvp"), batch=_batch))
