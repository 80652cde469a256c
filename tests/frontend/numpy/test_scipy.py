"""Ufuncs of scipy.special, which reach tracers through NumPy's protocol."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from same_as_numpy import Run

special = pytest.importorskip("scipy.special")

LINE = np.array([-40.0, -30.5, -9.0, -5.0, -2.5, -1.0, -0.5, -0.0, 0.0, 1e-9, 0.25, 0.5, 1.0, 2.5,
                 5.0, 9.0, 30.0, np.inf, -np.inf, np.nan])
ONE = ["erf", "erfc", "expit", "logit", "log_expit", "ndtr", "log_ndtr", "entr", "exp10", "exprel",
       "cosm1", "cbrt", "exp2", "expm1", "log1p"]
TWO = ["xlogy", "xlog1py", "rel_entr", "kl_div", "huber", "pseudo_huber"]


def check(run: Run, fn: Any, *args: Any) -> None:
    with np.errstate(all="ignore"):
        want, got = fn(*args), run(fn, *args)
    assert got.dtype == want.dtype and got.shape == want.shape
    eps = np.finfo(want.dtype).eps
    np.testing.assert_allclose(got, want, rtol=200 * eps, atol=float(np.finfo(want.dtype).tiny) * 2)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4"])
@pytest.mark.parametrize("name", ONE)
def test_one_operand(run: Run, name: str, dtype: str) -> None:
    x = LINE[np.isfinite(LINE)] if dtype == "i4" else LINE
    if dtype == "f4" and name == "exprel":
        x = x[np.abs(x) < 20]
    if dtype == "f4" and name == "cosm1":
        x = x[~np.isinf(x)]
    check(run, getattr(special, name), x.astype(dtype))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("name", TWO)
def test_two_operands(run: Run, name: str, dtype: str) -> None:
    finite = LINE[np.isfinite(LINE)].astype(dtype)
    check(run, getattr(special, name), finite[:, None], np.abs(finite[:9]))


def test_unknown_names_are_refused(run: Run) -> None:
    with pytest.raises(TypeError, match="the ufunc gamma cannot be traced"):
        run(special.gamma, LINE)
