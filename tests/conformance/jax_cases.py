"""Functions that weft and JAX both differentiate and batch, for `against_jax`.

Each is written once, over a namespace `np`: NumPy itself for weft, `jax.numpy` for JAX. The numbers
of a row are the shapes of its arguments, which are random numbers in the interval named: `any` of
both signs, `positive` in (0.5, 2), `unit` in (-0.9, 0.9). Not here: `float_power`, whose result is
float64 in NumPy and float32 in JAX.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["CASES", "Case"]

Function = Callable[..., Any]


class Case(NamedTuple):
    """One function and its arguments."""

    name: str
    fn: Function
    shapes: tuple[tuple[int, ...], ...]
    values: str = "any"


V, M, S, B = (5,), (3, 4), (4, 4), (2, 3, 4)

CASES: list[Case] = []


def _add(values: str, *rows: tuple[Any, ...]) -> None:
    CASES.extend(Case(name, fn, tuple(shapes), values) for name, fn, *shapes in rows)


def _ufunc(name: str) -> Function:
    return lambda np, *args: getattr(np, name)(*args)


_add("any", *[(n, _ufunc(n), V) for n in (
    "sin", "cos", "tan", "sinh", "cosh", "tanh", "exp", "exp2", "expm1", "arctan", "arcsinh",
    "square", "absolute", "negative", "cbrt", "sinc", "sign", "deg2rad", "rad2deg", "nan_to_num",
    "positive", "fabs")])
_add("positive", *[(n, _ufunc(n), V) for n in (
    "log", "log2", "log10", "log1p", "sqrt", "reciprocal")])
_add("unit", *[(n, _ufunc(n), V) for n in ("arcsin", "arccos", "arctanh")])
_add("any", *[(n, _ufunc(n), V, V) for n in (
    "add", "subtract", "multiply", "maximum", "minimum", "fmax", "fmin", "logaddexp", "logaddexp2",
    "arctan2", "hypot", "copysign")])
_add("positive", *[(n, _ufunc(n), V, V) for n in (
    "divide", "power", "remainder", "fmod")])


# ---- reductions and statistics

_add("any",
     ("sum", lambda np, x: np.sum(x, axis=0), M),
     ("sum of all", lambda np, x: np.sum(x), B),
     ("mean", lambda np, x: np.mean(x, axis=1), M),
     ("var", lambda np, x: np.var(x, axis=-1), M),
     ("std", lambda np, x: np.std(x, axis=0), M),
     ("std, ddof", lambda np, x: np.std(x, ddof=1), V),
     ("max", lambda np, x: np.max(x, axis=1), M),
     ("min", lambda np, x: np.min(x), M),
     ("amax, two axes", lambda np, x: np.max(x, axis=(0, 2), keepdims=True), B),
     ("ptp", lambda np, x: np.ptp(x, axis=0), M),
     ("prod", lambda np, x: np.prod(x, axis=1), M),
     ("prod of all", lambda np, x: np.prod(x), V),
     ("nansum", lambda np, x: np.nansum(x, axis=0), M),
     ("nanmean", lambda np, x: np.nanmean(x), M),
     ("average", lambda np, x, w: np.average(x, axis=0, weights=np.exp(w)), M, (3,)),
     ("cov", lambda np, x: np.cov(x, dtype=x.dtype), M),
     ("corrcoef", lambda np, x: np.corrcoef(x, dtype=x.dtype), M),
     ("median", lambda np, x: np.median(x, axis=1), M),
     ("percentile", lambda np, x: np.percentile(x, 30.0), V),
     ("cumsum", lambda np, x: np.cumsum(x, axis=1), M),
     ("cumprod", lambda np, x: np.cumprod(x), V),
     ("norm", lambda np, x: np.linalg.norm(x), V),
     ("norm, axis", lambda np, x: np.linalg.norm(x, axis=1), M),
     ("norm, fro", lambda np, x: np.linalg.norm(x, "fro"), M),
     ("norm, 1", lambda np, x: np.linalg.norm(x, 1), V),
     ("norm, inf", lambda np, x: np.linalg.norm(x, np.inf), V),
     ("norm, 3", lambda np, x: np.linalg.norm(x, 3), V))


# ---- products

_add("any",
     ("dot", lambda np, x, y: np.dot(x, y), V, V),
     ("matrix @ vector", lambda np, a, x: a @ x, M, (4,)),
     ("matrix @ matrix", lambda np, a, b: a @ b, M, (4, 2)),
     ("batched matmul", lambda np, a, b: np.matmul(a, b), B, (2, 4, 2)),
     ("broadcast matmul", lambda np, a, b: np.matmul(a, b), B, (4, 2)),
     ("inner", lambda np, a, b: np.inner(a, b), M, (2, 4)),
     ("outer", lambda np, x, y: np.outer(x, y), V, (3,)),
     ("vdot", lambda np, x, y: np.vdot(x, y), V, V),
     ("kron", lambda np, a, b: np.kron(a, b), (2, 2), (2, 3)),
     ("cross", lambda np, x, y: np.cross(x, y), (2, 3), (2, 3)),
     ("tensordot", lambda np, a, b: np.tensordot(a, b, axes=((1, 2), (0, 1))), B, (3, 4, 2)),
     ("multi_dot", lambda np, a, b, c: np.linalg.multi_dot([a, b, c]), M, (4, 2), (2, 3)),
     ("einsum ij,jk", lambda np, a, b: np.einsum("ij,jk->ik", a, b), M, (4, 2)),
     ("einsum bij,bkj", lambda np, a, b: np.einsum("bij,bkj->bik", a, b), B, (2, 2, 4)),
     ("einsum ii", lambda np, a: np.einsum("ii->i", a), S),
     ("einsum ij->", lambda np, a: np.einsum("ij->", a), M),
     ("einsum of three", lambda np, a, b, c: np.einsum("ij,jk,k->i", a, b, c), M, (4, 2), (2,)),
     ("trace", lambda np, a: np.trace(a), S),
     ("quadratic form", lambda np, x, a: x @ a @ x, (4,), S),
     ("bilinear", lambda np, x, a, y: np.einsum("i,ij,j", x, a, y), (3,), M, (4,)),
     ("matrix_power", lambda np, a: np.linalg.matrix_power(a, 3), (3, 3)),
     ("convolve", lambda np, x, k: np.convolve(x, k), (6,), (3,)),
     ("correlate, same", lambda np, x, k: np.correlate(x, k, "same"), (6,), (3,)))


# ---- shapes

_add("any",
     ("reshape", lambda np, x: np.reshape(x, (2, 6)) * 2, M),
     ("transpose", lambda np, x: np.transpose(x, (2, 0, 1)) ** 2, B),
     ("swapaxes", lambda np, x: np.sin(np.swapaxes(x, 0, 2)), B),
     ("moveaxis", lambda np, x: np.sin(np.moveaxis(x, 0, -1)), B),
     ("concatenate", lambda np, x, y: np.concatenate([x, y * y, x], axis=1), M, (3, 2)),
     ("stack", lambda np, x, y: np.stack([x, y, x * y], axis=1), V, V),
     ("hstack", lambda np, x, y: np.hstack([x, y]) ** 2, V, (3,)),
     ("vstack", lambda np, x, y: np.vstack([x, y]) ** 2, V, V),
     ("split", lambda np, x: np.split(x, 2, axis=1)[0] * np.split(x, 2, axis=1)[1], M),
     ("tile", lambda np, x: np.sin(np.tile(x, (2, 2))), M),
     ("repeat", lambda np, x: np.sin(np.repeat(x, 3, axis=1)), M),
     ("roll", lambda np, x: x * np.roll(x, 1, axis=0), M),
     ("flip", lambda np, x: x * np.flip(x, axis=1), M),
     ("rot90", lambda np, x: np.rot90(x) ** 3, M),
     ("pad", lambda np, x: np.pad(x, ((1, 2), (0, 1))) ** 2, M),
     ("pad, reflect", lambda np, x: np.pad(x, 2, mode="reflect") ** 2, V),
     ("pad, edge", lambda np, x: np.pad(x, 2, mode="edge") ** 2, V),
     ("pad, wrap", lambda np, x: np.pad(x, 2, mode="wrap") ** 2, V),
     ("expand_dims", lambda np, x: np.expand_dims(x, 1) * x, V),
     ("squeeze", lambda np, x: np.squeeze(x) ** 2, (1, 5, 1)),
     ("broadcast_to", lambda np, x: np.broadcast_to(x, (3, 5)) ** 2, V),
     ("ravel", lambda np, x: np.ravel(x) ** 2, M),
     ("diag of vector", lambda np, x: np.diag(x) ** 2, V),
     ("diag of matrix", lambda np, x: np.diag(x, 1) ** 2, S),
     ("diagonal", lambda np, x: np.diagonal(x, axis1=1, axis2=2) ** 2, B),
     ("tril", lambda np, x: np.tril(x) ** 2, S),
     ("triu", lambda np, x: np.triu(x, 1) ** 2, S),
     ("diff", lambda np, x: np.diff(x, n=2), V),
     ("gradient", lambda np, x: np.gradient(x), V),
     ("trapezoid", lambda np, y: np.trapezoid(y, dx=0.1), V),
     ("ediff1d", lambda np, x: np.ediff1d(x) ** 2, V),
     ("meshgrid", lambda np, x, y: np.meshgrid(x, y)[0] * np.meshgrid(x, y)[1], V, (3,)),
     ("vander", lambda np, x: np.vander(x, 3).astype(x.dtype), V),
     ("polyval", lambda np, p, x: np.polyval(p, x), (4,), V),
     ("interp, points", lambda np, x: np.interp(x, np.arange(-3.0, 4.0), np.arange(7.0) ** 2), V))


# ---- indexing, choosing, sorting

_I = (0, 2, 2, 1)
_add("any",
     ("slice", lambda np, x: x[1:, ::2] ** 2, M),
     ("negative steps", lambda np, x: x[::-1, 3:0:-2] ** 2, M),
     ("integer", lambda np, x: x[1] * x[-1], M),
     ("newaxis", lambda np, x: x[:, None] * x[None, :], V),
     ("integer array", lambda np, x: x[np.array(_I)] ** 2, V),
     ("rows and columns", lambda np, x: x[np.array([0, 1, 1]), np.array([2, 0, 0])] ** 2, M),
     ("rows by array", lambda np, x: x[np.array([2, 0, 2]), 1:] ** 2, M),
     ("take", lambda np, x: np.take(x, np.array(_I), axis=1) ** 2, M),
     ("take_along_axis", lambda np, x: np.take_along_axis(x, np.array([[0], [3], [1]]), 1), M),
     ("where", lambda np, x, y: np.where(x > 0, x * y, np.sin(y)), V, V),
     ("clip", lambda np, x: np.clip(x, -0.5, 0.5), V),
     ("select", lambda np, x: np.select([x < 0, x < 0.5], [x ** 2, np.sin(x)], x), V),
     ("piecewise by where", lambda np, x: np.where(x < 0, np.exp(x), 1 + x + x * x / 2), V),
     ("sort", lambda np, x: np.sort(x, axis=1) * np.arange(4.0, dtype=x.dtype), M),
     ("sort, first axis", lambda np, x: np.sort(x, axis=0)[0] ** 2, M),
     ("x[argsort]", lambda np, x: x[np.argsort(x)][:2] ** 3, V),
     ("top 2", lambda np, x: np.sort(x)[-2:] ** 2, V),
     ("x[argmax]", lambda np, x: x[np.argmax(x)] ** 2, V),
     ("choose", lambda np, x, y: np.choose(np.array([0, 1, 1, 0, 1]), [x, y], mode="clip") ** 2,
      V, V),
     ("cummax by accumulate", lambda np, x: np.maximum.accumulate(x), V))


# ---- what models are made of

def _softmax(np: Any, x: Any) -> Any:
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def _logsumexp(np: Any, x: Any) -> Any:
    m = np.max(x, axis=-1, keepdims=True)
    return np.squeeze(m, -1) + np.log(np.sum(np.exp(x - m), axis=-1))


def _cross_entropy(np: Any, x: Any) -> Any:
    labels = np.array([0, 2, 1])
    return -np.mean((x - _logsumexp(np, x)[:, None])[np.arange(3), labels])


def _layer_norm(np: Any, x: Any, g: Any, b: Any) -> Any:
    c = x - np.mean(x, axis=-1, keepdims=True)
    return g * c / np.sqrt(np.mean(c * c, axis=-1, keepdims=True) + 1e-5) + b


def _gelu(np: Any, x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(0.7978845608028654 * (x + 0.044715 * x ** 3)))


def _attention(np: Any, q: Any, k: Any, v: Any) -> Any:
    return _softmax(np, q @ k.T / 2.0) @ v


def _mlp(np: Any, w1: Any, b1: Any, w2: Any, x: Any) -> Any:
    return np.tanh(x @ w1 + b1) @ w2


def _pairwise(np: Any, x: Any) -> Any:
    d = x[:, None, :] - x[None, :, :]
    return np.sum(d * d, axis=-1)


def _lstm(np: Any, x: Any, h: Any, c: Any, w: Any) -> Any:
    i, f, g, o = np.split(np.concatenate([x, h]) @ w, 4)
    c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
    return np.tanh(c) / (1 + np.exp(-o))


def _rk4(np: Any, y: Any) -> Any:
    def f(y: Any) -> Any:
        return np.stack([y[1], -np.sin(y[0]) - 0.1 * y[1]])
    for _ in range(3):
        k1 = f(y)
        k2 = f(y + 0.05 * k1)
        k3 = f(y + 0.05 * k2)
        k4 = f(y + 0.1 * k3)
        y = y + 0.1 / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return y


def _black_scholes(np: Any, s: Any, k: Any, t: Any) -> Any:
    def cdf(x: Any) -> Any:
        return 1 / (1 + np.exp(-1.702 * x))
    d1 = (np.log(s / k) + (0.03 + 0.02) * t) / (0.2 * np.sqrt(t))
    return s * cdf(d1) - k * np.exp(-0.03 * t) * cdf(d1 - 0.2 * np.sqrt(t))


def _rosenbrock(np: Any, x: Any) -> Any:
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def _heat(np: Any, u: Any) -> Any:
    for _ in range(3):
        u = u + 0.1 * (np.roll(u, 1) - 2 * u + np.roll(u, -1))
    return u


def _lennard_jones(np: Any, x: Any) -> Any:
    n = x.shape[0]
    d2 = _pairwise(np, x) + 10 * np.eye(n, dtype=x.dtype)
    s6 = 1 / d2 ** 3
    return np.sum((s6 * s6 - s6) * (1 - np.eye(n, dtype=x.dtype)))


def _huber(np: Any, x: Any, y: Any) -> Any:
    d = np.abs(x - y)
    return np.mean(np.where(d < 1, 0.5 * d * d, d - 0.5))


def _gaussian_kernel(np: Any, x: Any, y: Any) -> Any:
    return np.exp(-0.5 * np.sum((x[:, None] - y[None]) ** 2, axis=-1))


_add("any",
     ("softmax", _softmax, M),
     ("log-softmax", lambda np, x: x - _logsumexp(np, x)[..., None], M),
     ("logsumexp", _logsumexp, M),
     ("sigmoid", lambda np, x: 1 / (1 + np.exp(-x)), V),
     ("softplus", lambda np, x: np.logaddexp(x, 0.0), V),
     ("relu", lambda np, x: np.maximum(x, 0), V),
     ("leaky relu", lambda np, x: np.where(x > 0, x, 0.1 * x), V),
     ("elu", lambda np, x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), V),
     ("gelu", _gelu, V),
     ("silu", lambda np, x: x / (1 + np.exp(-x)), V),
     ("mish", lambda np, x: x * np.tanh(np.logaddexp(x, 0.0)), V),
     ("layer norm", _layer_norm, M, (4,), (4,)),
     ("rms norm", lambda np, x: x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-5), M),
     ("batch norm", lambda np, x: (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5), M),
     ("cross entropy", _cross_entropy, M),
     ("binary cross entropy", lambda np, x, y: np.mean(np.logaddexp(x, 0.0) - x * y), V, V),
     ("squared error", lambda np, x, y: np.mean((x - y) ** 2), M, M),
     ("huber", _huber, V, V),
     ("hinge", lambda np, x, y: np.mean(np.maximum(0, 1 - x * y)), V, V),
     ("cosine similarity", lambda np, x, y: x @ y / (np.linalg.norm(x) * np.linalg.norm(y)), V, V),
     ("attention", _attention, M, M, M),
     ("mlp", _mlp, (4, 3), (3,), (3, 2), (2, 4)),
     ("lstm cell", _lstm, (3,), (2,), (2,), (5, 8)),
     ("linear regression", lambda np, w, x, y: np.mean((x @ w - y) ** 2), (3,), (5, 3), (5,)),
     ("pairwise distances", _pairwise, (4, 3)),
     ("gaussian kernel", _gaussian_kernel, (3, 2), (4, 2)),
     ("Rosenbrock", _rosenbrock, V),
     ("Runge-Kutta", _rk4, (2,)),
     ("heat equation", _heat, V),
     ("Lennard-Jones", _lennard_jones, (3, 3)),
     ("polynomial", lambda np, x: 1 + x * (2 + x * (3 + x * (4 + 5 * x))), V),
     ("nested powers", lambda np, x: (x ** 2 + 1) ** 1.5 - x ** 3, V),
     ("deep chain", lambda np, x: np.sin(np.cos(np.exp(np.tanh(np.sin(np.cos(x)))))), V),
     ("complex magnitude", lambda np, x, y: np.abs(x + 1j * y), V, V),
     ("real part of a power", lambda np, x, y: np.real((x + 1j * y) ** 3), V, V),
     ("phase", lambda np, x: np.real(np.exp(1j * x) * np.conj(1 + 2j * x)), V))
_add("positive",
     ("entropy", lambda np, p: -np.sum(p / p.sum() * np.log(p / p.sum())), V),
     ("KL divergence", lambda np, p, q: np.sum(p * (np.log(p) - np.log(q))), V, V),
     ("geometric mean", lambda np, x: np.exp(np.mean(np.log(x))), V),
     ("Black-Scholes", _black_scholes, V, V, V),
     ("quotients", lambda np, x, y, z: x / y / (z / x), V, V, V),
     ("power tower", lambda np, x, y: x ** (y ** x), V, V))
