"""Comparing a device's result with the reference's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np

from weft.compiler.ops import Op
from weft.devices.reference import concrete

__all__ = ["aligned", "assert_close", "assert_scaled", "expected", "flushed"]

Array = np.ndarray[Any, Any]

# Correctly rounded on both sides, or nothing but moves: equal to the bit (NaN payloads apart).
_ULP = 2
# The reference rounds once to 16 bits what it computes in more; so does the device.
_EXACT_KINDS = ("view", "creation", "indexing", "sort")
_EXACT = frozenset("""
    abs add and argmax argmin bitcast ceil complex conj convert copysign cummax cummin
    cumprod cumsum div eq floor floor_divide fmax fmin fmod frexp_exponent frexp_mantissa
    gcd ge gt imag is_finite is_inf is_nan lcm ldexp le linear_recurrence lt maximum minimum mul ne
    neg nextafter not or popcnt real reduce_and reduce_max reduce_min reduce_or remainder rint
    select shift_left shift_right sign signbit spacing sqrt sub trunc xor
""".split())  # noqa: SIM905
# Complex functions are compositions of real ones; errors add up relative to the magnitude.
_COMPLEX_RTOL = {np.dtype(np.complex64): 4e-6, np.dtype(np.complex128): 1e-13}
# Different, but at least as good, orders of summation than the reference's.
_SUM_RTOL = {2: 1e-2, 4: 1e-5, 8: 1e-13}
# Their results can cancel to nearly 0: errors count relative to the larger operand.
_CANCELS = ("logaddexp", "logaddexp2")


# Errors, in units of the last place of the greatest element, of other orders of summation than the
# reference's, in matrices of up to 20 rows.
_ULP_OF_GREATEST = {"fft": 4, "triangular_solve": 40, "lu": 200, "pinv": 200}


def expected(op: Op, operands: tuple[Array, ...], attrs: dict[str, Any]) -> Any:
    """The reference's result; where neither side rounds correctly, computed in double precision,
    since NumPy's own float32 functions are not good to 2 ULP everywhere."""
    wide = {np.dtype(np.float32): np.float64, np.dtype(np.complex64): np.complex128}
    attrs = {k: concrete(v, {}) for k, v in attrs.items()}
    with np.errstate(all="ignore"):
        made = op.reference(np, *operands, **attrs)
        if isinstance(made, tuple):
            return made
        want = np.asarray(made)
        if op.kind != "elementwise" or op.name in _EXACT or want.dtype not in wide:
            return want
        if op.name == "pow" and want.dtype.kind == "c":
            return want         # the C library's, which the device calls too
        better = op.reference(np, *(a.astype(wide.get(a.dtype, a.dtype)) for a in operands),
                              **attrs)
        return np.asarray(better).astype(want.dtype)


def assert_close(op: Op, what: str, got: Array, want: Array,
                 operands: tuple[Array, ...] = (), ulp: int | None = None) -> None:
    """Fail unless `got` has the dtype, the shape and, nearly enough, the values of `want`.

    `ulp` is what the device allows itself for this op, where that is more than is usual.
    """
    assert got.dtype == want.dtype, f"{what}: dtype {got.dtype}, expected {want.dtype}"
    assert got.shape == want.shape, f"{what}: shape {got.shape}, expected {want.shape}"
    greatest = max(_ULP_OF_GREATEST.get(op.name, 0),
                   (ulp or 0) if op.kind in ("factorization", "scan") else 0)
    if greatest and want.dtype.kind in "fc" and want.size:
        _greatest_close(what, got, want, greatest)
    elif want.dtype.kind not in "fcV" and str(want.dtype) != "bfloat16":
        np.testing.assert_array_equal(got, want, err_msg=what)
    elif op.kind == "factorization":
        np.testing.assert_array_equal(got, want, err_msg=what)      # NumPy's own routines
    elif want.dtype.kind == "c":
        _complex_close(op, what, got, want, ulp or 0)
    elif op.name in _CANCELS:
        _cancelling_close(what, got, want, operands)
    elif op.kind in ("reduction", "contraction", "windows") and op.name not in _EXACT:
        _sum_close(what, got, want)
    else:
        exact = op.name in _EXACT or op.kind in _EXACT_KINDS
        if op.name == "abs" and operands[0].dtype.kind == "c":
            exact = False       # a hypot
        _ulp_close(what, got, want, max(ulp or 0, 0 if exact else _ULP))


def aligned(op: Op, results: Sequence[Array], due: Sequence[Array]) -> list[Array]:
    """The results, with vectors that are determined up to a factor of magnitude 1 in the phases of
    those that are due: a device whose routines are others than NumPy's may choose others.

    Eigenvectors have such a factor each; so has each pair of singular vectors. Of the vectors that
    ``full_matrices`` adds only the space is determined: those that are due, projected into it.

    >>> from weft.compiler.ops import OPS
    >>> w, v = np.array([1.0, 3.0]), np.array([[0.6, 0.8], [-0.8, 0.6]])
    >>> aligned(OPS["eigh"], [w, v * [-1, 1]], [w, v])[1].tolist()
    [[0.6, 0.8], [-0.8, 0.6]]
    """
    out = list(results)
    same = [g.shape for g in results] == [d.shape for d in due]
    if op.name == "eigh" and len(due) == 2 and same:
        out[1] = results[1] * _phases(results[1], due[1])
    elif op.name == "svd" and len(due) == 3 and same:
        few = due[1].shape[-1]
        by = _phases(results[0][..., :few], due[0][..., :few])
        left = results[0][..., :few] * by
        right = results[2][..., :few, :] * np.conj(np.swapaxes(by, -1, -2))
        rest = _projected(results[0][..., few:], due[0][..., few:])
        below = _projected(_adjoint(results[2][..., few:, :]), _adjoint(due[2][..., few:, :]))
        out[0] = np.concatenate([left, rest], axis=-1)
        out[2] = np.concatenate([right, _adjoint(below)], axis=-2)
    return out


def _phases(got: Array, due: Array) -> Array:
    """For each column, the factor of magnitude 1 that turns it into the one that is due."""
    inner = np.sum(np.conj(got) * due, axis=-2, keepdims=True)
    size = np.abs(inner)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(size > 0, inner / size, 1).astype(got.dtype)


def _projected(got: Array, due: Array) -> Array:
    return np.asarray(got @ (_adjoint(got) @ due))


def _adjoint(x: Array) -> Array:
    return np.conj(np.swapaxes(x, -1, -2))


def flushed(x: Array) -> Array:
    """The array with zeros, of the same signs, where numbers are subnormal.

    >>> flushed(np.array([1e-40, -1e-40, 1.0], np.float32))
    array([ 0., -0.,  1.], dtype=float32)
    """
    if x.dtype.kind == "c":
        out = np.array(x)       # which takes NumPy's scalars too
        out.real, out.imag = flushed(x.real), flushed(x.imag)
        return out
    if x.dtype.kind not in "fV" and str(x.dtype) != "bfloat16":
        return x
    info: Any = ml_dtypes.finfo
    with np.errstate(invalid="ignore"):
        small = np.abs(x) < info(x.dtype).smallest_normal
    return np.asarray(np.where(small, np.copysign(x.dtype.type(0), x), x))


def assert_scaled(what: str, got: Array, want: Array, rtol: float) -> None:
    """Fail unless the arrays agree, floats up to `rtol` of the greatest; for what sums and cancels.
    """
    assert (got.dtype, got.shape) == (want.dtype, want.shape), (
        f"{what}: {got.dtype}{list(got.shape)}, expected {want.dtype}{list(want.shape)}")
    if got.dtype.kind not in "fc":
        np.testing.assert_array_equal(got, want, err_msg=what)
        return
    scale = float(np.max(np.abs(want.astype(np.complex128)), initial=0, where=np.isfinite(want)))
    np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol * scale, err_msg=what)


def _ulp_close(what: str, got: Array, want: Array, ulp: int) -> None:
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want), err_msg=f"{what}: NaN where")
    live = ~np.isnan(want)
    a, b = _ordered(got[live]), _ordered(want[live])
    far = np.abs(a - b) > ulp
    assert not far.any(), (f"{what}: {far.sum()} of {far.size} off by more than {ulp} ULP, such as "
                           f"{got[live][far][:4]} for {want[live][far][:4]}")
    zero = live & (want == 0) & (got == 0)
    np.testing.assert_array_equal(np.signbit(got[zero].astype(np.float64)),
                                  np.signbit(want[zero].astype(np.float64)),
                                  err_msg=f"{what}: sign of zero")


def _ordered(x: Array) -> Array:
    """Floats as integers in the same order, one apart where they are neighbours."""
    bits = np.ascontiguousarray(x).view(f"i{x.dtype.itemsize}").astype(object)
    low = -(1 << (8 * x.dtype.itemsize - 1))
    return np.where(bits < 0, low - bits, bits)


def _sum_close(what: str, got: Array, want: Array) -> None:
    np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64),
                               rtol=_SUM_RTOL[want.dtype.itemsize], err_msg=what,
                               atol=float(np.finfo(np.float32).tiny) if want.dtype.itemsize <= 4
                               else 1e-300)


def _cancelling_close(what: str, got: Array, want: Array,
                      operands: tuple[Array, ...]) -> None:
    a, b, x, y = (v.astype(np.float64) for v in (got, want, *operands))
    scale = np.maximum(np.maximum(np.abs(x), np.abs(y)), 1.0)
    eps = {2: 2.0 ** -7, 4: 2.0 ** -23, 8: 2.0 ** -52}[want.dtype.itemsize]
    with np.errstate(invalid="ignore"):
        near = (np.abs(a - b) <= _ULP * eps * scale) | (a == b) | (np.isnan(a) & np.isnan(b))
    assert near.all(), f"{what}: {got[~near][:4]} for {want[~near][:4]}"


def _greatest_close(what: str, got: Array, want: Array, ulp: int) -> None:
    """Errors count against the greatest element; what is infinite or NaN has to be the same."""
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], want[~finite], err_msg=what)
    scale = np.abs(want[finite]).max(initial=0) * np.finfo(want.dtype).eps
    error = np.abs(got[finite] - want[finite]).max(initial=0)
    assert error <= ulp * scale, f"{what}: off by {error / scale} ULP of the greatest"


def _complex_close(op: Op, what: str, got: Array, want: Array, ulp: int = 0) -> None:
    finite = np.isfinite(want)
    np.testing.assert_array_equal(np.isfinite(got), finite, err_msg=f"{what}: finite where")
    scale = np.abs(want[finite])
    error = np.abs(got[finite] - want[finite])
    rtol = max(_COMPLEX_RTOL[want.dtype], ulp * float(np.finfo(want.dtype).eps))
    tiny = np.finfo(want.dtype).tiny
    assert (error <= rtol * scale + tiny).all(), (
        f"{what}: {got[finite][error > rtol * scale + tiny][:4]} "
        f"for {want[finite][error > rtol * scale + tiny][:4]}")
