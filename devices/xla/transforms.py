"""Discrete Fourier transforms."""

from __future__ import annotations

from math import sqrt
from typing import Any

from jax import lax

from weft.devices.xla.program import Site
from weft.devices.xla.tools import Lowering, like

__all__ = ["TRANSFORMS"]


def _fft(site: Site, x: Any) -> Any:
    """Along the last axis, to which the axis is moved; XLA's factors are NumPy's `backward`."""
    a = site.attrs
    kind, axis, n = a["fft_type"], a["axis"], a["length"]
    if 0 in x.shape or 0 in site.shape:
        return lax.full(site.shape, 0, site.tensors[0].dtype.numpy)
    order = (*(i for i in range(x.ndim) if i != axis), axis)
    moved = lax.transpose(x, order)
    if kind == "IRFFT" and n == 1:
        out = lax.real(moved)
    else:
        out = lax.fft(moved, getattr(lax.FftType, kind), (n,))
    inverse = kind in ("IFFT", "IRFFT")
    factor = {"backward": 1.0, "ortho": sqrt(n) if inverse else 1 / sqrt(n),
              "forward": float(n) if inverse else 1.0 / n}[a["norm"]]
    if factor != 1.0:
        out = lax.mul(out, like(out, factor))
    return lax.transpose(out, tuple(order.index(i) for i in range(x.ndim)))


TRANSFORMS: dict[str, Lowering] = {"fft": _fft}
