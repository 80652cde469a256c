"""Discrete Fourier transforms, one axis at a time; those of several axes are composed of them.

    FFT    y[k] = sum over j of x[j] exp(-2 pi i j k / n)           complex to complex
    IFFT   the same with exp(+2 pi i j k / n), divided by n
    RFFT   the first n//2 + 1 elements of the FFT of real numbers
    IRFFT  the n real numbers whose RFFT is x, of n//2 + 1 elements

The factors stand as `norm` says: ``backward`` as above, ``forward`` the other way round, ``ortho``
1/sqrt(n) both ways. `length` is n.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import TYPE_CHECKING, Any

import numpy as np

from weft.compiler.errors import DTypeError, ShapeError
from weft.compiler.ops.registry import Attrs, Op, register
from weft.compiler.ops.views import check_axes
from weft.compiler.types import DTYPES, Dim, TensorType

if TYPE_CHECKING:
    from weft.compiler.build import Builder
    from weft.compiler.ir import Node

__all__: list[str] = []

_TYPES = {"FFT": "fft", "IFFT": "ifft", "RFFT": "rfft", "IRFFT": "irfft"}
_NORMS = {"backward": "forward", "ortho": "ortho", "forward": "backward"}


def _fft(types: tuple[TensorType, ...], attrs: Attrs) -> TensorType:
    (x,), kind, axis, n = types, attrs["fft_type"], attrs["axis"], attrs["length"]
    if kind not in _TYPES or attrs["norm"] not in _NORMS:
        raise ShapeError(f"fft got the type {kind!r} and the norm {attrs['norm']!r}",
                         expected=f"one of {', '.join(_TYPES)}, one of {', '.join(_NORMS)}")
    check_axes("fft", (axis,), x.rank)
    names = ("f32", "f64") if kind == "RFFT" else ("c64", "c128")
    if x.dtype.name not in names:
        raise DTypeError(f"{kind} got {x.dtype}", expected=" or ".join(names))
    half = n if kind in ("FFT", "IFFT") else n // 2 + 1 if isinstance(n, int) else _half(n)
    if x.shape[axis] != (half if kind == "IRFFT" else n):
        raise ShapeError(f"{kind} of length {n} got {x}", expected=f"an axis {axis} of that length")
    out: Dim = half if kind == "RFFT" else n
    dtype = {"RFFT": DTYPES["c64" if x.dtype.name == "f32" else "c128"],
             "IRFFT": x.dtype.real}.get(kind, x.dtype)
    return TensorType((*x.shape[:axis], out, *x.shape[axis + 1:]), dtype)


def _half(n: Any) -> Any:
    """n//2 + 1 of a symbolic size, where it is known to be even."""
    try:
        return n // 2 + 1
    except ValueError:
        raise ShapeError(f"whether the length {n} of a real transform is even is not known",
                         expected="a known length", repair="give n=") from None


def _fft_ref(xp: Any, x: Any, fft_type: str, axis: int, length: int, norm: str) -> Any:
    return xp.asarray(getattr(xp.fft, _TYPES[fft_type])(x, length, axis, norm))


# ---- rules: transforms are linear, and symmetric as matrices

def _transpose(b: Builder, node: Node, cotangent: Any, wanted: Set[int]) -> list[Any]:
    attrs, kind, n = dict(node.attrs), node.attrs["fft_type"], node.attrs["length"]
    if kind in ("FFT", "IFFT"):
        return [b.fft(cotangent, **attrs)]
    return [_rfft_transpose(b, cotangent, attrs, n) if kind == "RFFT"
            else _irfft_transpose(b, cotangent, attrs, n)]


def _rfft_transpose(b: Builder, ct: Node, attrs: dict[str, Any], n: Any) -> Node:
    """The real part of the whole transform of the cotangent, with zeros behind it."""
    axis, rank = attrs["axis"], len(ct.shape)
    high = [0] * rank
    high[axis] = n - ct.shape[axis]
    padded = b.pad(ct, b.scalar(0, ct.dtype), low=(0,) * rank, high=tuple(high))
    return b.real(b.fft(padded, **{**attrs, "fft_type": "FFT"}))


def _irfft_transpose(b: Builder, ct: Node, attrs: dict[str, Any], n: Any) -> Node:
    """The conjugate of the RFFT, twice where an element stands for two of the whole transform."""
    axis = attrs["axis"]
    y = b.conj(b.fft(ct, **{**attrs, "fft_type": "RFFT", "norm": _NORMS[attrs["norm"]]}))
    at = b.iota(shape=y.shape, axis=axis, dtype=DTYPES["i64"])
    once = b.eq(at, b.scalar(0, "i64"))
    half = b.eq(b.add_(at, at), b.scalar(n, "i64") if isinstance(n, int) else b.size(size=n))
    weight = b.select(b.or_(once, half), b.scalar(1, ct.dtype), b.scalar(2, ct.dtype))
    return b.complex(b.mul(b.real(y), weight), b.mul(b.imag(y), weight))


def _batch(b: Builder, node: Node, inputs: Sequence[Node], batched: Sequence[bool]) -> Node:
    return b.fft(inputs[0], **{**node.attrs, "axis": node.attrs["axis"] + 1})


def _samples() -> list[Any]:
    real = np.sin(1.0 + 1.7 * np.arange(1.0, 121.0) ** 1.3)
    out: list[Any] = []
    for shape, axis in (((120,), 0), ((4, 30), 1), ((6, 4, 5), 1), ((1, 7), 1), ((0, 4), 1)):
        x = real[:int(np.prod(shape))].reshape(shape)
        for i, t in enumerate(("f8", "f4")):
            norm, c = list(_NORMS)[(len(out) + i) % 3], "c16" if t == "f8" else "c8"
            attrs = {"axis": axis, "length": shape[axis], "norm": norm}
            full = (x + 1j * np.roll(x, 3)).astype(c)
            cut = [slice(None)] * len(shape)
            cut[axis] = slice(0, shape[axis] // 2 + 1)
            out += [((full,), {"fft_type": k, **attrs}) for k in ("FFT", "IFFT")]
            out += [((x.astype(t),), {"fft_type": "RFFT", **attrs}),
                    ((full[tuple(cut)],), {"fft_type": "IRFFT", **attrs})]
    return out


register(Op("fft", "transform", 1, "the discrete Fourier transform along an axis; of `fft_type` "
            "FFT, IFFT, RFFT or IRFFT", _fft, _fft_ref,
            attrs=("fft_type", "axis", "length", "norm"), cost=25, samples=_samples,
            linear="jointly", transpose=_transpose, batch=_batch))
