"""Transforms of transforms, to third order, in every combination, within and around `weft.jit`."""

import itertools

import numpy as np
import pytest

import weft

X = np.array([0.3, -0.7, 1.2])
H = 1e-5


# Each takes a function from vectors to vectors to another such function, by a transform.

def by_grad(f):
    return weft.grad(lambda x: np.sum(f(x) * np.arange(1.0, 4.0)))


def by_jvp(f):
    return lambda x: weft.jvp(f, (x,), (np.cos(x),))[1]


def by_vjp(f):
    def pulled(x):
        value, pull = weft.vjp(f, x)
        return pull(value * 0.5)[0]
    return pulled


def by_linearize(f):
    def pushed(x):
        value, push = weft.linearize(f, x)
        return push(value)
    return pushed


def by_vmap(f):
    return lambda x: weft.vmap(lambda s: f(x * s))(np.array([1.0, 0.5])).sum(0)


def by_jacobian(f):
    return lambda x: weft.jacobian(f)(x) @ np.ones(3)


def by_jit(f):
    return weft.jit(f)


BY = [by_grad, by_jvp, by_vjp, by_linearize, by_vmap, by_jacobian, by_jit]


def basis(f, x):
    """The Jacobian by central differences."""
    return np.stack([(f(x + H * e) - f(x - H * e)) / (2 * H) for e in np.eye(3)], axis=1)


def plain(transform, f):
    """What the transform means, by finite differences or a loop."""
    return {
        "by_grad": lambda x: np.arange(1.0, 4.0) @ basis(f, x),
        "by_jvp": lambda x: basis(f, x) @ np.cos(x),
        "by_vjp": lambda x: (f(x) * 0.5) @ basis(f, x),
        "by_linearize": lambda x: basis(f, x) @ f(x),
        "by_vmap": lambda x: f(x) + f(x * 0.5),
        "by_jacobian": lambda x: basis(f, x) @ np.ones(3),
        "by_jit": f,
    }[transform.__name__]


def start(x):
    """A function of vectors whose elements depend on each other."""
    return np.sin(x) * x[::-1] + np.exp(-x * np.sum(x * x))


def name(order):
    return "-".join(t.__name__[3:] for t in order)


# Every pair, with a third that differs from pair to pair; the rest are slow.
SOME = [(a, b, BY[(i + j) % len(BY)]) for i, a in enumerate(BY) for j, b in enumerate(BY)]
REST = [order for order in itertools.product(BY, repeat=3) if order not in SOME]


@pytest.mark.parametrize("order", [*SOME, *(pytest.param(o, marks=pytest.mark.slow) for o in REST)],
                         ids=[name(o) for o in (*SOME, *REST)])
def test_third_order(order):
    """One transform on finite differences of the two others' exact result."""
    first, second, third = order
    inner = second(first(start))
    got = third(inner)(X)
    want = plain(third, weft.jit(inner))(X)
    np.testing.assert_allclose(got, want, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("first", BY, ids=[t.__name__[3:] for t in BY])
def test_first_order(first):
    np.testing.assert_allclose(first(start)(X), plain(first, start)(X), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("wrap", [
    lambda d, f: d(d(d(f))), lambda d, f: weft.jit(d(d(d(f)))), lambda d, f: d(weft.jit(d(d(f)))),
    lambda d, f: weft.jit(d(weft.jit(d(weft.jit(d(weft.jit(f))))))),
], ids=["plain", "outside", "inside", "everywhere"])
def test_third_derivative_of_a_number(wrap):
    assert wrap(weft.grad, lambda x: x ** 5)(2.0) == pytest.approx(240)
    assert wrap(weft.grad, np.sin)(0.5) == pytest.approx(-np.cos(0.5))
    x = np.array([0.5, 1.0])
    np.testing.assert_allclose(weft.vmap(wrap(weft.grad, np.exp))(x), np.exp(x))


def test_fourth_derivative():
    f = np.tanh
    for _ in range(4):
        f = weft.grad(f)
    t = np.tanh(0.3)
    assert f(0.3) == pytest.approx(8 * t * (1 - t * t) * (2 - 3 * t * t))


def test_hessian_of_mapped():
    def loss(x):
        return np.sum(weft.vmap(lambda v: np.sin(v) * v)(x))

    want = np.diag(2 * np.cos(X) - X * np.sin(X))
    np.testing.assert_allclose(weft.hessian(loss)(X), want)
    np.testing.assert_allclose(weft.vmap(weft.hessian(loss))(np.stack([X, X])), [want, want])


def test_gradients_for_each_example():
    def loss(w, x, y):
        return np.sum((x @ w - y) ** 2)

    w, x, y = np.ones((3, 2)), np.arange(12.0).reshape(4, 3), np.ones((4, 2))
    got = weft.vmap(weft.grad(loss), (None, 0, 0))(w, x, y)
    want = np.stack([weft.grad(loss)(w, a, b) for a, b in zip(x, y)])
    np.testing.assert_allclose(got, want)
    np.testing.assert_allclose(weft.grad(
        lambda w: np.sum(weft.vmap(loss, (None, 0, 0))(w, x, y)))(w), want.sum(0))


def test_symbolic_sizes():
    """One compilation for all sizes, with the transform inside or outside."""
    runs = []

    def loss(x):
        runs.append(1)
        return np.mean(np.sin(x) * x)

    inside = weft.jit(weft.grad(loss), shapes={"x": ("n",)})
    outside = weft.grad(weft.jit(loss, shapes={"x": ("n",)}))
    for n in (3, 5, 1):
        x = np.linspace(0.1, 1, n)
        want = (np.cos(x) * x + np.sin(x)) / n
        np.testing.assert_allclose(inside(x), want)
        np.testing.assert_allclose(outside(x), want)
    assert len(runs) == 1 + 3
    for n in (2, 4):
        x = np.linspace(0.1, 1, n)
        diagonal = np.diag((2 * np.cos(x) - x * np.sin(x)) / n)
        np.testing.assert_allclose(
            weft.jit(weft.hessian(loss), shapes={"x": ("n",)})(x), diagonal)
        np.testing.assert_allclose(
            weft.jit(weft.vmap(weft.grad(loss)), shapes={"x": ("b", "n")})(np.stack([x, 2 * x])),
            np.stack([weft.grad(loss)(x), weft.grad(loss)(2 * x)]))


class Holder:
    """Has a jitted method, and a method that is a gradient."""

    def __init__(self):
        self.w = np.array([1.0, 2.0, 3.0])

    @weft.jit
    def loss(self, x):
        """Uses an array of the object."""
        return np.sum(self.w * x * x)


def test_transforms_in_closures_beside_arrays():
    """A function that closes over an array runs as a copy; transforms it uses stay transforms."""
    w, holder = np.ones(3), Holder()
    cube = weft.jit(weft.grad(lambda x: np.sum(x ** 3 * w)))
    nested = weft.grad(weft.jit(lambda x: np.sum(cube(x) * w)))
    loss = weft.grad(holder.loss)
    for scale in (1.0, 2.0):
        w[:] = scale
        np.testing.assert_allclose(weft.jit(lambda x: cube(x) * w)(X), 3 * X ** 2 * scale ** 2)
        np.testing.assert_allclose(weft.jit(lambda x: nested(x) * w)(X), 6 * X * scale ** 3)
        np.testing.assert_allclose(weft.jit(lambda x: loss(x) * w)(X), 2 * holder.w * X * scale)
        np.testing.assert_allclose(weft.jit(lambda x: holder.loss(x) * w)(X),
                                   np.sum(holder.w * X * X) * w)
        got = weft.vmap(lambda s: cube(X * s) * w)(np.array([1.0, 0.5]))
        np.testing.assert_allclose(got, [3 * X ** 2 * scale ** 2, 0.75 * X ** 2 * scale ** 2])
