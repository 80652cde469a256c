"""Every NumPy ufunc on every element type, against NumPy itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from same_as_numpy import Run, against_numpy

import weft.frontend.numpy
from weft.frontend.numpy.ufunc_rules import RULES
from weft.frontend.numpy.ufuncs import GUFUNCS
from weft.frontend.table import complete

assert weft.frontend.numpy

DTYPES = ["?", "i1", "u1", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "c16"]
UFUNCS = sorted({getattr(np, n).__name__ for n in dir(np) if isinstance(getattr(np, n), np.ufunc)})
UNARY = [n for n in UFUNCS if getattr(np, n).nin == 1]
complete()      # fills GUFUNCS
BINARY = [n for n in UFUNCS if getattr(np, n).nin == 2 and n not in GUFUNCS]
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -2.5, 3.0, 7.0, np.nan, np.inf, -np.inf]


def sample(dtype: str, shift: int = 0) -> Any:
    """A line of values of this type with its special ones."""
    if dtype == "?":
        return np.roll(np.array([True, False, True, True, False]), shift)
    if dtype[0] in "iu":
        top = np.iinfo(dtype).max
        low = 0 if dtype[0] == "u" else -5
        return np.roll(np.array([0, 1, 2, 3, 7, top, low, 100], dtype), shift)
    values = np.roll(np.array(SPECIAL), shift)
    if dtype[0] == "c":
        return np.array([1 + 2j, -0.5 + 0.25j, 3j, -2.0, 0.75 - 1j], dtype)
    return values.astype(dtype)


def test_every_ufunc_has_a_rule() -> None:
    assert {n for n in UFUNCS if n not in RULES and n not in GUFUNCS} == {"isnat"}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UNARY)
def test_unary(run: Run, name: str, dtype: str) -> None:
    ufunc, x = getattr(np, name), sample(dtype)
    if name == "reciprocal" and dtype[0] in "iu":
        x = x[x != 0]                              # what 1/0 gives is undefined in C
    against_numpy(run, ufunc, x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BINARY)
def test_binary(run: Run, name: str, dtype: str) -> None:
    x, y = sample(dtype), sample(dtype, 3)
    if name == "power" and dtype[0] == "i":
        y = np.abs(y)
    against_numpy(run, getattr(np, name), x, y)
    against_numpy(run, getattr(np, name), x[::-2], y[:1])
    if name == "power" and dtype[0] == "c":
        return
    against_numpy(run, getattr(np, name), x[3], y[1])


@pytest.mark.parametrize("other", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["add", "divide", "less", "maximum", "bitwise_and", "power",
                                  "floor_divide", "left_shift", "logical_or", "arctan2"])
def test_mixed_types(run: Run, name: str, dtype: str, other: str) -> None:
    x, y = sample(dtype)[:4], np.abs(sample(other)[1:5])
    against_numpy(run, getattr(np, name), x, y)


@pytest.mark.parametrize("scalar", [2, -1, 300, 0.5, 1e300, True, 1j, np.float32(2.5),
                                    np.int64(-3), np.array(3, np.int16), np.array(0.5)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("operator", ["x + s", "s - x", "x * s", "x / s", "x // s", "x % s",
                                      "x ** s", "s ** x", "x < s", "s >= x", "x == s", "x != s",
                                      "x & s", "x << s", "divmod(x, s)"])
def test_scalars(run: Run, operator: str, dtype: str, scalar: Any) -> None:
    x = sample(dtype)[1:5]
    if dtype[0] == "c" and "**" in operator and isinstance(scalar, (int, float)) and scalar > 9:
        return                                     # at the edge of the range libraries differ
    if operator != "x ** s" or not isinstance(scalar, np.ndarray):
        against_numpy(run, eval(f"lambda x: {operator}", {"s": scalar}), x)
    if operator != "x ** s":                       # NumPy's shortcuts need the exponent's value
        against_numpy(run, eval(f"lambda x, s: {operator}"), x, scalar)


@pytest.mark.parametrize("expression", [
    "a + b", "a - b", "a * b", "a / b", "a // b", "a % b", "a ** b", "a < b", "a <= b", "a == b",
    "a != b", "divmod(a, b)", "-a", "+a", "abs(a)", "a & b", "a | b", "a ^ b", "a << b", "~a",
    "a.real", "a.imag", "a.conjugate()", "a + 1", "2.5 * a", "1 / a", "True + a", "a + 1j",
    "np.sin(a)", "np.add(a, b)", "np.float32(3) + a", "round(a)", "int(a)", "float(a)"])
@pytest.mark.parametrize("b", [2, 0.5, True])
@pytest.mark.parametrize("a", [3, -1.5, True, 2 - 1j])
def test_python_scalars(run: Run, expression: str, a: Any, b: Any) -> None:
    against_numpy(run, eval(f"lambda a, b: {expression}"), a, b)


@pytest.mark.parametrize("expression", [
    "np.add(x, y, dtype='f4')", "np.add(x, y, dtype=np.float64)", "np.multiply(x, 2, dtype='f2')",
    "np.add(x, y, out=x * 0)", "np.sqrt(x, out=x * 0)", "np.add(x, y, where=x > 0, out=x * 0)",
    "np.modf(x, out=(x * 0, x * 0))", "np.add.reduce(x)", "np.add.reduce(x, axis=1)",
    "np.add.reduce(x, axis=(0, 1), keepdims=True)", "np.add.reduce(x, axis=None)",
    "np.multiply.reduce(x, axis=1, initial=2)", "np.maximum.reduce(x, axis=1)",
    "np.minimum.reduce(x, axis=0, keepdims=True)", "np.logical_and.reduce(x > 0, axis=1)",
    "np.logical_or.reduce(x > 0)", "np.logical_xor.reduce(x > 0, axis=1)",
    "np.bitwise_or.reduce(x.astype(int), axis=1)", "np.bitwise_and.reduce(x.astype(int))",
    "np.bitwise_xor.reduce(x.astype(int), axis=None)", "np.gcd.reduce(x.astype(int), axis=1)",
    "np.logaddexp.reduce(x, axis=1)", "np.hypot.reduce(x)", "np.fmax.reduce(x, axis=1)",
    "np.fmin.reduce(x, axis=(0, 1))", "np.subtract.reduce(x, axis=1)", "np.divide.reduce(x)",
    "np.add.accumulate(x)", "np.multiply.accumulate(x, axis=1)", "np.maximum.accumulate(x, 1)",
    "np.minimum.accumulate(x)", "np.subtract.accumulate(x, axis=1)", "np.add.outer(x, y)",
    "np.subtract.outer(x[0], y[0])", "np.less.outer(x[0], y)", "np.multiply.outer(2.0, y)",
    "np.add.reduce(x, where=x > 0, axis=1)", "np.maximum.reduce(x, where=x > 0, initial=-9.0)",
    "np.add.reduce(x > 0)", "np.subtract.reduce(x, axis=None)", "np.sin.reduce(x)",
    "np.matmul(x, y.T)", "np.vecdot(x, y)", "np.matvec(x, y[0])", "np.vecmat(y[0], x.T)",
    "np.add(x[:, None], y)", "np.add(x, [1, 2, 3, 4])", "np.add(x, [[x[0, 0]]])",
    "np.add(x, y[:, :3])", "np.positive(x > 0)", "np.negative(x > 0)", "(x > 0) - (y > 0)"])
def test_call_forms(run: Run, expression: str) -> None:
    x = np.array([[1.5, -2.0, 3.25, 4.0], [0.5, 6.0, -1.0, 2.0], [8.0, 1.0, 5.0, 0.25]])
    against_numpy(run, eval(f"lambda x, y: {expression}", {"np": np}), x, x[::-1] + 0.5)


@pytest.mark.parametrize("expression", [
    "x + y", "x * 2", "x + 1.5", "x / y", "-x", "abs(x)", "x < y", "np.exp(x)", "np.sqrt(abs(x))",
    "np.maximum(x, y)", "x + y.astype('f4')", "x.astype('f4')", "np.tanh(x)",
    "np.where(x > 0, x, y)", "x.reshape(2, 2).T", "np.isnan(x)", "np.floor(x)", "x ** 2", "x.max()",
    "np.concatenate([x, y])"])
def test_bfloat16(run: Run, expression: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.array([1.5, -2.0, 0.25, 7.0], ml_dtypes.bfloat16)
    against_numpy(run, eval(f"lambda x, y: {expression}", {"np": np}), x, x[::-1])
