"""Linear algebra: systems of equations, determinants, factorizations, and what NumPy makes of them.

Like NumPy, integers and single precision are computed in double; results of single precision are
rounded at the end. Where NumPy composes a function of others, so does this, in the same order.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.linalg import _linalg

from weft.compiler.errors import LinAlgError, UnsupportedError
from weft.compiler.ir import Node
from weft.compiler.types import DTYPES, DType, TupleType
from weft.frontend.numpy.common import Array, as_array, build, lift, result, ufunc
from weft.frontend.numpy.linalg_core import check_matrices, check_square, matmul
from weft.frontend.numpy.picks import along_axis
from weft.frontend.numpy.shapes import ravel
from weft.frontend.numpy.ufuncs import broadcast_shape, shape_str
from weft.frontend.problems import dtype_error, problem, shape_error
from weft.frontend.table import implements
from weft.frontend.tracer import Tracer

__all__ = ["singular_values"]

_NAMED: Any = _linalg          # the classes of named results
_EPS = {"f32": 2.0 ** -23, "f64": 2.0 ** -52}


def _computed(*xs: Node) -> tuple[list[Node], DType]:
    """The operands in double precision, and the element type of results: `_commonType` of NumPy."""
    for x in xs:
        if x.dtype.name == "f16":
            raise dtype_error("array type float16 is unsupported in linalg",
                              repair="convert to float32 with astype")
    real = DTYPES["f32" if all(x.dtype.name in ("f32", "c64") for x in xs) else "f64"]
    if not any(x.dtype.is_complex for x in xs):
        return [build().convert(x, "f64") for x in xs], real
    return ([build().convert(x, "c128") for x in xs],
            DTYPES["c64" if real.name == "f32" else "c128"])


def _rounded(node: Node, dtype: DType) -> Node:
    """A result in its element type: the real or the complex one of that precision."""
    if not node.dtype.is_inexact:
        return node
    if node.dtype.is_complex:
        return build().convert(node, "c64" if dtype.name in ("f32", "c64") else "c128")
    return build().convert(node, dtype.real)


def _factored(op: str, x: Node, **attrs: Any) -> list[Node]:
    """The results of an op on a matrix."""
    (wide,), dtype = _computed(x)
    node = build().add(op, wide, **attrs)
    if not isinstance(node.type, TupleType):
        return [_rounded(node, dtype)]
    parts = [build().get(node, index=i) for i in range(len(node.type.elements))]
    return [_rounded(p, dtype) for p in parts]


def _transposed(x: Node) -> Node:
    n = len(x.shape)
    return build().transpose(x, perm=(*range(n - 2), n - 1, n - 2))


def _conjugate(x: Node) -> Node:
    return build().conj(x) if x.dtype.is_complex else x


def _identity(like: Node) -> Node:
    b, n = build(), len(like.shape)
    row, column = (b.iota(shape=like.shape, axis=n + a, dtype=DTYPES["i64"]) for a in (-2, -1))
    return b.convert(b.eq(row, column), like.dtype)


# ---- systems of equations

@implements(np.linalg.solve)
def _solve(a: Array, b: Array) -> Any:
    x, y = lift(a).node, lift(b).node
    check_square(x)
    (x, y), dtype = _computed(x, y)
    flat = len(y.shape) == 1
    if not y.shape:
        raise shape_error("solve: Input operand 1 does not have enough dimensions (has 0, gufunc "
                          "core with signature (m,m),(m,n)->(m,n) requires 2)")
    name, signature = ("solve1", "(m,m),(m)->(m)") if flat else ("solve", "(m,m),(m,n)->(m,n)")
    rows = y.shape[0 if flat else -2]
    if rows != x.shape[-1]:
        raise shape_error(f"{name}: Input operand 1 has a mismatch in its core dimension 0, with "
                          f"gufunc signature {signature} (size {rows} is different from "
                          f"{x.shape[-1]})", f"as many rows as columns in {shape_str(x.shape)}")
    if flat:
        y = build().reshape(y, (*y.shape, 1))
    node = _rounded(_system(x, y), dtype)
    return as_array(build().reshape(node, node.shape[:-1]) if flat else node)


def _system(x: Node, y: Node, check: bool = True) -> Node:
    """The solution of x·s = y, leading axes broadcast."""
    b = build()
    lead = broadcast_shape([x.shape[:-2], y.shape[:-2]])
    return b.solve(b.broadcast(x, (*lead, *x.shape[-2:])), b.broadcast(y, (*lead, *y.shape[-2:])),
                   check=check)


@implements(np.linalg.inv)
def _inv(a: Array) -> Tracer:
    x = lift(a).node
    check_square(x)
    return as_array(_inverse(x))


def _inverse(x: Node, check: bool = True) -> Node:
    """LAPACK inverts by solving for the unit matrix."""
    (wide,), dtype = _computed(x)
    return _rounded(_system(wide, _identity(wide), check), dtype)


@implements(np.linalg.tensorsolve)
def _tensorsolve(a: Array, b: Array, axes: Any = None) -> Any:
    x, y = lift(a), lift(b)
    rank = len(x.node.shape)
    if axes is not None:
        order = list(range(rank))
        for k in axes:
            order.remove(k)
            order.insert(rank, k)
        x = as_array(build().transpose(x.node, perm=tuple(order)))
    shape = x.node.shape[-(rank - len(y.node.shape)):]
    n: Any = math.prod(shape)
    if x.node.tensor.size != n * n:
        raise problem(LinAlgError, "Input arrays must satisfy the requirement "
                      "prod(a.shape[b.ndim:]) == prod(a.shape[:b.ndim])")
    out = _solve(as_array(build().reshape(x.node, (n, n))), ravel(y))
    return as_array(build().reshape(out.node, shape))


@implements(np.linalg.tensorinv)
def _tensorinv(a: Array, ind: Any = 2) -> Tracer:
    x, at = lift(a).node, operator.index(ind)
    if at <= 0:
        raise ValueError("Invalid ind argument.")
    n: Any = math.prod(x.shape[at:])
    flat = build().reshape(x, (n, x.tensor.size // n if n else 0))
    check_square(flat)
    return as_array(build().reshape(_inverse(flat), (*x.shape[at:], *x.shape[:at])))


@implements(np.linalg.lstsq)
def _lstsq(a: Array, b: Array, rcond: Any = None) -> Any:
    x, y = lift(a).node, lift(b).node
    flat = len(y.shape) == 1
    if flat:
        y = build().reshape(y, (*y.shape, 1))
    for m in (x, y):
        if len(m.shape) != 2:
            raise problem(LinAlgError, f"{len(m.shape)}-dimensional array given. Array must be "
                          "two-dimensional", expected="a matrix")
    if x.shape[0] != y.shape[0]:
        raise problem(LinAlgError, "Incompatible dimensions",
                      expected=f"as many rows in {shape_str(x.shape)} and {shape_str(y.shape)}")
    return _least_squares(x, y, None if rcond is None else _number(rcond, "rcond"), flat)


def _number(value: Any, name: str) -> float:
    if isinstance(value, Tracer):
        raise problem(UnsupportedError, f"{name} is part of the compiled code and cannot be "
                      "computed in it", repair=f"pass {name} as a Python number")
    return float(value)


def _least_squares(x: Node, y: Node, rcond: float | None, flat: bool) -> Any:
    """NumPy gives no residuals where the rank is not full, and that shows in the shape of the
    result; so what gives residuals is a node of its own, which fails then."""
    bld, (m, n), k = build(), x.shape, y.shape[-1]
    (x, y), dtype = _computed(x, y)
    if k == 0:
        y = bld.broadcast(bld.scalar(0, y.dtype), (m, 1), ())
    found = bld.lstsq(x, y, rcond=rcond, full_rank=False)
    out = _rounded(bld.get(found, index=0), dtype)
    empty = not isinstance(m, int) or not isinstance(n, int) or m <= n
    residuals = bld.broadcast(bld.scalar(0, dtype.real), (0,), ())
    if not empty:
        full = bld.lstsq(x, y, rcond=rcond, full_rank=True)
        residuals = _rounded(bld.get(full, index=1), dtype)
    if k == 0:
        out = bld.slice(out, start=(0, 0), limit=(n, 0), stride=(1, 1))
        residuals = residuals if empty else bld.slice(residuals, start=(0,), limit=(0,),
                                                      stride=(1,))
    out = bld.reshape(out, out.shape[:1]) if flat else out
    return (as_array(out), as_array(residuals), result(bld.get(found, index=2)),
            as_array(_rounded(bld.get(found, index=3), dtype)))


# ---- determinants

@implements(np.linalg.det)
def _det(a: Array) -> Tracer:
    x = lift(a).node
    check_square(x)
    return result(_factored("det", x)[0])


@implements(np.linalg.slogdet)
def _slogdet(a: Array) -> Any:
    x = lift(a).node
    check_square(x)
    return _NAMED.SlogdetResult(*map(result, _factored("slogdet", x)))


# ---- factorizations

@implements(np.linalg.cholesky)
def _cholesky(a: Array, /, *, upper: bool = False) -> Tracer:
    x = lift(a).node
    check_square(x)
    return as_array(_factored("cholesky", x, lower=not upper)[0])


@implements(np.linalg.qr)
def _qr(a: Array, mode: str = "reduced") -> Any:
    if mode not in ("reduced", "complete", "r", "raw"):
        if mode in ("f", "full", "e", "economic"):
            raise problem(UnsupportedError, f"np.linalg.qr with the old mode {mode!r} is not "
                          "traced", expected="reduced, complete, r or raw")
        raise ValueError(f"Unrecognized mode '{mode}'")
    x = lift(a).node
    check_matrices(x)
    parts = [as_array(p) for p in _factored("qr", x, mode=mode)]
    if mode == "r":
        return parts[0]
    return tuple(parts) if mode == "raw" else _NAMED.QRResult(*parts)


@implements(np.linalg.svd)
def _svd(a: Array, full_matrices: bool = True, compute_uv: bool = True,
         hermitian: bool = False) -> Any:
    x = lift(a).node
    if not compute_uv:
        return as_array(singular_values(x, hermitian))
    return _NAMED.SVDResult(*map(as_array, _singular_vectors(x, full_matrices, hermitian)))


def _singular_vectors(x: Node, full: bool, hermitian: bool) -> Sequence[Node]:
    if not hermitian:
        check_matrices(x)
        return _factored("svd", x, full_matrices=bool(full), compute_uv=True)
    check_square(x)
    b = build()
    s, u = _factored("eigh", x, lower=True, vectors=True)
    last = len(s.shape) - 1
    sign, size = b.copysign(b.broadcast(b.scalar(1, s.dtype), s.shape, ()), s), b.abs(s)
    order = b.reverse(b.argsort(size, axis=last, stable=False), axes=(last,))
    sign, size = (along_axis(v, order, last, "clip") for v in (sign, size))
    wide = b.broadcast(order, u.shape, (*range(last), last + 1))
    u = along_axis(u, wide, last + 1, "clip")
    signs = b.broadcast(b.convert(sign, u.dtype), u.shape, (*range(last), last + 1))
    return u, size, _conjugate(_transposed(b.mul(u, signs)))


def singular_values(x: Node, hermitian: bool = False) -> Node:
    """The singular values of matrices, in descending order."""
    if not hermitian:
        check_matrices(x)
        return _factored("svd", x, full_matrices=False, compute_uv=False)[0]
    check_square(x)
    b = build()
    (w,) = _factored("eigh", x, lower=True, vectors=False)
    last = len(w.shape) - 1
    return b.reverse(b.sort(b.abs(w), axis=last, stable=False), axes=(last,))


@implements(np.linalg.svdvals)
def _svdvals(x: Array, /) -> Tracer:
    return as_array(singular_values(lift(x).node))


def _triangle(UPLO: str) -> bool:
    side = UPLO.upper()
    if side not in ("L", "U"):
        raise ValueError("UPLO argument must be 'L' or 'U'")
    return side == "L"


@implements(np.linalg.eigh)
def _eigh(a: Array, UPLO: str = "L") -> Any:
    lower, x = _triangle(UPLO), lift(a).node
    check_square(x)
    return _NAMED.EighResult(*map(as_array, _factored("eigh", x, lower=lower, vectors=True)))


@implements(np.linalg.eigvalsh)
def _eigvalsh(a: Array, UPLO: str = "L") -> Tracer:
    lower, x = _triangle(UPLO), lift(a).node
    check_square(x)
    return as_array(_factored("eigh", x, lower=lower, vectors=False)[0])


@implements(np.linalg.eig)
def _eig(a: Array) -> Any:
    """Always complex: NumPy's element type depends on whether all eigenvalues happen to be real."""
    x = lift(a).node
    check_square(x)
    return _NAMED.EigResult(*map(as_array, _factored("eig", x, vectors=True)))


@implements(np.linalg.eigvals)
def _eigvals(a: Array) -> Tracer:
    x = lift(a).node
    check_square(x)
    return as_array(_factored("eig", x, vectors=False)[0])


# ---- by singular values

@implements(np.linalg.pinv)
def _pinv(a: Array, rcond: Any = None, hermitian: bool = False, *, rtol: Any = np._NoValue
          ) -> Any:
    x = lift(a).node
    if rcond is not None and rtol is not np._NoValue:
        raise ValueError("`rtol` and `rcond` can't be both set.")
    check_matrices(x)
    if rcond is None and rtol is np._NoValue:
        rcond = 1e-15
    elif rcond is None and rtol is None:
        rcond = _largest(x) * _EPS[x.dtype.real.name if x.dtype.is_inexact else "f64"]
    elif rcond is None:
        rcond = rtol
    if not x.dtype.is_inexact:
        x = build().convert(x, "f64")
    if not hermitian and isinstance(rcond, (int, float, np.floating, np.integer)):
        return as_array(build().pinv(x, rcond=float(rcond)))
    return _pinv_parts(x, rcond, hermitian)


def _largest(x: Node) -> int:
    sizes = [d for d in x.shape[-2:] if isinstance(d, int)]
    if len(sizes) < 2:
        raise problem(UnsupportedError, "the default tolerance needs known sizes",
                      repair="give a tolerance")
    return max(sizes)


def _each(value: Array) -> Any:
    """A tolerance of each matrix, with an axis for its singular values."""
    return (as_array(value.node) if isinstance(value, Tracer) else np.asarray(value))[..., None]


def _pinv_parts(x: Node, rcond: Any, hermitian: bool) -> Any:
    u, s, vt = map(as_array, _singular_vectors(_conjugate(x), False, hermitian))
    cutoff = ufunc("multiply", _each(rcond), np.max(s, axis=-1, keepdims=True))
    large = ufunc("greater", s, cutoff)
    inverse = np.where(large, ufunc("divide", 1, s), s * 0)
    turned = as_array(_transposed(u.node))
    return matmul(as_array(_transposed(vt.node)), inverse[..., None] * turned)


@implements(np.linalg.matrix_rank)
def _matrix_rank(A: Array, tol: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Any:
    if rtol is not None and tol is not None:
        raise ValueError("`tol` and `rtol` can't be both set.")
    x = lift(A)
    if len(x.node.shape) < 2:
        some: Any = np.any(ufunc("not_equal", x, 0))
        return Tracer(x.tape, build().convert(some.node, "i64"), "int")
    s = as_array(singular_values(x.node, hermitian))
    if tol is None:
        if rtol is None:
            factor: Any = s.dtype.type(_largest(x.node) * _EPS[s.element.name])
        else:
            factor = _each(rtol)
        limit: Any = ufunc("multiply", np.max(s, axis=-1, keepdims=True, initial=0), factor)
    else:
        limit = _each(tol)
    return np.count_nonzero(ufunc("greater", s, limit), axis=-1)


@implements(np.linalg.cond)
def _cond(x: Array, p: Any = None) -> Any:
    node = lift(x).node
    if len(node.shape) >= 2 and 0 in node.shape[-2:]:
        raise problem(LinAlgError, "cond is not defined on empty arrays")
    if p is None or p in (2, -2):
        s = as_array(singular_values(node))
        first, last = s[..., 0], s[..., -1]
        out = ufunc("divide", last, first) if p == -2 else ufunc("divide", first, last)
    else:
        check_square(node)
        (wide,), dtype = _computed(node)
        inverse = as_array(_system(wide, _identity(wide), check=False))
        out = ufunc("multiply", np.linalg.norm(as_array(node), p, axis=(-2, -1)),
                    np.linalg.norm(inverse, p, axis=(-2, -1)))
        out = result(_rounded(lift(out).node, dtype))
    return _without_nan(lift(out), node)


def _without_nan(out: Tracer, x: Node) -> Tracer:
    """Infinity for NaN, where the matrix had none itself."""
    b = build()
    if not x.dtype.is_inexact:
        clean = b.broadcast(b.scalar(True, "bool"), out.node.shape, ())
    else:
        n = len(x.shape)
        clean = b.not_(b.reduce_or(b.is_nan(x), axes=(n - 2, n - 1)))
    nan = b.and_(b.is_nan(out.node), clean)
    return result(b.select(nan, b.scalar(np.inf, out.node.dtype), out.node))


