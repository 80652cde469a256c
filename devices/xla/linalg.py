"""Matrices taken apart, and systems solved.

Single precision is computed in double and rounded once, as NumPy does, where the machine has
double-precision routines (a TPU has not). What fails there with NaN, fails here with a check.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
from jax import lax
from jax.lax import linalg

from weft.compiler.types import TupleType, dtype_of
from weft.devices.xla.elementwise import is_nan
from weft.devices.xla.program import Site
from weft.devices.xla.tools import Lowering, both, invert, kind, like, negative, pick, to

__all__ = ["LINALG"]

_HIGHEST = lax.Precision.HIGHEST
_WIDER = {"f32": "f64", "c64": "c128"}


def _doubled(fn: Callable[..., Any]) -> Lowering:
    """The lowering, in double precision where that is to be had; empty results without it."""
    def lower(site: Site, *xs: Any) -> Any:
        if all(0 in t.shape for t in site.tensors) or any(0 in x.shape[-2:] for x in xs) \
                or any(0 in x.shape for x in xs):
            return _packed(site, _empty(site, *xs))
        if site.walk.has_f64:
            xs = tuple(to(x, _WIDER.get(dtype_of(x.dtype).name, dtype_of(x.dtype))) for x in xs)
        out = fn(site, *xs)
        parts = out if isinstance(out, tuple) else (out,)
        return _packed(site, [to(v, t.dtype) for v, t in zip(parts, site.tensors, strict=True)])
    return lower


def _packed(site: Site, parts: Sequence[Any]) -> Any:
    return tuple(parts) if isinstance(site.node.type, TupleType) else parts[0]


def _empty(site: Site, *xs: Any) -> list[Any]:
    """The results for matrices without elements: NumPy's, computed where the shapes are known."""
    stacks = [np.broadcast_to(np.eye(*x.shape[-2:], dtype=x.dtype), x.shape) for x in xs]
    with np.errstate(all="ignore"):
        op = site.node.op
        assert op is not None
        made = op.reference(np, *stacks, **site.attrs)
    return [np.asarray(v) for v in (made if isinstance(made, tuple) else (made,))]


def _turned(x: Any) -> Any:
    """The transposed matrices."""
    n = x.ndim
    return lax.transpose(x, (*range(n - 2), n - 1, n - 2))


def _adjoint(x: Any) -> Any:
    return lax.conj(_turned(x)) if kind(x) == "complex" else _turned(x)


def _product(a: Any, b: Any) -> Any:
    lead = tuple(range(a.ndim - 2))
    return lax.dot_general(a, b, (((a.ndim - 1,), (b.ndim - 2,)), (lead, lead)),
                           precision=_HIGHEST)


def _all_axes(mask: Any) -> tuple[int, ...]:
    return tuple(range(mask.ndim))


def _fails(site: Site, bad: Any, text: str) -> None:
    site.check(lax.reduce_or(bad, _all_axes(bad)), np.int64(0), "linalg", text=text)


def _nan_fails(site: Site, *outs: Any) -> None:
    """NaN is how XLA's routines say that they found nothing."""
    op = site.node.op
    assert op is not None and op.fails
    for out in outs:
        _fails(site, is_nan(out), op.fails[0])


# ---- Cholesky, triangular systems

def _cholesky(site: Site, x: Any) -> Any:
    lower = site.attrs["lower"]
    out = linalg.cholesky(x if lower else _adjoint(x), symmetrize_input=False)
    _nan_fails(site, out)
    return out if lower else _adjoint(out)


def _triangular_solve(site: Site, a: Any, b: Any) -> Any:
    if 0 in a.shape or 0 in b.shape:
        return b
    how = site.attrs["transpose_a"]
    return linalg.triangular_solve(
        a, b, left_side=site.attrs["left_side"], lower=site.attrs["lower"],
        transpose_a=how != "NO_TRANSPOSE", conjugate_a=how == "ADJOINT",
        unit_diagonal=site.attrs["unit_diagonal"])


# ---- by elimination

def _lu(site: Site, x: Any) -> Any:
    if 0 in x.shape:
        return tuple(_empty(site, x))
    return tuple(linalg.lu(x))


def _diagonal(x: Any) -> Any:
    n = min(x.shape[-2:])
    at = np.arange(n, dtype=np.int32)
    numbers = lax.GatherDimensionNumbers(
        tuple(range(x.ndim - 2)), (x.ndim - 2, x.ndim - 1), (x.ndim - 2, x.ndim - 1))
    return lax.gather(x, np.stack([at, at], 1), numbers, (*x.shape[:-2], 1, 1),
                      mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS)


def _solve(site: Site, a: Any, b: Any) -> Any:
    lu, _, order = linalg.lu(a)
    singular = lax.reduce_or(lax.eq(_diagonal(lu), like(_diagonal(lu), 0)), (a.ndim - 2,))
    if site.attrs["check"]:
        _fails(site, singular, "Singular matrix")
    numbers = lax.GatherDimensionNumbers((b.ndim - 1,), (b.ndim - 2,), (b.ndim - 2,),
                                         tuple(range(b.ndim - 2)), tuple(range(b.ndim - 2)))
    rows = lax.gather(b, lax.expand_dims(order, (order.ndim,)), numbers,
                      (*(1 for _ in b.shape[:-1]), b.shape[-1]),
                      mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS)
    y = linalg.triangular_solve(lu, rows, left_side=True, lower=True, unit_diagonal=True)
    x = linalg.triangular_solve(lu, y, left_side=True, lower=False)
    bad = lax.broadcast_in_dim(singular, x.shape, tuple(range(x.ndim - 2)))
    return pick(bad, float("nan"), x)


def _swaps(pivots: Any) -> Any:
    """Whether the number of rows that were swapped is odd."""
    own = np.arange(pivots.shape[-1], dtype=np.int32)
    moved = lax.ne(pivots, lax.broadcast_in_dim(own, pivots.shape, (pivots.ndim - 1,)))
    count = lax.reduce_sum(to(moved, "i32"), (pivots.ndim - 1,))
    return lax.eq(lax.rem(count, like(count, 2)), like(count, 1))


def _det(site: Site, x: Any) -> Any:
    lu, pivots, _ = linalg.lu(x)
    out = lax.reduce_prod(_diagonal(lu), (x.ndim - 2,))
    return pick(_swaps(pivots), lax.neg(out), out)


def _slogdet(site: Site, x: Any) -> Any:
    lu, pivots, _ = linalg.lu(x)
    diagonal = _diagonal(lu)
    size = lax.abs(diagonal)
    none = lax.reduce_or(lax.eq(size, like(size, 0)), (x.ndim - 2,))
    signs = lax.div(diagonal, lax.complex(size, like(size, 0)) if kind(x) == "complex" else size)
    sign = lax.reduce_prod(signs, (x.ndim - 2,))
    sign = pick(none, 0, pick(_swaps(pivots), lax.neg(sign), sign))
    total = lax.reduce_sum(lax.log(size), (x.ndim - 2,))
    return sign, pick(none, float("-inf"), total)


# ---- QR

def _qr(site: Site, x: Any) -> Any:
    mode = site.attrs["mode"]
    if mode == "raw":
        return _reflectors(x)
    q, r = linalg.qr(x, full_matrices=mode == "complete")
    return r if mode == "r" else (q, r)


def _reflectors(x: Any) -> tuple[Any, Any]:
    """Householder's reflectors as LAPACK's geqrf leaves them: R above, they below the diagonal."""
    *lead, m, n = x.shape
    a = lax.reshape(x, (prod(lead), m, n))
    count = min(m, n)
    rows = lax.broadcasted_iota(np.int32, (a.shape[0], m), 1)

    def turn(j: Any, state: Any) -> Any:
        a, taus = state
        j = to(j, "i32")
        column = lax.dynamic_index_in_dim(a, j, 2, keepdims=False)
        alpha = lax.dynamic_index_in_dim(column, j, 1)
        below = pick(lax.gt(rows, lax.broadcast(j, rows.shape)), column, 0)
        tau, beta, scale = _reflector(alpha, below)
        v = lax.add(lax.mul(below, lax.broadcast_in_dim(scale, below.shape, (0, 1))),
                    to(lax.eq(rows, lax.broadcast(j, rows.shape)), dtype_of(a.dtype)))
        past = lax.gt(lax.broadcasted_iota(np.int32, a.shape, 2), lax.broadcast(j, a.shape))
        conj = lax.conj(v) if kind(v) == "complex" else v
        onto = lax.dot_general(conj, a, (((1,), (1,)), ((0,), (0,))), precision=_HIGHEST)
        held = lax.conj(tau) if kind(tau) == "complex" else tau
        step = lax.mul(lax.broadcast_in_dim(lax.mul(v, lax.broadcast_in_dim(held, v.shape, (0, 1))),
                                            a.shape, (0, 1)),
                       lax.broadcast_in_dim(onto, a.shape, (0, 2)))
        a = pick(past, lax.sub(a, step), a)
        new = pick(lax.gt(rows, lax.broadcast(j, rows.shape)), v, column)
        new = pick(lax.eq(rows, lax.broadcast(j, rows.shape)),
                   lax.broadcast_in_dim(beta, new.shape, (0, 1)), new)
        return (lax.dynamic_update_index_in_dim(a, new, j, 2),
                lax.dynamic_update_index_in_dim(taus, tau, j, 1))

    start = (a, lax.full((a.shape[0], count), 0, a.dtype))
    a, taus = lax.fori_loop(0, count, turn, start)
    return _turned(lax.reshape(a, x.shape)), lax.reshape(taus, (*lead, count))


def _reflector(alpha: Any, below: Any) -> tuple[Any, Any, Any]:
    """tau, the diagonal's new element, and the factor of those below; columns of one each."""
    size = lax.abs(below)
    rest = lax.reduce_sum(lax.mul(size, size), (1,))[:, None]
    re = lax.real(alpha) if kind(alpha) == "complex" else alpha
    own = lax.abs(alpha)
    norm = lax.sqrt(lax.add(lax.mul(own, own), rest))
    beta = pick(negative(re), norm, lax.neg(norm))
    none = lax.eq(rest, like(rest, 0))
    if kind(alpha) == "complex":
        none = both(none, lax.eq(lax.imag(alpha), like(re, 0)))
        beta = lax.complex(beta, like(beta, 0))
    safe = pick(none, 1, beta)
    tau = pick(none, 0, lax.div(lax.sub(beta, alpha), safe))
    scale = pick(none, 0, lax.div(like(alpha, 1), pick(none, 1, lax.sub(alpha, beta))))
    return tau, pick(none, alpha, beta), scale


# ---- spectra

def _svd(site: Site, x: Any) -> Any:
    if not site.attrs["compute_uv"]:
        s = linalg.svd(x, full_matrices=False, compute_uv=False)
        _nan_fails(site, s)
        return (s,)
    u, s, vh = linalg.svd(x, full_matrices=site.attrs["full_matrices"])
    _nan_fails(site, s)
    return u, s, vh


def _eigh(site: Site, x: Any) -> Any:
    v, w = linalg.eigh(x, lower=site.attrs["lower"], symmetrize_input=False)
    _nan_fails(site, w)
    return (w, v) if site.attrs["vectors"] else (w,)


def _eig(site: Site, x: Any) -> Any:
    _fails(site, invert(lax.is_finite(lax.abs(x))), "Array must not contain infs or NaNs")
    vectors = site.attrs["vectors"]
    found = linalg.eig(x, compute_left_eigenvectors=False, compute_right_eigenvectors=vectors)
    _nan_fails(site, found[0])
    return tuple(found)


def _lstsq(site: Site, a: Any, b: Any) -> Any:
    """By singular values, as LAPACK's gelsd."""
    *_, m, n = a.shape
    u, s, vh = linalg.svd(a, full_matrices=False)
    _nan_fails(site, s)
    rcond = site.attrs["rcond"]
    eps = float(np.finfo(s.dtype).eps)
    least = eps * max(m, n) if rcond is None else rcond if rcond >= 0 else eps
    largest = lax.slice_in_dim(s, 0, 1, 1, s.ndim - 1)
    kept = lax.gt(s, lax.broadcast_in_dim(lax.mul(largest, like(largest, least)), s.shape,
                                          tuple(range(s.ndim))))
    rank = lax.reduce_sum(to(kept, "i32"), (s.ndim - 1,))
    if site.attrs["full_rank"]:
        op = site.node.op
        assert op is not None
        _fails(site, lax.lt(rank, like(rank, n)), op.fails[1])
    inverse = pick(kept, lax.div(like(s, 1), pick(kept, s, 1)), 0)
    parts = _product(_adjoint(u), b)
    weights = lax.broadcast_in_dim(inverse, parts.shape, tuple(range(s.ndim)))
    x = _product(_adjoint(vh), lax.mul(parts, to(weights, dtype_of(parts.dtype))))
    return x, _residuals(a, b, x, rank), rank, s


def _residuals(a: Any, b: Any, x: Any, rank: Any) -> Any:
    """The squares of what is left, NaN where NumPy gives none."""
    *lead, m, n = a.shape
    if m < n:
        return lax.full((*lead, b.shape[-1]), np.nan, lax.abs(b).dtype)
    left = lax.abs(lax.sub(b, _product(a, x)))
    squares = lax.reduce_sum(lax.mul(left, left), (b.ndim - 2,))
    full = lax.eq(rank, like(rank, n))
    full = lax.broadcast_in_dim(full, squares.shape, tuple(range(len(lead))))
    return pick(full, squares if m > n else like(squares, 0), float("nan"))


LINALG: dict[str, Lowering] = {
    "cholesky": _doubled(_cholesky), "triangular_solve": _triangular_solve, "lu": _lu,
    "solve": _doubled(_solve), "det": _doubled(_det), "slogdet": _doubled(_slogdet),
    "qr": _doubled(_qr), "svd": _doubled(_svd), "eigh": _doubled(_eigh), "eig": _doubled(_eig),
    "lstsq": _doubled(_lstsq),
}
