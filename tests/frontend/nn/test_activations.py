"""Activations: values and derivatives against their formulas, at large arguments and infinities."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import weft
from weft import nn

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
X = np.concatenate([RNG.normal(size=20) * 3, [0.0, -0.0, 30.0, -30.0, 800.0, -800.0, 1e-9, 3.0,
                                              -3.0, 6.0, 1.0, -1.0]])
_erfc = np.vectorize(math.erfc)
_erf = np.vectorize(math.erf)


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _below(x: Array) -> Array:
    return np.minimum(x, 0)


def _phi(x: Array) -> Array:
    return np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _tanh_gelu(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))


A, S = 1.6732632423543772, 1.0507009873554805
Formula = Callable[[Array], Array]
# name, the formula, and its derivative
TABLE: list[tuple[str, Formula, Formula]] = [
    ("relu", lambda x: np.maximum(x, 0), lambda x: np.where(x > 0, 1.0, 0)),
    ("relu6", lambda x: np.clip(x, 0, 6), lambda x: np.where((x > 0) & (x < 6), 1.0, 0)),
    ("leaky_relu", lambda x: np.where(x > 0, x, 0.01 * x), lambda x: np.where(x > 0, 1, 0.01)),
    ("elu", lambda x: np.where(x > 0, x, np.expm1(_below(x))),
     lambda x: np.where(x > 0, 1, np.exp(_below(x)))),
    ("celu", lambda x: np.where(x > 0, x, np.expm1(_below(x))),
     lambda x: np.where(x > 0, 1, np.exp(_below(x)))),
    ("selu", lambda x: S * np.where(x > 0, x, A * np.expm1(_below(x))),
     lambda x: S * np.where(x > 0, 1, A * np.exp(_below(x)))),
    ("gelu", lambda x: x * 0.5 * _erfc(-x / math.sqrt(2)),
     lambda x: 0.5 * _erfc(-x / math.sqrt(2)) + x * _phi(x)),
    ("sigmoid", _sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x)),
    ("log_sigmoid", lambda x: -_softplus(-x), lambda x: _sigmoid(-x)),
    ("softplus", _softplus, _sigmoid),
    ("silu", lambda x: x * _sigmoid(x),
     lambda x: _sigmoid(x) * (1 + x * _sigmoid(-x))),
    ("mish", lambda x: x * np.tanh(_softplus(x)),
     lambda x: np.tanh(_softplus(x)) + x * (1 - np.tanh(_softplus(x)) ** 2) * _sigmoid(x)),
    ("soft_sign", lambda x: x / (1 + np.abs(x)), lambda x: 1 / (1 + np.abs(x)) ** 2),
    ("hard_sigmoid", lambda x: np.clip(x + 3, 0, 6) / 6,
     lambda x: np.where((x > -3) & (x < 3), 1 / 6, 0)),
    ("hard_silu", lambda x: x * np.clip(x + 3, 0, 6) / 6,
     lambda x: np.clip(x + 3, 0, 6) / 6 + np.where((x > -3) & (x < 3), x / 6, 0)),
    ("hard_tanh", lambda x: np.clip(x, -1, 1), lambda x: np.where(np.abs(x) < 1, 1.0, 0)),
    ("squareplus", lambda x: (x + np.sqrt(x * x + 4)) / 2,
     lambda x: (1 + x / np.sqrt(x * x + 4)) / 2),
]
NAMES = [name for name, _, _ in TABLE]


@pytest.mark.parametrize(("name", "formula", "derivative"), TABLE, ids=NAMES)
def test_values_and_derivatives(name: str, formula: Formula, derivative: Formula) -> None:
    """A few roundings of float64, relative to the largest term."""
    f = getattr(nn, name)
    got, slope = f(X), weft.grad(lambda x: f(x).sum())(X)
    with np.errstate(all="ignore"):
        for out, want in ((got, formula(X)), (slope, derivative(X))):
            assert np.all(np.abs(out - want) <= 1e-13 * np.abs(want) + 4e-16 * (1 + np.abs(X)))


@pytest.mark.parametrize("name", NAMES)
def test_element_types(name: str) -> None:
    """The argument's own, inside a compiled function and outside; NaN stays NaN."""
    f = getattr(nn, name)
    for dtype in (np.float32, np.float16, ml_dtypes.bfloat16):
        x = np.array([0.5, -2.0, np.nan]).astype(dtype)
        out, inside = f(x), weft.jit(lambda x: f(x) * 1)(x)
        assert out.dtype == inside.dtype == dtype
        assert np.isnan(out[2].astype(float)) and not np.isnan(out[:2].astype(float)).any()
        np.testing.assert_array_equal(out.astype(float), inside.astype(float))


@pytest.mark.parametrize(("name", "low", "high"), [
    ("softplus", 0.0, np.inf), ("log_sigmoid", -np.inf, 0.0), ("sigmoid", 0.0, 1.0),
    ("elu", -1.0, np.inf), ("relu", 0.0, np.inf), ("hard_sigmoid", 0.0, 1.0)])
def test_at_infinity(name: str, low: float, high: float) -> None:
    """Values and derivatives at -inf and inf are the limits."""
    f, x = getattr(nn, name), np.array([-np.inf, np.inf])
    np.testing.assert_array_equal(f(x), [low, high])
    slope = weft.grad(lambda x: f(x).sum())(x)
    limits = {"softplus": (0, 1), "log_sigmoid": (1, 0), "elu": (0, 1), "relu": (0, 1)}
    np.testing.assert_array_equal(slope, limits.get(name, (0, 0)))


def test_parameters() -> None:
    x = np.array([-2.0, 3.0])
    np.testing.assert_allclose(nn.leaky_relu(x, 0.2), [-0.4, 3.0])
    np.testing.assert_allclose(nn.elu(x, 2.0), [2 * math.expm1(-2), 3.0])
    np.testing.assert_allclose(nn.celu(x, 2.0), [2 * math.expm1(-1), 3.0])
    for approximate in (True, "tanh"):
        np.testing.assert_allclose(nn.gelu(x, approximate), _tanh_gelu(x), rtol=1e-14)
    assert nn.swish is nn.silu and nn.hard_swish is nn.hard_silu
    np.testing.assert_allclose(nn.glu(np.array([1.0, 2, 0, 800])), [0.5, 2.0])
    np.testing.assert_array_equal(nn.relu(np.array([-1, 2])), [0, 2])
    assert nn.sigmoid(np.array([1, 2])).dtype == np.float64


@pytest.mark.parametrize(("call", "message"), [
    (lambda: nn.glu(np.ones(3)), "glu got 3 elements along axis 0\n  expected: an even number"),
    (lambda: nn.gelu(np.ones(3), "fast"), "gelu got approximate='fast'\n  expected: True, False, "
     '"tanh" or "none"'),
])
def test_errors(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(weft.errors.ShapeError) as error:
        call()
    text = "\n".join(x for x in str(error.value).split("\n") if not x.startswith("  at "))
    assert text == message
