"""`weft.grad`, `value_and_grad`, `vjp`, `jvp`, `linearize` on users' functions."""

import collections
import dataclasses
import functools
import threading

import ml_dtypes
import numpy as np
import pytest

import weft

X = np.array([1.0, 2.0, 3.0])
Pair = collections.namedtuple("Pair", "w b")


@dataclasses.dataclass
class Layer:
    w: object
    b: object
    name: str = "layer"


def equal(got, want):
    """Equal containers of equal arrays of equal types."""
    assert type(got) is type(want), (got, want)
    if isinstance(want, dict):
        assert list(got) == list(want)
        got, want = list(got.values()), list(want.values())
    if dataclasses.is_dataclass(want):
        got, want = list(vars(got).values()), list(vars(want).values())
    if isinstance(want, list | tuple):
        assert len(got) == len(want)
        for g, w in zip(got, want):
            equal(g, w)
    elif want is None or isinstance(want, str):
        assert got == want
    else:
        assert got.dtype == want.dtype and got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=1e-6 if got.itemsize >= 4 else 1e-2)


# ---- containers

@pytest.mark.parametrize(("make", "parts"), [
    (lambda w, b: {"w": w, "b": b}, lambda p: (p["w"], p["b"])),
    (lambda w, b: [w, b], lambda p: p),
    (lambda w, b: (w, b), lambda p: p),
    (Pair, lambda p: (p.w, p.b)),
    (Layer, lambda p: (p.w, p.b)),
    (lambda w, b: {"a": [None, (w,)], "z": Pair(b, None)}, lambda p: (p["a"][1][0], p["z"].w)),
    (lambda w, b: {"f": "sin", "w": w, "b": b}, lambda p: (p["w"], p["b"])),
], ids=["dict", "list", "tuple", "namedtuple", "dataclass", "nested", "with a string"])
def test_containers(make, parts):
    """Gradients come in the argument's own container; what is no number stays as it is."""
    def loss(p):
        w, b = parts(p)
        return np.sum(w * w) * b

    equal(weft.grad(loss)(make(X, np.float64(2.0))), make(4 * X, np.float64(14.0)))


def test_unused_leaves_have_zero_gradients():
    equal(weft.grad(lambda p: np.sum(p[0]))((X, X.reshape(3, 1))), (np.ones(3), np.zeros((3, 1))))


# ---- which arguments

def area(width, height, scale=1.0):
    return width * height * scale


W, H, S = (np.float64(v) for v in (6.0, 4.0, 6.0))     # derivatives at width 2, height 3, scale 2


@pytest.mark.parametrize(("argnums", "want"), [
    (0, W), (1, H), (2, S), (-1, S), (-2, H), (-3, W), ("width", W), ("height", H),
    ((0, 1), (W, H)), ([1, "width"], (H, W)), ((0,), (W,)), ((0, 0), (W, W)),
])
def test_argnums(argnums, want):
    """They mean the same however the arguments are given."""
    slope = weft.grad(area, argnums)
    for way in (slope, weft.jit(slope), weft.jit(lambda *a, **k: slope(*a, **k))):
        equal(way(2.0, 3.0, scale=2.0), want)
        equal(way(2.0, 3.0, 2.0), want)


def test_argnums_of_keywords():
    equal(weft.grad(area, "scale")(2.0, 3.0, scale=2.0), np.float64(6.0))
    equal(weft.grad(area, ("scale", 0))(2.0, height=3.0, scale=2.0), (S, W))
    equal(weft.grad(lambda *xs: xs[0] * xs[1], -1)(2.0, 3.0), np.float64(2.0))


def test_default_and_static_arguments():
    def loss(x, how="sin", *, power=2):
        return np.sum(getattr(np, how)(x) ** power)

    np.testing.assert_allclose(weft.grad(loss)(X), 2 * np.sin(X) * np.cos(X))
    np.testing.assert_allclose(weft.grad(loss)(X, "cos"), -2 * np.sin(X) * np.cos(X))
    np.testing.assert_allclose(weft.grad(loss)(X, how="exp", power=1), np.exp(X))
    np.testing.assert_allclose(weft.grad(lambda f, x: np.sum(f(x)), 1)(np.sin, X), np.cos(X))


def test_integers_beside():
    np.testing.assert_allclose(weft.grad(lambda x, n: np.sum(x ** n))(X, 3), 3 * X ** 2)
    np.testing.assert_allclose(weft.grad(lambda x, n: np.sum(x * n))(X, np.arange(3)), [0, 1, 2])
    loops = weft.grad(lambda x, n: functools.reduce(lambda s, _: s * x, range(n), 1.0))
    assert loops(2.0, 3) == 12 and loops(2.0, 4) == 32


# ---- what arguments are

@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16, "float32", "float64"])
def test_element_types(dtype):
    equal(weft.grad(lambda x: np.sum(x * x))(X.astype(dtype)), (2 * X).astype(dtype))


@pytest.mark.parametrize("x", [2.0, np.float32(2), np.float64(2), np.array(2.0)],
                         ids=["float", "float32", "float64", "0-d"])
def test_numbers(x):
    equal(weft.grad(lambda x: x * x)(x), np.asarray(x * 2.0, getattr(x, "dtype", float))[()])


def test_empty():
    equal(weft.grad(lambda x: np.sum(x * x))(np.zeros((0, 3))), np.zeros((0, 3)))


def test_complex():
    """The gradient of a real function is df/dx - i df/dy."""
    equal(weft.grad(lambda z: np.abs(z) ** 2)(1 + 2j), np.complex128(2 - 4j))
    equal(weft.grad(lambda z: np.sum(z.real * z.imag))(np.array([1 + 2j], "c8")),
          np.array([2 - 1j], "c8"))


def test_python_numbers_keep_their_value():
    """Code that branches on a float is specialised to it."""
    slope = weft.grad(lambda x: x * x if x > 0 else -x)
    assert (slope(3.0), slope(-3.0), slope(4.0)) == (6, -1, 8)
    assert weft.grad(lambda x: max(x, 1.0) * 2)(3.0) == 2
    assert weft.grad(lambda x: int(x) * x)(2.5) == 2


def test_strided_and_read_only_arguments():
    x = np.arange(12.0).reshape(3, 4)[::-1, ::2]
    equal(weft.grad(lambda x: np.sum(x * x))(x), 2 * x)
    frozen = X.copy()
    frozen.flags.writeable = False
    equal(weft.grad(lambda x: np.sum(x * x))(frozen), 2 * X)


# ---- values, auxiliary results

def test_value_and_grad():
    equal(weft.value_and_grad(lambda x: np.sum(x * x))(X), (np.float64(14.0), 2 * X))


def test_auxiliary_results():
    def loss(x):
        return np.sum(x * x), {"mean": x.mean(), "name": "loss", "none": None}

    aux = {"mean": np.float64(2.0), "name": "loss", "none": None}
    equal(weft.grad(loss, has_aux=True)(X), (2 * X, aux))
    equal(weft.value_and_grad(loss, has_aux=True)(X), ((np.float64(14.0), aux), 2 * X))
    value, pull, got = weft.vjp(loss, X, has_aux=True)
    equal((value, pull(1.0), got), (np.float64(14.0), (2 * X,), aux))
    equal(weft.jvp(lambda x: (x * x, x + 1), (X,), (X,), has_aux=True), (X * X, 2 * X * X, X + 1))


# ---- closures

def test_outside_arrays_may_change():
    w = np.ones(3)
    slope = weft.grad(lambda x: np.sum(x * x * w))
    equal(slope(X), 2 * X)
    w[:] = 5
    equal(slope(X), 10 * X)


def test_outer_tracers():
    """A function may use what is being traced around it, and be differentiated by that too."""
    def outer(x, y):
        return weft.grad(lambda z: np.sin(z * y) * x)(x)       # x y cos(x y)

    assert outer(0.5, 2.0) == pytest.approx(np.cos(1.0))
    assert weft.jit(outer)(0.5, 2.0) == pytest.approx(np.cos(1.0))
    dx, dy = weft.grad(outer, (0, 1))(0.5, 2.0)
    assert dx == pytest.approx(2 * (np.cos(1) - np.sin(1)))
    assert dy == pytest.approx(0.5 * (np.cos(1) - np.sin(1)))


class Model:
    """Has methods to be differentiated."""

    def __init__(self):
        self.w = np.array([1.0, 2.0, 3.0])
        self.scale = 1.0
        self.runs = []

    def loss(self, x):
        """Linear in x."""
        self.runs.append(1)
        return np.sum(x * self.w) * self.scale

    @functools.partial(weft.grad, argnums="x")
    def slope(self, x):
        """A method that is a gradient."""
        return np.sum(x * self.w) * self.scale

    @weft.jit
    def jitted(self, x):
        """A method that is compiled."""
        return np.sum(x * self.w) * self.scale


def test_methods():
    model = Model()
    for _ in range(3):
        equal(weft.grad(model.loss)(X), np.array([1.0, 2.0, 3.0]))
    assert len(model.runs) == 1                              # compiled once
    equal(model.slope(X), np.array([1.0, 2.0, 3.0]))
    equal(weft.grad(model.jitted)(X), np.array([1.0, 2.0, 3.0]))
    model.w[:] = 1
    model.scale = 2.0
    for gradient in (weft.grad(model.loss), model.slope, weft.grad(model.jitted)):
        equal(gradient(X), np.full(3, 2.0))
    equal(weft.grad(Model().loss)(X), np.array([1.0, 2.0, 3.0]))


def test_callables():
    equal(weft.grad(functools.partial(lambda x, y: x * y, y=3.0))(2.0), np.float64(3.0))
    equal(weft.grad(np.sin)(0.0), np.float64(1.0))
    equal(weft.grad(type("Square", (), {"__call__": lambda self, x: x * x})())(2.0),
          np.float64(4.0))


# ---- compiling

def test_compiles_once():
    runs = []

    def loss(x):
        runs.append(1)
        return np.sum(x * x)

    for k in range(3):
        equal(weft.grad(loss)(X * k), 2 * X * k)
    assert len(runs) == 1
    assert weft.grad(loss) is weft.grad(loss) and weft.vmap(np.sin) is weft.vmap(np.sin)
    assert weft.grad(loss) is not weft.grad(loss, has_aux=True)


def test_vjp_and_linearize_do_not_compute_the_value_again():
    runs = []

    def f(x):
        runs.append(1)
        return np.sin(x)

    for k in range(3):
        value, pull = weft.vjp(f, X + k)
        equal((value, pull(X)), (np.sin(X + k), (X * np.cos(X + k),)))
    assert len(runs) == 1
    for k in range(3):
        value, push = weft.linearize(f, X + k)
        equal((value, push(X), push(2 * X)),
              (np.sin(X + k), X * np.cos(X + k), 2 * X * np.cos(X + k)))
    assert len(runs) == 2


def test_threads():
    """First calls from several threads at once."""
    slope, out = weft.grad(lambda x: np.sum(np.sin(x) * x)), {}

    def work(k):
        out[k] = slope(X + k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for k in range(8):
        x = X + k
        np.testing.assert_allclose(out[k], np.cos(x) * x + np.sin(x))


def test_stages_and_explain():
    """A transformed function shows what becomes of it like a jitted one."""
    def loss(x):
        return np.sum(x * x)

    slope = weft.grad(loss)
    graph = slope.trace(X).optimize()
    assert [r.shape for r in graph.graph.results] == [(3,)]
    assert "fold-constants" in str(graph.history)
    assert "kernel" in slope.lower(X).text("kernels")
    assert slope.compile(X)(X).tolist() == [2, 4, 6]
    assert "loss(x: f64[3])" in str(weft.explain(slope, X))
    assert repr(slope) == "<weft.grad of test_stages_and_explain.<locals>.loss>"
    assert slope.__name__ == "loss" and slope.__wrapped__ is loss


def test_inside_jit_on_both_devices():
    for device in ("cpu", "reference"):
        equal(weft.jit(weft.grad(lambda x: np.sum(np.exp(x))), device=device)(X), np.exp(X))


# ---- forward mode and cotangents

def test_jvp():
    equal(weft.jvp(lambda x, y: x * y, (X, 2.0), (np.ones(3), 1.0)), (2 * X, 2 + X))
    value, tangent = weft.jvp(lambda p: {"y": p["x"] ** 2}, ({"x": X},), ({"x": X},))
    equal((value, tangent), ({"y": X ** 2}, {"y": 2 * X ** 2}))
    equal(weft.jvp(lambda x, n: x * n, (X, 3), (X, 0)), (3 * X, 3 * X))
    equal(weft.jvp(lambda x, f: getattr(np, f)(x), (X, "sin"), (X, "sin")),
          (np.sin(X), X * np.cos(X)))
    assert weft.jvp(np.argmax, (X,), (X,))[1] == 0


def test_vjp():
    value, pull = weft.vjp(lambda p, n: {"y": p["x"] * n, "z": p["w"]}, {"x": X, "w": 2.0}, 3)
    equal(value, {"y": 3 * X, "z": np.float64(2.0)})
    equal(pull({"y": X, "z": 5.0}), ({"x": 3 * X, "w": np.float64(5.0)}, np.int64(0)))


def test_linearize_in_a_trace():
    def twice(x):
        value, push = weft.linearize(np.sin, x)
        return value + push(push(x))

    equal(weft.jit(twice)(X), np.sin(X) + X * np.cos(X) ** 2)
    np.testing.assert_allclose(weft.grad(lambda x: np.sum(twice(x)))(X),
                               np.cos(X) + np.cos(X) ** 2 - X * np.sin(2 * X))
