"""`weft.vmap` against Python loops."""

import collections

import numpy as np
import pytest

import weft

X = np.sin(np.arange(24.0)).reshape(2, 3, 4)
Pair = collections.namedtuple("Pair", "w b")


def close(got, want):
    assert got.shape == want.shape and got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)


FUNCTIONS = [
    np.sin, np.sum, np.exp, lambda x: x @ x.T, lambda x: x[0] * x[-1:], np.cumsum, np.transpose,
    lambda x: np.concatenate([x, x * 2]), lambda x: np.where(x > 0, x, 0.0), lambda x: x.mean(0),
    lambda x: np.full(2, 3.0), lambda x: np.max(x, axis=0), lambda x: np.outer(x[0], x[1]),
    lambda x: x.reshape(-1), lambda x: np.pad(x, 1), lambda x: x[::-1, ::2], np.argmax,
    lambda x: np.einsum("ij,ij->", x, x), lambda x: x - x.max(),
    lambda x: np.broadcast_to(x, (2, *x.shape)),
]


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("fn", FUNCTIONS, ids=range(len(FUNCTIONS)))
def test_against_a_loop(fn, axis):
    want = np.stack([np.asarray(fn(np.take(X, k, axis))) for k in range(X.shape[axis])])
    close(weft.vmap(fn, axis)(X), want)
    if want.ndim > 1:
        close(weft.vmap(fn, axis, 1)(X), np.moveaxis(want, 0, 1))
        close(weft.vmap(fn, axis, -1)(X), np.moveaxis(want, 0, -1))


def test_some_arguments_mapped():
    x, w = X[0], X[1, 0]
    close(weft.vmap(np.dot, (0, None))(x, w), x @ w)
    close(weft.vmap(np.dot, (None, 1))(w, x.T), x @ w)
    close(weft.vmap(lambda x, y: x + y, (0, 1))(x, x.T), 2 * x)
    close(weft.vmap(lambda x, *, y: x * y)(x, y=x), x * x)          # keywords: the first axis


def test_containers():
    got = weft.vmap(lambda p: {"s": p.w["x"].sum() + p.b[0][0], "b": p.b})(
        Pair({"x": X, "none": None}, [X[:, 0]]))
    close(got["s"], X.sum((1, 2)) + X[:, 0, 0])
    close(got["b"][0], X[:, 0])
    axes = Pair({"x": 1, "none": None}, None)          # an entry for all that is below it
    got = weft.vmap(lambda p: p.w["x"] * p.b[0], (axes,))(
        Pair({"x": X, "none": None}, [X[0, 0]]))
    close(got, np.stack([X[:, k] * X[0, 0] for k in range(3)]))


def test_out_axes():
    a, b, c = weft.vmap(lambda x: (x, x.T, 3.0), 0, (0, 2, None))(X)
    close(a, X)
    close(b, np.moveaxis(np.swapaxes(X, 1, 2), 0, 2))
    assert c == 3.0


def test_static_arguments():
    close(weft.vmap(lambda x, how: getattr(np, how)(x))(X, "cos"), np.cos(X))
    close(weft.vmap(lambda x, how: getattr(np, how)(x), (1, None))(X, "sum"), X.sum((0, 2)))
    close(weft.vmap(lambda p: getattr(np, p["f"])(p["x"]), ({"f": None, "x": 0},))(
        {"f": "sin", "x": X}), np.sin(X))


def test_numbers_that_are_not_mapped_keep_their_value():
    def power(x, n):
        out = x
        for _ in range(n - 1):
            out = out * x
        return out

    close(weft.vmap(power, (0, None))(X, 3), X * X * X)


def test_nested():
    close(weft.vmap(weft.vmap(lambda x: x * x.sum()))(X), X * X.sum(-1, keepdims=True))
    table = weft.vmap(weft.vmap(np.dot, (None, 0)), (0, None))
    close(table(X[0], X[1]), X[0] @ X[1].T)


def test_elements_of_vectors_are_numbers():
    seen = []

    def f(x):
        seen.append((type(x).__name__, np.ndim(x), isinstance(x, np.float64)))
        return x * 2

    close(weft.vmap(f)(X[0, 0]), 2 * X[0, 0])
    assert seen == [("Tracer", 0, True)]


def test_empty_batch():
    assert weft.vmap(lambda x: x.sum() * x)(np.zeros((0, 3))).shape == (0, 3)


def test_closures_and_outer_tracers():
    w = np.ones(4)
    scaled = weft.vmap(lambda x: x * w)
    close(scaled(X[0]), X[0])
    w[:] = 2
    close(scaled(X[0]), 2 * X[0])
    close(weft.jit(lambda x, y: weft.vmap(lambda r: r * y)(x))(X[0], X[1, 0]), X[0] * X[1, 0])


@pytest.mark.parametrize("dtype", ["float16", "float32", "complex128", "int32", "bool"])
def test_element_types(dtype):
    x = X.astype(dtype)
    got = weft.vmap(lambda v: v.sum(axis=0))(x)
    assert got.dtype == x.sum(axis=1).dtype
    np.testing.assert_allclose(got, x.sum(axis=1), rtol=1e-2 if dtype == "float16" else 1e-5)


def test_symbolic_sizes():
    f = weft.jit(weft.vmap(lambda x: x / np.sqrt((x * x).sum())), shapes={"x": ("n", "k")})
    for shape in ((2, 3), (5, 2), (1, 1)):
        x = np.arange(1.0, 1.0 + shape[0] * shape[1]).reshape(shape)
        close(f(x), x / np.sqrt((x * x).sum(1, keepdims=True)))
    inner = weft.vmap(weft.jit(lambda x: x.mean(), shapes={"x": ("k",)}))
    close(inner(X[0]), X[0].mean(1))
