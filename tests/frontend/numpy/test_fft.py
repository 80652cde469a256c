"""numpy.fft on tracers is NumPy's own, in value, element type and errors."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from same_as_numpy import Run, against_numpy
from test_linalg import expand

_RNG = np.random.default_rng(12)
ARRAYS: dict[str, Any] = {
    "x": _RNG.normal(size=12),
    "xf": _RNG.normal(size=12).astype("f4"),
    "xi": np.arange(7),
    "xb": np.array([True, False, True]),
    "xh": np.arange(6).astype("f2"),
    "xc": _RNG.normal(size=9) + 1j * _RNG.normal(size=9),
    "xc8": (_RNG.normal(size=9) + 1j * _RNG.normal(size=9)).astype("c8"),
    "xr": _RNG.normal(size=20)[::-2],
    "m": _RNG.normal(size=(4, 6)),
    "mf": _RNG.normal(size=(4, 6)).astype("f4"),
    "mc": _RNG.normal(size=(4, 6)) + 1j,
    "mc8": (_RNG.normal(size=(4, 6)) + 1j).astype("c8"),
    "t": _RNG.normal(size=(3, 4, 5)),
    "tc": _RNG.normal(size=(3, 4, 5)) + 1j,
    "e": np.zeros((0, 4)),
    "e0": np.zeros((4, 0)),
    "z": np.float64(1.5),
    "one": np.array([2.5]),
}
ONE = "x xf xi xb xh xc xc8 xr m mf mc8 t e e0 z one"
TABLE = f"""
np.fft.fft(X) | {ONE}
np.fft.ifft(X) | {ONE}
np.fft.rfft(X) | {ONE}
np.fft.irfft(X) | {ONE}
np.fft.hfft(X) | {ONE}
np.fft.ihfft(X) | {ONE}
np.fft.fft(X, norm='ortho') | x xf xc8 xh mf
np.fft.fft(X, norm='forward') | x xf xc8 xh
np.fft.ifft(X, norm='ortho') | x xf xc8
np.fft.ifft(X, norm='forward') | x xf xc8
np.fft.rfft(X, norm='ortho') | x xf
np.fft.rfft(X, norm='forward') | x xf
np.fft.irfft(X, norm='ortho') | x xc xc8
np.fft.irfft(X, norm='forward') | x xc xc8
np.fft.hfft(X, norm='ortho') | x xc8
np.fft.ihfft(X, norm='forward') | x xf
np.fft.fft(X, 5) | x xf m xc
np.fft.fft(X, n=16) | x xf m xc8
np.fft.rfft(X, n=7, axis=0) | m t xf
np.fft.irfft(X, 7) | xc x mc8
np.fft.irfft(X, 20) | xc8 x
np.fft.irfft(X, n=1) | xc
np.fft.hfft(X, 5, axis=0) | m
np.fft.ihfft(X, n=8, axis=0) | m
np.fft.fft(X, axis=0) | m mf mc8 t
np.fft.ifft(X, axis=1) | t tc
np.fft.fft(X, axis=2) | m
np.fft.fft(X, 0) | x
np.fft.fft(X, norm='odd') | x
np.fft.irfft(X, norm='odd') | x
np.fft.fft(X, norm=None) | x
np.fft.fft2(X) | m mf mc t x
np.fft.ifft2(X) | m mc8
np.fft.rfft2(X) | m mf t mc
np.fft.irfft2(X) | mc m
np.fft.fft2(X, s=(3, 8)) | m t
np.fft.fft2(X, axes=(0, 1)) | t
np.fft.fftn(X) | m t tc x mf e
np.fft.ifftn(X, norm='ortho') | t mf
np.fft.rfftn(X) | t mf
np.fft.rfftn(X, s=(2, 6), axes=(0, 2)) | t
np.fft.irfftn(X) | tc mc8
np.fft.irfftn(X, s=(4, -1), axes=(1, 2), norm='forward') | tc
np.fft.fftn(X, axes=(1,)) | t
np.fft.fftn(X, s=(4, 4), axes=(0,)) | m
np.fft.fftn(X, axes=(0, 0)) | m
np.fft.fftshift(X) | x xi m t
np.fft.ifftshift(X) | x xi m t
np.fft.fftshift(X, axes=1) | m t
np.fft.ifftshift(X, axes=(0, 2)) | t
np.abs(np.fft.rfft(X * np.hanning(12))) ** 2 | x xf
np.fft.irfft(np.fft.rfft(X), 12) | x xf
np.fft.fftfreq(12, 0.5) * X | x
"""


@pytest.mark.parametrize("expression", expand(TABLE))
def test_like_numpy(run: Run, expression: str) -> None:
    names = [n for n in dict.fromkeys(re.findall(r"(?<![\w.'])([a-z]\w*)(?![\w'=])", expression))
             if n in ARRAYS]
    fn = eval(f"lambda {', '.join(names)}: ({expression})", {"np": np})
    against_numpy(run, fn, *(ARRAYS[n] for n in names), signs=False)
