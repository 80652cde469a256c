"""Fourier transforms: `numpy.fft`, each axis as NumPy transforms it, in the same order."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.fft import _pocketfft_umath  # type: ignore[attr-defined]

from weft.compiler.errors import UnsupportedError
from weft.compiler.ir import Node
from weft.compiler.types import Dim, DType, dtype_of
from weft.frontend.numpy.common import Array, as_array, as_dim, axis_of, build, into, lift
from weft.frontend.numpy.promote import common_type
from weft.frontend.problems import dtype_error, problem, shape_error
from weft.frontend.table import implements
from weft.frontend.tracer import Tracer

__all__: list[str] = []

_SWAPPED = {None: "forward", "backward": "forward", "ortho": "ortho", "forward": "backward"}
_UFUNCS: Any = _pocketfft_umath


def _swapped(norm: Any) -> str:
    if norm not in _SWAPPED:
        raise shape_error(f'Invalid norm value {norm}; should be "backward", "ortho" or "forward".')
    return _SWAPPED[norm]


def _transform(a: Array, kind: str, n: Any, axis: Any, norm: Any, out: Any = None) -> Any:
    """One axis: `_raw_fft` of NumPy. `kind` is an `fft_type` of the op."""
    x = lift(a).node
    at = axis_of(axis, len(x.shape))
    direct, swapped = _SWAPPED[_swapped(norm)], _swapped(norm)
    length = _length(x.shape[at], kind) if n is None else as_dim(n)
    if isinstance(length, int) and length < 1:
        raise shape_error(f"Invalid number of FFT data points ({length}) specified.")
    divides = (direct if kind in ("FFT", "RFFT") else swapped) != "backward"
    x = build().convert(_of_size(x, at, _taken(length, kind)),
                        _computed_in(x.dtype, kind, length, divides))
    if divides and lift(a).element.name == "f16" and isinstance(length, int):
        x = build().mul(x, build().scalar(_half_factor(length, direct), x.dtype))
        direct = "backward" if kind in ("FFT", "RFFT") else "forward"
    node = build().fft(x, fft_type=kind, axis=at, length=length, norm=direct)
    real = common_type((lift(a).element.real, float))
    wanted = real if kind == "IRFFT" else common_type((real, complex))
    return into(out, as_array(build().convert(node, wanted)))


def _half_factor(n: int, norm: str) -> np.float16:
    """The factor for float16, which NumPy rounds to that type."""
    size = np.float16(n)
    return np.float16(1) / np.float16(np.sqrt(size) if norm == "ortho" else size)


def _length(d: Dim, kind: str) -> Dim:
    return (d - 1) * 2 if kind == "IRFFT" else d


def _taken(n: Dim, kind: str) -> Dim:
    """How many elements a transform of length n takes."""
    if kind != "IRFFT":
        return n
    try:
        return n // 2 + 1
    except ValueError:
        raise problem(UnsupportedError, f"whether the length {n} of a real transform is even is "
                      "not known", repair="give n=, or a known size") from None


def _of_size(x: Node, axis: int, size: Dim) -> Node:
    """x cut, or with zeros behind it, to so many elements along an axis."""
    b, now, rank = build(), x.shape[axis], len(x.shape)
    if now == size:
        return x
    if not isinstance(now, int) or not isinstance(size, int):
        raise problem(UnsupportedError, f"an axis of size {now} cannot be made one of {size}: "
                      "which is longer is not known", repair="leave n= out")
    if size < now:
        limit = (*x.shape[:axis], size, *x.shape[axis + 1:])
        return b.slice(x, start=(0,) * rank, limit=limit, stride=(1,) * rank)
    high = [0] * rank
    high[axis] = size - now
    return b.pad(x, b.scalar(0, x.dtype), low=(0,) * rank, high=tuple(high))


def _computed_in(dtype: DType, kind: str, n: Dim, divides: bool) -> DType:
    """In which element type NumPy transforms: in double, where single precision is not scaled."""
    name = kind.lower() if kind != "RFFT" else "rfft_n_even"
    factor: Any = common_type((dtype.real, float)).numpy if divides else int
    try:
        found = getattr(_UFUNCS, name).resolve_dtypes((dtype.numpy, factor, None))
    except TypeError as error:
        raise dtype_error(str(error), repair="take the real part first" if dtype.is_complex
                          else "convert the operands with astype") from None
    return dtype_of(found[0])


# ---- one axis

def _one_axis(kind: str) -> Callable[..., Any]:
    def function(a: Array, n: Any = None, axis: Any = -1, norm: Any = None, out: Any = None) -> Any:
        return _transform(a, kind, n, axis, norm, out)
    return function


_FFT = implements(np.fft.fft)(_one_axis("FFT"))
_IFFT = implements(np.fft.ifft)(_one_axis("IFFT"))
_RFFT = implements(np.fft.rfft)(_one_axis("RFFT"))
_IRFFT = implements(np.fft.irfft)(_one_axis("IRFFT"))


@implements(np.fft.hfft)
def _hfft(a: Array, n: Any = None, axis: Any = -1, norm: Any = None, out: Any = None) -> Any:
    return _IRFFT(np.conjugate(lift(a)), n, axis, _swapped(norm), out)


@implements(np.fft.ihfft)
def _ihfft(a: Array, n: Any = None, axis: Any = -1, norm: Any = None, out: Any = None) -> Any:
    return into(out, np.conjugate(_RFFT(a, n, axis, _swapped(norm))))


# ---- several axes

def _axes(x: Tracer, s: Any, axes: Any, inverse_real: bool = False) -> tuple[list[Any], list[int]]:
    """Sizes and axes: `_cook_nd_args` of NumPy."""
    shape = x.node.shape
    given = s is not None
    if axes is None:
        count = len(s) if given else len(shape)
        axes = list(range(-count, 0))
    axes = list(axes)
    sizes = [as_dim(d) for d in s] if given else [shape[axis_of(a, len(shape))] for a in axes]
    if len(sizes) != len(axes):
        raise shape_error("Shape and axes have different lengths.")
    if inverse_real and not given:
        sizes[-1] = (shape[axis_of(axes[-1], len(shape))] - 1) * 2
    return [shape[axis_of(a, len(shape))] if d == -1 else d for d, a in zip(sizes, axes)], axes


def _several(one: Callable[..., Any], axes_: Any) -> Callable[..., Any]:
    def function(a: Array, s: Any = None, axes: Any = axes_, norm: Any = None, out: Any = None
                 ) -> Any:
        x: Any = lift(a)
        sizes, at = _axes(x, s, axes)
        for n, axis in reversed(list(zip(sizes, at))):
            x = one(x, n, axis, norm)
        return into(out, x)
    return function


def _several_real(axes_: Any) -> Callable[..., Any]:
    def function(a: Array, s: Any = None, axes: Any = axes_, norm: Any = None, out: Any = None
                 ) -> Any:
        x: Any = lift(a)
        sizes, at = _axes(x, s, axes)
        x = _RFFT(x, sizes[-1], at[-1], norm)
        for n, axis in reversed(list(zip(sizes[:-1], at[:-1]))):
            x = _FFT(x, n, axis, norm)
        return into(out, x)
    return function


def _several_to_real(axes_: Any) -> Callable[..., Any]:
    def function(a: Array, s: Any = None, axes: Any = axes_, norm: Any = None, out: Any = None
                 ) -> Any:
        x: Any = lift(a)
        sizes, at = _axes(x, s, axes, inverse_real=True)
        for n, axis in zip(sizes[:-1], at[:-1]):
            x = _IFFT(x, n, axis, norm)
        return _IRFFT(x, sizes[-1], at[-1], norm, out)
    return function


implements(np.fft.fftn)(_several(_FFT, None))
implements(np.fft.ifftn)(_several(_IFFT, None))
implements(np.fft.fft2)(_several(_FFT, (-2, -1)))
implements(np.fft.ifft2)(_several(_IFFT, (-2, -1)))
implements(np.fft.rfftn)(_several_real(None))
implements(np.fft.rfft2)(_several_real((-2, -1)))
implements(np.fft.irfftn)(_several_to_real(None))
implements(np.fft.irfft2)(_several_to_real((-2, -1)))


# ---- order of frequencies

def _shift(turns: Callable[[int], int]) -> Callable[..., Any]:
    def function(x: Array, axes: Any = None) -> Any:
        t = lift(x)
        shape: Sequence[Any] = t.node.shape
        at = list(range(len(shape))) if axes is None else \
            [operator.index(axes)] if not isinstance(axes, (tuple, list)) else list(axes)
        return np.roll(t, [turns(shape[a]) for a in at], at)
    return function


implements(np.fft.fftshift)(_shift(lambda n: n // 2))
implements(np.fft.ifftshift)(_shift(lambda n: -(n // 2)))
