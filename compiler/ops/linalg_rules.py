"""How the ops of `linalg` are differentiated and batched.

The formulas are Giles's ("Collected matrix derivative results for forward and reverse mode
algorithmic differentiation", 2008) where no other source is named, for complex matrices as in
Boeddeker et al. ("On the computation of complex-valued gradients", 2017). `H` is the conjugate
transpose; ``dx`` the tangent of ``x``. Vectors of equal eigenvalues or singular values have no
derivative: their tangents are infinite or NaN. (The values have one all the same.)
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

from weft.compiler.build import Builder
from weft.compiler.errors import UnsupportedError
from weft.compiler.ir import Node
from weft.compiler.types import DTYPES, Dim, DType

__all__: list[str] = []

I64 = DTYPES["i64"]
Tangents = Sequence[Node | None]


# ---- matrices in graphs

def turned(b: Builder, x: Node) -> Node:
    """The last two axes exchanged."""
    n = len(x.shape)
    return b.transpose(x, perm=(*range(n - 2), n - 1, n - 2))


def adjoint(b: Builder, x: Node) -> Node:
    """The conjugate transpose."""
    return turned(b, b.conj(x) if x.dtype.is_complex else x)


def times(b: Builder, x: Node, y: Node) -> Node:
    """The product of stacks of matrices with the same leading axes."""
    lead = tuple(range(len(x.shape) - 2))
    n = len(lead)
    return b.dot_general(x, y, contract=((n + 1,), (n,)), batch=(lead, lead))


def along(b: Builder, s: Node, like: Node, axis: int) -> Node:
    """A vector of each matrix, repeated: its elements run along axis -1 or -2 of `like`."""
    n = len(like.shape)
    return b.broadcast(s, like.shape, (*range(n - 2), n + axis))


def _grid(b: Builder, x: Node) -> tuple[Node, Node]:
    """Row and column of each element."""
    n = len(x.shape)
    row, column = (b.iota(shape=x.shape, axis=n + a, dtype=I64) for a in (-2, -1))
    return row, column


def where(b: Builder, how: str, x: Node, other: Node | None = None) -> Node:
    """x where the row compares so with the column (lt is above the diagonal); elsewhere 0."""
    row, column = _grid(b, x)
    return b.select(b.add(how, row, column), x, b.scalar(0, x.dtype) if other is None else other)


def diagonal(b: Builder, x: Node) -> Node:
    """The diagonals of square matrices."""
    return b.reduce_sum(where(b, "eq", x), axes=(len(x.shape) - 1,))


def identity_like(b: Builder, x: Node) -> Node:
    """Ones on the diagonal of as many matrices."""
    return where(b, "eq", b.broadcast(b.scalar(1, x.dtype), x.shape))


def hermitian(b: Builder, x: Node, lower: bool) -> Node:
    """The Hermitian matrix of which x has one triangle, as LAPACK reads it."""
    half = where(b, "gt" if lower else "lt", x)
    middle = where(b, "eq", x)
    if x.dtype.is_complex:
        middle = b.convert(b.real(middle), x.dtype)
    return b.add_(b.add_(half, adjoint(b, half)), middle)


def columns(b: Builder, x: Node, start: Dim, limit: Dim, axis: int = -1) -> Node:
    """Some columns (or with axis=-2 rows) of matrices."""
    n = len(x.shape)
    at = n + axis
    if start == 0 and limit == x.shape[at]:
        return x
    low: list[Dim] = [0] * n
    high = list(x.shape)
    low[at], high[at] = start, limit
    return b.slice(x, start=tuple(low), limit=tuple(high), stride=(1,) * n)


def joined(b: Builder, parts: Sequence[Node], axis: int) -> Node:
    """Matrices beside (-1) or below (-2) each other."""
    return parts[0] if len(parts) == 1 else b.concatenate(*parts, axis=len(parts[0].shape) + axis)


def substitute(b: Builder, a: Node, x: Node, lower: bool, *, left: bool = True,
               how: str = "NO_TRANSPOSE", unit: bool = False) -> Node:
    """A triangular system."""
    return b.triangular_solve(a, x, left_side=left, lower=lower, transpose_a=how,
                              unit_diagonal=unit)


def _add(b: Builder, x: Node | None, y: Node | None) -> Node | None:
    return y if x is None else x if y is None else b.add_(x, y)


def _minus(b: Builder, x: Node | None, y: Node) -> Node:
    return b.neg(y) if x is None else b.sub(x, y)


def _gaps(b: Builder, s: Node, like: Node, square: bool = False) -> Node:
    """1/(s[j] - s[i]), or of their squares; 0 on the diagonal."""
    wide = b.mul(s, s) if square else s
    rows, cols = (b.broadcast(wide, like.shape, (*range(len(like.shape) - 2),
                                                 len(like.shape) + a)) for a in (-2, -1))
    gap = where(b, "ne", b.sub(cols, rows), b.scalar(1, wide.dtype))
    return b.convert(where(b, "ne", b.div(b.scalar(1, gap.dtype), gap)), like.dtype)


def _inverse_of(b: Builder, s: Node, dtype: DType) -> Node:
    """1/s, 0 where s is 0."""
    zero = b.eq(s, b.scalar(0, s.dtype))
    one = b.scalar(1, s.dtype)
    return b.convert(b.select(zero, b.scalar(0, s.dtype), b.div(one, b.select(zero, one, s))),
                     dtype)


def _imaginary(b: Builder, x: Node) -> Node:
    """i times the imaginary part."""
    return b.complex(b.scalar(0, x.dtype.real), b.imag(x))


# ---- triangles and systems

def cholesky_jvp(b: Builder, node: Node, tangents: Tangents) -> Node:
    """dL = L F(L^-1 dx L^-H), where F takes the lower triangle and half of the diagonal."""
    (dx,), lower = tangents, node.attrs["lower"]
    assert dx is not None
    full = hermitian(b, dx, lower)
    if lower:
        inner = substitute(b, node, full, True)
        inner = substitute(b, node, inner, True, left=False, how="ADJOINT")
    else:
        inner = substitute(b, node, full, False, how="ADJOINT")
        inner = substitute(b, node, inner, False, left=False)
    half = b.mul(inner, b.scalar(0.5, inner.dtype))
    part = where(b, "gt" if lower else "lt", inner, where(b, "eq", half))
    return times(b, node, part) if lower else times(b, part, node)


def triangular_solve_jvp(b: Builder, node: Node, tangents: Tangents) -> Node:
    """op(a) dx = db - op(da) x."""
    a, _ = node.inputs
    (da, db), attrs = tangents, node.attrs
    if da is not None:
        if attrs["lower"]:
            da = where(b, "gt" if attrs["unit_diagonal"] else "ge", da)
        else:
            da = where(b, "lt" if attrs["unit_diagonal"] else "le", da)
        if attrs["transpose_a"] != "NO_TRANSPOSE":
            da = turned(b, da) if attrs["transpose_a"] == "TRANSPOSE" else adjoint(b, da)
        db = _minus(b, db, times(b, da, node) if attrs["left_side"] else times(b, node, da))
    return b.triangular_solve(a, db, **attrs)


def triangular_solve_transpose(b: Builder, node: Node, cotangent: Any, wanted: Set[int]
                               ) -> list[Any]:
    """The system with the transposed matrix."""
    a, attrs = node.inputs[0], dict(node.attrs)
    if attrs["transpose_a"] == "ADJOINT":               # its transpose is the conjugate
        attrs["transpose_a"] = "NO_TRANSPOSE"
        return [None, b.conj(b.triangular_solve(a, b.conj(cotangent), **attrs))]
    attrs["transpose_a"] = "TRANSPOSE" if attrs["transpose_a"] == "NO_TRANSPOSE" \
        else "NO_TRANSPOSE"
    return [None, b.triangular_solve(a, cotangent, **attrs)]


def solve_jvp(b: Builder, node: Node, tangents: Tangents) -> Node:
    """a dx = db - da x."""
    da, db = tangents
    if da is not None:
        db = _minus(b, db, times(b, da, node))
    return b.solve(node.inputs[0], db, **node.attrs)


def solve_transpose(b: Builder, node: Node, cotangent: Any, wanted: Set[int]) -> list[Any]:
    """The system with the transposed matrix."""
    return [None, b.solve(turned(b, node.inputs[0]), cotangent, **node.attrs)]


# ---- determinants

def det_jvp(b: Builder, node: Node, tangents: Tangents) -> Node | None:
    """Jacobi's formula: the trace of the adjugate times dx."""
    (dx,), (x,) = tangents, node.inputs
    assert dx is not None
    if x.shape[-1] == 0:
        return None
    weights = turned(b, _adjugate(b, x, node))
    return b.reduce_sum(b.mul(dx, weights), axes=(len(x.shape) - 2, len(x.shape) - 1))


def _adjugate(b: Builder, x: Node, whole: Node) -> Node:
    """det(x) x^-1 by LU factors, without dividing by the last pivot, so that it holds for singular
    matrices too whose last pivot alone is 0. (Of others it gives 0, which is right for those of
    rank n - 2 and less.)"""
    n, rank = x.shape[-1], len(x.shape)
    factors = b.lu(x)
    lu, pivots, order = (b.get(factors, index=i) for i in range(3))
    swapped = b.ne(b.convert(pivots, I64), b.iota(shape=pivots.shape, axis=rank - 2, dtype=I64))
    count = b.reduce_sum(b.convert(swapped, I64), axes=(rank - 2,))
    odd = b.ne(b.remainder(count, b.scalar(2, I64)), b.scalar(0, I64))
    sign = b.select(odd, b.scalar(-1, x.dtype), b.scalar(1, x.dtype))
    row, column = _grid(b, x)
    last = b.broadcast(b.size(size=n - 1) if not isinstance(n, int) else b.scalar(n - 1, I64),
                       x.shape, ())
    is_last, one, on_diagonal = b.eq(row, last), b.scalar(1, x.dtype), b.eq(row, column)
    upper = b.select(b.and_(is_last, on_diagonal), one, lu)
    before = b.mul(sign, b.det(where(b, "le", upper)))
    permuted = b.convert(b.eq(along(b, b.convert(order, I64), x, -2), column), x.dtype)
    y = substitute(b, lu, permuted, True, unit=True)
    lead = tuple(range(rank - 2))
    y = b.mul(y, b.select(is_last, b.broadcast(before, x.shape, lead),
                          b.broadcast(whole, x.shape, lead)))
    found = substitute(b, upper, y, False)
    singular = b.eq(before, b.scalar(0, before.dtype))
    return b.select(b.broadcast(singular, x.shape, lead), b.scalar(0, x.dtype), found)


def slogdet_jvp(b: Builder, node: Node, tangents: Tangents) -> list[Node | None]:
    """The trace of x^-1 dx: its real part changes the logarithm, its imaginary part the sign."""
    (dx,), (x,) = tangents, node.inputs
    assert dx is not None
    inverse = b.solve(x, identity_like(b, x), check=False)
    axes = (len(x.shape) - 2, len(x.shape) - 1)
    trace = b.reduce_sum(b.mul(dx, turned(b, inverse)), axes=axes)
    if not x.dtype.is_complex:
        return [None, trace]
    return [b.mul(_imaginary(b, trace), b.get(node, index=0)), b.real(trace)]


# ---- LU and QR

def lu_jvp(b: Builder, node: Node, tangents: Tangents) -> list[Node | None]:
    """With M = L^-1 P dx U^-1 of the leading square: dL = L tril(M, -1), dU = triu(M) U; the rows
    below and the columns beyond it follow from P dx = dL U + L dU."""
    (dx,), lu = tangents, b.get(node, index=0)
    order = b.convert(b.get(node, index=2), I64)
    assert dx is not None
    m, n = lu.shape[-2:]
    k = _least(m, n)
    shape = (*lu.shape[:-2], m, m)
    full = b.iota(shape=shape, axis=len(shape) - 1, dtype=I64)
    picks = b.eq(b.broadcast(order, shape, tuple(range(len(shape) - 1))), full)
    dx = times(b, b.convert(picks, dx.dtype), dx)
    square = columns(b, columns(b, lu, 0, k), 0, k, -2)
    middle = columns(b, columns(b, dx, 0, k), 0, k, -2)
    right = substitute(b, square, middle, False, left=False)
    inner = substitute(b, square, right, True, unit=True)
    low, up = where(b, "gt", inner), where(b, "le", inner)
    lower = where(b, "gt", square, identity_like(b, square))
    upper = where(b, "le", square)
    out = b.add_(times(b, lower, low), times(b, up, upper))
    if k < m:                                           # type: ignore[operator]
        below = columns(b, columns(b, dx, 0, k), k, m, -2)
        factor = columns(b, lu, k, m, -2)
        below = substitute(b, square, below, False, left=False)
        out = joined(b, [out, b.sub(below, times(b, factor, up))], -2)
    elif k < n:                                         # type: ignore[operator]
        beyond = substitute(b, square, columns(b, dx, k, n), True, unit=True)
        out = joined(b, [out, b.sub(beyond, times(b, low, columns(b, lu, k, n)))], -1)
    return [out, None, None]


def _least(m: Dim, n: Dim) -> Dim:
    return min(m, n) if isinstance(m, int) and isinstance(n, int) else m


def qr_jvp(b: Builder, node: Node, tangents: Tangents) -> list[Node | None]:
    """dQ = Q W + (the part of dx R^-1 outside Q), dR = (Q^H dx R^-1 - W) R, with W skew-Hermitian:
    Walter and Lehmann, "Algorithmic differentiation of linear algebra functions", 2010. The columns
    that complete Q turn along with it, no more than they have to."""
    (dx,), (x,), mode = tangents, node.inputs, node.attrs["mode"]
    assert dx is not None
    if mode == "raw":
        raise UnsupportedError("the reflectors of a QR factorization have no derivative",
                               origin=node.origin, repair="use mode='reduced'")
    if mode == "r":
        factors = b.qr(x, mode="reduced")
        return [_qr_tangents(b, factors, dx, "reduced")[1]]
    return list(_qr_tangents(b, node, dx, mode))


def _qr_tangents(b: Builder, node: Node, dx: Node, mode: str) -> tuple[Node, Node]:
    q, r = (b.get(node, index=i) for i in (0, 1))
    m, n = dx.shape[-2:]
    k = _least(m, n)
    q1 = columns(b, q, 0, k)
    square = columns(b, columns(b, r, 0, k), 0, k, -2)
    right = substitute(b, square, columns(b, dx, 0, k), False, left=False)
    inside = times(b, adjoint(b, q1), right)
    low = where(b, "gt", inside)
    skew = b.sub(low, adjoint(b, low))
    if inside.dtype.is_complex:                         # the diagonal of R stays real
        skew = b.add_(skew, where(b, "eq", _imaginary(b, inside)))
    dq = b.add_(times(b, q1, b.sub(skew, inside)), right)
    dr = times(b, b.sub(inside, skew), square)
    if k < n:                                           # type: ignore[operator]
        beyond = times(b, adjoint(b, q1), columns(b, dx, k, n))
        dr = joined(b, [dr, b.sub(beyond, times(b, skew, columns(
            b, columns(b, r, k, n), 0, k, -2)))], -1)
    if mode == "complete" and k < m:                    # type: ignore[operator]
        dq = _completed(b, q, dq, k)
        low_rows = columns(b, r, k, m, -2)
        dr = joined(b, [dr, b.mul(low_rows, b.scalar(0, dr.dtype))], -2)
    return dq, dr


def _completed(b: Builder, q: Node, dq: Node, k: Dim) -> Node:
    """The tangent of a unitary matrix of whose first k columns it is known."""
    q1, q2 = columns(b, q, 0, k), columns(b, q, k, q.shape[-1])
    rest = b.neg(times(b, q1, times(b, adjoint(b, dq), q2)))
    return joined(b, [dq, rest], -1)


# ---- eigenvalues and singular values

def eigh_jvp(b: Builder, node: Node, tangents: Tangents) -> list[Node | None]:
    """With M = V^H dx V: dw = diag(M), dV = V (F * M), F[i, j] = 1/(w[j] - w[i])."""
    (dx,), (x,), attrs = tangents, node.inputs, node.attrs
    assert dx is not None
    found = node if attrs["vectors"] else b.eigh(x, **{**attrs, "vectors": True})
    w, v = (b.get(found, index=i) for i in (0, 1))
    inner = times(b, adjoint(b, v), times(b, hermitian(b, dx, attrs["lower"]), v))
    dw = diagonal(b, inner)
    dw = b.real(dw) if dw.dtype.is_complex else dw
    if not attrs["vectors"]:
        return [dw]
    return [dw, times(b, v, b.mul(inner, _gaps(b, w, inner)))]


def eig_jvp(b: Builder, node: Node, tangents: Tangents) -> list[Node | None]:
    """With M = V^-1 dx V: dw = diag(M), dV = V (F * M), and what keeps every column of length 1
    and its greatest element real, as LAPACK chooses them."""
    (dx,), (x,) = tangents, node.inputs
    assert dx is not None
    if x.shape[-1] == 0:
        return [None] * (2 if node.attrs["vectors"] else 1)
    found = node if node.attrs["vectors"] else b.eig(x, vectors=True)
    w, v = (b.get(found, index=i) for i in (0, 1))
    inner = b.solve(v, times(b, b.convert(dx, v.dtype), v), check=False)
    dw = diagonal(b, inner)
    if not node.attrs["vectors"]:
        return [dw]
    dv = times(b, v, b.mul(inner, _gaps(b, w, inner)))
    rows = len(v.shape) - 2
    stretch = b.real(b.reduce_sum(b.mul(dv, b.conj(v)), axes=(rows,)))
    size = b.add_(b.mul(b.real(v), b.real(v)), b.mul(b.imag(v), b.imag(v)))
    greatest = b.argmax(size, axis=rows)
    here = b.eq(b.iota(shape=v.shape, axis=rows, dtype=I64), along(b, greatest, v, -1))
    picked = b.select(here, b.div(dv, b.select(here, v, b.scalar(1, v.dtype))),
                      b.scalar(0, v.dtype))
    turn = b.imag(b.reduce_sum(picked, axes=(rows,)))
    return [dw, b.sub(dv, b.mul(along(b, b.complex(stretch, turn), v, -1), v))]


def svd_jvp(b: Builder, node: Node, tangents: Tangents) -> list[Node | None]:
    """With M = U^H dx V: ds = diag(M), dU = U (F * (M S + S M^H)) and dV = V (F * (S M + M^H S)),
    F[i, j] = 1/(s[j]^2 - s[i]^2), each with its part outside the space of U and V (Townsend,
    "Differentiating the singular value decomposition", 2016)."""
    (dx,), (x,), attrs = tangents, node.inputs, node.attrs
    assert dx is not None
    found = node
    if not attrs["compute_uv"]:
        found = b.svd(x, full_matrices=False, compute_uv=True)
    u_full, s, vh_full = (b.get(found, index=i) for i in range(3))
    k = s.shape[-1]
    u, v = columns(b, u_full, 0, k), adjoint(b, columns(b, vh_full, 0, k, -2))
    outer = times(b, dx, v)
    inner = times(b, adjoint(b, u), outer)
    ds = diagonal(b, inner)
    ds = b.real(ds) if ds.dtype.is_complex else ds
    if not attrs["compute_uv"]:
        return [ds]
    du, dv = _vectors(b, (u, s, v), dx, outer, inner)
    if attrs["full_matrices"]:
        if u_full.shape[-1] != k:
            du = _completed(b, u_full, du, k)
        if vh_full.shape[-2] != k:
            dv = _completed(b, adjoint(b, vh_full), dv, k)
    return [du, ds, adjoint(b, dv)]


def _vectors(b: Builder, parts: tuple[Node, Node, Node], dx: Node, outer: Node, inner: Node
             ) -> tuple[Node, Node]:
    u, s, v = parts
    wide = b.convert(s, inner.dtype)
    rows, cols = along(b, wide, inner, -2), along(b, wide, inner, -1)
    gaps = _gaps(b, s, inner, square=True)
    first, second = b.mul(inner, cols), b.mul(inner, rows)
    left = b.mul(b.add_(first, adjoint(b, first)), gaps)
    right = b.mul(b.add_(second, adjoint(b, second)), gaps)
    inverse = b.convert(b.div(b.scalar(1, s.dtype), s), inner.dtype)
    if inner.dtype.is_complex:      # the phase that u and v have in common is free: u takes it
        phase = along(b, _inverse_of(b, s, inner.dtype), inner, -1)
        left = b.add_(left, b.mul(where(b, "eq", _imaginary(b, inner)), phase))
    du, dv = times(b, u, left), times(b, v, right)
    m, n, k = u.shape[-2], v.shape[-2], s.shape[-1]
    if m != k:
        du = b.add_(du, b.mul(b.sub(outer, times(b, u, inner)), along(b, inverse, outer, -1)))
    if n != k:
        other = times(b, adjoint(b, dx), u)
        outside = b.sub(other, times(b, v, adjoint(b, inner)))
        dv = b.add_(dv, b.mul(outside, along(b, inverse, other, -1)))
    return du, dv


# ---- least squares

def pinv_parts(b: Builder, node: Node) -> Node:
    """NumPy's composition: V diag(1/s) U^H of the singular values that are large enough."""
    (x,) = node.inputs
    if 0 in x.shape:
        return b.broadcast(b.scalar(0, node.dtype), node.shape, ())
    found = b.svd(b.conj(x) if x.dtype.is_complex else x, full_matrices=False, compute_uv=True)
    u, s, vh = (b.get(found, index=i) for i in range(3))
    last, wide = len(s.shape) - 1, b.convert(s, "f64")
    cutoff = b.mul(b.convert(b.reduce_max(s, axes=(last,)), "f64"),
                   b.scalar(node.attrs["rcond"], "f64"))
    large = b.gt(wide, b.broadcast(cutoff, s.shape, tuple(range(last))))
    inverse = b.convert(b.select(large, b.div(b.scalar(1, s.dtype), s), b.scalar(0, s.dtype)),
                        u.dtype)
    right = turned(b, u)
    return times(b, turned(b, vh), b.mul(along(b, inverse, right, -2), right))


def pinv_jvp(b: Builder, node: Node, tangents: Tangents) -> Node:
    """Golub and Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares
    problems whose variables separate", 1973: for changes that keep the rank."""
    (dx,), (x,) = tangents, node.inputs
    assert dx is not None
    return _pinv_tangent(b, x, node, dx)


def _pinv_tangent(b: Builder, x: Node, p: Node, dx: Node) -> Node:
    ph, dxh = adjoint(b, p), adjoint(b, dx)
    inside = times(b, p, times(b, dx, p))
    left = times(b, p, times(b, ph, dxh))               # P P^H dX^H (1 - X P)
    left = b.sub(left, times(b, left, times(b, x, p)))
    right = times(b, dxh, times(b, ph, p))              # (1 - P X) dX^H P^H P
    right = b.sub(right, times(b, p, times(b, x, right)))
    return b.sub(b.add_(left, right), inside)


def lstsq_jvp(b: Builder, node: Node, tangents: Tangents) -> list[Node | None]:
    """x is the pseudo-inverse times b, and the residuals are at right angles to the columns."""
    a, rhs = node.inputs
    da, db = tangents
    x, *_ = (b.get(node, index=i) for i in range(4))
    rcond = node.attrs["rcond"]
    p = b.pinv(a, rcond=_default_rcond(a) if rcond is None else rcond)
    step: Node | None = None if db is None else times(b, p, db)
    change, ds = db, None
    if da is not None:
        step = _add(b, step, times(b, _pinv_tangent(b, a, p, da), rhs))
        change = _minus(b, db, times(b, da, x))
        (ds,) = svd_jvp(b, b.svd(a, full_matrices=False, compute_uv=False), [da])
    assert change is not None
    rest = b.sub(rhs, times(b, a, x))
    product = b.mul(change, b.conj(rest) if rest.dtype.is_complex else rest)
    product = b.real(product) if product.dtype.is_complex else product
    total = b.reduce_sum(product, axes=(len(rest.shape) - 2,))
    return [step, b.mul(total, b.scalar(2, total.dtype)), None, ds]


def _default_rcond(a: Node) -> float:
    sizes = [d for d in a.shape[-2:] if isinstance(d, int)]
    return max(sizes, default=1) * 2.0 ** -52


# ---- batching: leading axes count matrices already

def batch(b: Builder, node: Node, inputs: Sequence[Node], batched: Sequence[bool]) -> Node:
    """The op on one more leading axis."""
    size = next(x.shape[0] for x, is_ in zip(inputs, batched) if is_)
    wide = [x if is_ else b.broadcast(x, (size, *x.shape), range(1, len(x.shape) + 1))
            for x, is_ in zip(inputs, batched)]
    return b.add(node.opname, *wide, **node.attrs)


def solve_batch(b: Builder, node: Node, inputs: Sequence[Node], batched: Sequence[bool]) -> Node:
    """One matrix and many right-hand sides: these stand beside each other."""
    if batched[0]:
        return batch(b, node, inputs, batched)
    return _beside(b, node, inputs[0], inputs[1], -1)


def triangular_solve_batch(b: Builder, node: Node, inputs: Sequence[Node], batched: Sequence[bool]
                           ) -> Node:
    """As for `solve`; right-hand sides are columns, or rows where the matrix is on the right."""
    if batched[0]:
        return batch(b, node, inputs, batched)
    return _beside(b, node, inputs[0], inputs[1], -1 if node.attrs["left_side"] else -2)


def _beside(b: Builder, node: Node, a: Node, x: Node, axis: int) -> Node:
    """The first axis of x joined with `axis`, and taken apart again afterwards."""
    n = len(x.shape)
    rest = [i for i in range(1, n) if i != n + axis]
    at = n + axis - 1                                   # where both stand, the first axis first
    perm = (*[i for i in rest if i < n + axis], 0, n + axis, *[i for i in rest if i > n + axis])
    moved = b.transpose(x, perm=perm)
    shape = (*moved.shape[:at], moved.shape[at] * moved.shape[at + 1], *moved.shape[at + 2:])
    out = b.add(node.opname, a, b.reshape(moved, shape), **node.attrs)
    back = [0] * n
    for i, p in enumerate(perm):
        back[p] = i
    return b.transpose(b.reshape(out, moved.shape), perm=tuple(back))
