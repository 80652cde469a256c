"""Softmax and normalisations against their formulas, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import weft
from weft import nn

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(1)
X = RNG.normal(size=(3, 6, 4))
W, B = RNG.normal(size=4), RNG.normal(size=4)
W6, B6 = RNG.normal(size=6), RNG.normal(size=6)


def softmax(x: Array, axis: Any = -1) -> Array:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def normal(x: Array, axis: Any, eps: float = 1e-5) -> Array:
    return (x - x.mean(axis=axis, keepdims=True)) / np.sqrt(
        x.var(axis=axis, keepdims=True) + eps)


def beside(v: Array) -> Array:
    return v[:, None]


CASES: list[tuple[str, Callable[[Array], Any], Callable[[Array], Array]]] = [
    ("softmax", nn.softmax, softmax),
    ("softmax-axes", lambda x: nn.softmax(x, (0, 2)), lambda x: softmax(x, (0, 2))),
    ("log_softmax", lambda x: nn.log_softmax(x, 1), lambda x: np.log(softmax(x, 1))),
    ("logsumexp", lambda x: nn.logsumexp(x, (1, 2)), lambda x: np.log(np.exp(x).sum((1, 2)))),
    ("logsumexp-b", lambda x: nn.logsumexp(x, 0, b=np.full((3, 6, 4), 2.0), keepdims=True),
     lambda x: np.log(2 * np.exp(x).sum(0, keepdims=True))),
    ("standardize", nn.standardize, lambda x: normal(x, -1)),
    ("layer_norm", lambda x: nn.layer_norm(x, W, B), lambda x: normal(x, -1) * W + B),
    ("layer_norm-2", lambda x: nn.layer_norm(x, axis=(1, 2), eps=1e-3),
     lambda x: normal(x, (1, 2), 1e-3)),
    ("rms_norm", lambda x: nn.rms_norm(x, W, eps=1e-6),
     lambda x: x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * W),
    ("group_norm", lambda x: nn.group_norm(x, 2, W6, B6), lambda x: normal(
        x.reshape(3, 2, 3, 4), (2, 3)).reshape(3, 6, 4) * beside(W6) + beside(B6)),
    ("group_norm-last", lambda x: nn.group_norm(x, 2, W, axis=-1), lambda x: normal(
        x.reshape(3, 6, 2, 2), (1, 3)).reshape(3, 6, 4) * W),
    ("instance_norm", lambda x: nn.instance_norm(x, W6, B6),
     lambda x: normal(x, 2) * beside(W6) + beside(B6)),
    ("batch_norm", lambda x: nn.batch_norm(x, B6, W6 ** 2, W6, B6),
     lambda x: (x - beside(B6)) / np.sqrt(beside(W6) ** 2 + 1e-5) * beside(W6) + beside(B6)),
    ("batch_norm-train", lambda x: nn.batch_norm(x, W, W ** 2, W, B, True, axis=-1)[0],
     lambda x: normal(x, (0, 1)) * W + B),
]


@pytest.mark.parametrize(("f", "formula"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_values_and_derivatives(f: Callable[[Array], Any], formula: Callable[[Array], Array]
                                ) -> None:
    """Values within roundings; derivatives along a direction as central differences have them."""
    np.testing.assert_allclose(f(X), formula(X), rtol=1e-12, atol=1e-13)
    out = f(X.astype(np.float32))
    np.testing.assert_allclose(out, formula(X), rtol=1e-4, atol=1e-5)
    weights, t, h = RNG.normal(size=formula(X).shape), RNG.normal(size=X.shape), 1e-6
    slope = (weft.grad(lambda x: (f(x) * weights).sum())(X) * t).sum()
    want = ((formula(X + h * t) - formula(X - h * t)) * weights).sum() / (2 * h)
    np.testing.assert_allclose(slope, want, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("f", [nn.softmax, nn.log_softmax, nn.logsumexp, nn.layer_norm])
def test_element_types(f: Callable[[Array], Any]) -> None:
    for dtype in (np.float32, np.float16):
        assert f(X.astype(dtype)).dtype == dtype


def test_extremes() -> None:
    """Nothing overflows, also in derivatives; -inf is no part, and a slice of it has the sum 0."""
    x = np.array([1e4, -1e4, -np.inf, 1e4])
    np.testing.assert_array_equal(nn.softmax(x), [0.5, 0, 0, 0.5])
    slope = weft.grad(lambda x: nn.softmax(x)[0])(x)
    np.testing.assert_array_equal(slope, [0.25, 0, 0, -0.25])
    np.testing.assert_array_equal(nn.log_softmax(x)[1:3], [-2e4 - np.log(2), -np.inf])
    np.testing.assert_array_equal(weft.grad(nn.logsumexp)(x), [0.5, 0, 0, 0.5])
    assert nn.logsumexp(np.full(3, -np.inf)) == -np.inf
    assert nn.logsumexp(np.array([np.inf, 1.0])) == np.inf
    assert np.isnan(nn.logsumexp(np.array([np.nan, 1.0])))
    assert nn.logsumexp(np.zeros(0)) == -np.inf


def test_where() -> None:
    keep = np.array([[True, False, True], [False, False, False]])
    x = np.array([[1.0, 50.0, 1.0], [1.0, 2.0, 3.0]])
    np.testing.assert_array_equal(nn.softmax(x, -1, keep), [[0.5, 0, 0.5], [0, 0, 0]])


def test_running_statistics() -> None:
    """Moved by the momentum; the variance is the unbiased one."""
    x = X.transpose(0, 2, 1)
    _, mean, var = nn.batch_norm(x, W, W ** 2, training=True, momentum=0.25)
    np.testing.assert_allclose(mean, 0.75 * W + 0.25 * x.mean((0, 2)))
    np.testing.assert_allclose(var, 0.75 * W ** 2 + 0.25 * x.var((0, 2), ddof=1))


def test_errors() -> None:
    with pytest.raises(weft.errors.ShapeError) as error:
        nn.group_norm(X, 4)
    assert "group_norm got 6 channel(s) for 4 groups" in str(error.value)
    assert "expected: a multiple of the number of groups" in str(error.value)


def test_one_kernel() -> None:
    """Softmax and layer_norm read their argument from memory once, in one kernel."""
    x = X.reshape(18, 4)
    for f in (lambda x: nn.softmax(x), lambda x: nn.layer_norm(x, W, B)):
        assert len(weft.jit(f).lower(x).kernels) == 1
